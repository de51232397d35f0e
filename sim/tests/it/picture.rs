//! The page of a run, in a real browser if there is one: it loads, draws, and answers.
//!
//! The pages stay in the target directory (`tmp`), to be looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toys::author::{Authors, Bug};
use quorate_sim::many::prepare;
use quorate_sim::picture::{Caption, html};
use quorate_sim::trace::What;
use quorate_sim::{Outcome, Plan, SimTime};

/// A run with states; of the first one with `bug` that fails, if it can.
fn run(nodes: usize, bug: Bug, writes: u64, active: SimTime) -> Outcome {
    let scenario = move |_: u64| {
        let mut authors = Authors::new(nodes, bug);
        authors.writes = writes;
        (authors, Plan::new(active))
    };
    let kept = |seed| {
        let mut sim = prepare(&scenario, seed, true);
        sim.keep_states();
        sim.finish()
    };
    (0..100).map(kept).find(|outcome| bug == Bug::None || outcome.result.is_err()).expect("a run")
}

fn caption() -> Caption {
    Caption {
        scenario: "authors".to_owned(),
        about: "Authors number their entries and flood them.".to_owned(),
        replay: "cargo test -p quorate-sim --test picture".to_owned(),
        names: vec!["anna".to_owned(), "bo & <co>".to_owned(), "ćelo".to_owned()],
    }
}

const HOSTILE: &str =
    "</script><script>window.hacked = 1</script><!-- \u{2028} \"\\ ünïcödé 🦀 <b>";

/// A run of ten events, with texts that would break a careless page.
fn ten_events() -> Outcome {
    let mut outcome = run(3, Bug::None, 3, SimTime::secs(1));
    let trace = outcome.trace.as_mut().expect("recorded");
    let sends = trace.iter().position(|event| event.what == What::Send).expect("a message");
    drop(trace.drain(..sends));
    trace.truncate(10);
    trace.iter_mut().step_by(3).for_each(|event| HOSTILE.clone_into(&mut event.detail));
    outcome
}

#[test]
fn no_text_leaves_its_place() {
    let mut caption = caption();
    caption.about = HOSTILE.to_owned();
    caption.scenario = HOSTILE.to_owned();
    let page = html(&ten_events(), &caption);
    assert_eq!(page.matches("</script>").count(), 2, "the page's own");
    assert_eq!(page.matches("</title>").count(), 1);
    assert!(!page.contains("<script>window.hacked"));
    let begin = page.find("id=\"run\">").expect("the run") + "id=\"run\">".len();
    let end = begin + page[begin..].find("</script>").expect("its end");
    let run: serde_json::Value = serde_json::from_str(&page[begin..end]).expect("JSON");
    assert_eq!(run["about"], HOSTILE);
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
}

#[test]
fn a_failing_run_says_where() {
    let outcome = run(3, Bug::SendBeforeDurable, 200, SimTime::secs(10));
    let failure = outcome.result.as_ref().expect_err("it fails");
    let trace = outcome.trace.as_deref().expect("recorded");
    let failed = quorate_sim::picture::failing_event(trace, failure).expect("an event");
    assert_eq!((trace[failed].node, trace[failed].time), (failure.node, failure.time));
    assert!(trace[failed].what.begins_step(), "{}", trace[failed]);
}

/// What is done to a page, as a person would: hover, search, choose, filter. Every answer must be
/// `true`; the first that is not is what the page says.
const VISIT: &str = include_str!("toys/visit.js");

fn visited_by(page: &str) -> String {
    page.replace("</body>", &format!("<script>{VISIT}</script></body>"))
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let named = std::env::var_os("QUORATE_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH")?;
    named.or_else(|| {
        std::env::split_paths(&path)
            .flat_map(|folder| names.map(|name| folder.join(name)))
            .find(|program| program.is_file())
    })
}

fn visit(browser: &Path, name: &str, outcome: &Outcome) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (page, visited) = (folder.join(name), folder.join(format!("visited-{name}")));
    let text = html(outcome, &caption());
    assert!(text.len() < 30 << 20, "{name} has {} bytes", text.len());
    std::fs::write(&page, &text).expect("written");
    std::fs::write(&visited, visited_by(&text)).expect("written");
    let profile = folder.join(format!("profile-{name}"));
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--window-size=1400,900", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", visited.display()))
        .output()
        .expect("the browser starts");
    let (dom, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let root = dom.lines().find(|line| line.contains("<html")).unwrap_or_default();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(told.is_empty(), "{name}: {told:#?}");
    assert!(!root.contains("data-error"), "{name}: {root}");
    assert!(root.contains("data-visit=\"all well\""), "{name}: {root}\n{log}");
}

#[test]
fn pages_work_in_a_browser() {
    let Some(browser) = browser() else {
        println!("SKIPPED: no browser in the path (set QUORATE_BROWSER to one)");
        return;
    };
    visit(&browser, "ten.html", &ten_events());
    visit(&browser, "failing.html", &run(3, Bug::SendBeforeDurable, 200, SimTime::secs(10)));
    let mut long = run(7, Bug::None, 400, SimTime::secs(120));
    let trace = long.trace.as_mut().expect("recorded");
    assert!(trace.len() >= 100_000, "{} events", trace.len());
    trace.truncate(100_000);
    visit(&browser, "long.html", &long);
}

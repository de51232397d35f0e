//! `quorate sim run`: many seeds.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use quorate_scenarios::{Named, catalogue};
use quorate_sim::{Options, Report};
use serde_json::{Value, json};

use super::shrink::spinner;
use super::{NAME_WIDTH, print, replay_command, scenario, shrink_command};
use crate::control::protocol::{Code, Failure};

/// Seeds are run in batches that take about this long: so often progress is told.
const BATCH: Duration = Duration::from_millis(250);
/// And of no more seeds than this.
const BATCH_SEEDS: u64 = 100_000;

/// Which seeds to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Only these scenarios (repeatable); all if none is named
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// How many seeds of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Run this one seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run seeds for so long instead, such as 60s, 5m or 2h, all scenarios in turn
    #[arg(long, conflicts_with_all = ["seeds", "seed"], value_parser = duration)]
    time: Option<Duration>,
    /// The first seed
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// How many threads; as many as there are cores if not given
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    jobs: u16,
}

/// A number and a unit of time.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a number and a unit: 60s, 5m, 2h".to_owned()),
    };
    let number = number.parse::<u64>().ok();
    match number.and_then(|number| number.checked_mul(unit_s)) {
        Some(0) => Err("in no time nothing is run".to_owned()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err("not that long".to_owned()),
    }
}

/// The seeds of one scenario, as far as they are run.
struct Course {
    scenario: &'static Named,
    left: Range<u64>,
    report: Report,
    spent: Duration,
    options: Options,
}

impl Course {
    /// Whether there is nothing left to run, or enough has failed.
    fn over(&self) -> bool {
        self.left.is_empty() || self.report.failures.len() >= self.options.failures_max
    }

    fn rate(&self) -> f64 {
        self.report.seeds as f64 / self.spent.as_secs_f64().max(1e-9)
    }

    /// Runs some more seeds.
    fn batch(&mut self) {
        let guess = if self.report.seeds == 0 { 0.0 } else { self.rate() * BATCH.as_secs_f64() };
        // A few for each thread at least, or most would wait for the last.
        let count = (guess as u64).clamp(16, BATCH_SEEDS).min(self.left.end - self.left.start);
        let seeds = self.left.start..self.left.start + count;
        self.left.start = seeds.end;
        let failures_max = self.options.failures_max - self.report.failures.len();
        let begun = Instant::now();
        let options = Options { failures_max, ..self.options };
        self.report.join(self.scenario.trial.many(seeds, options, &|| ()));
        self.spent += begun.elapsed();
    }

    fn progress(&self, bar: &ProgressBar) {
        let Report { seeds, failures, faults, marks, .. } = &self.report;
        let faults: u64 = faults.values().sum();
        bar.set_message(format!(
            "{}: {seeds} seeds, {:.0} a second, {faults} faults, {} marks reached, {} failed",
            self.scenario.name,
            self.rate(),
            marks.len(),
            failures.len()
        ));
        bar.tick();
    }
}

pub(super) fn run(args: &RunArgs, as_json: bool) -> Result<(), Failure> {
    let named: Vec<&'static Named> = if args.scenarios.is_empty() {
        catalogue().collect()
    } else {
        args.scenarios.iter().map(|name| scenario(name)).collect::<Result<_, _>>()?
    };
    let left = seeds(args)?;
    let options = Options { threads: usize::from(args.jobs), ..Options::default() };
    let course = |scenario| {
        let (left, report) = (left.clone(), Report::default());
        Course { scenario, left, report, spent: Duration::ZERO, options }
    };
    let mut courses: Vec<Course> = named.into_iter().map(course).collect();
    let (bar, stop) = (spinner(), interrupted());
    let begun = Instant::now();
    if let Some(time) = args.time {
        let over = || begun.elapsed() >= time || stop.load(Ordering::Relaxed);
        while !over() && courses.iter().any(|course| !course.over()) {
            for course in courses.iter_mut().filter(|course| !course.over()) {
                if !over() {
                    course.batch();
                    course.progress(&bar);
                }
            }
        }
    }
    for course in &mut courses {
        while args.time.is_none() && !course.over() && !stop.load(Ordering::Relaxed) {
            course.batch();
            course.progress(&bar);
        }
        bar.suspend(|| {
            let (scenario, report, rate) = (course.scenario, &course.report, course.rate());
            if as_json {
                print(&as_value(scenario, report, rate).to_string())
            } else {
                tell(scenario, report, rate)
            }
        })?;
    }
    bar.finish_and_clear();
    let failed = |course: &Course| course.report.failures.len() + course.report.unstable.len();
    match courses.iter().map(failed).sum::<usize>() {
        0 if stop.load(Ordering::Relaxed) => {
            let text = "interrupted: none of the seeds that were run failed";
            Err(Failure::new(Code::Failed, text))
        }
        0 => Ok(()),
        failed => Err(Failure::new(Code::Failed, format!("{failed} of the seeds failed"))),
    }
}

/// Becomes true with the first Ctrl-C: what was run by then is told. The second ends the process, as
/// the first would have.
fn interrupted() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if told.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    });
    stop
}

fn seeds(args: &RunArgs) -> Result<Range<u64>, Failure> {
    let seeds = match (args.seed, args.time) {
        (Some(seed), _) => (seed, seed.checked_add(1)),
        (None, Some(_)) => (args.from, Some(u64::MAX)),
        (None, None) => (args.from, args.from.checked_add(args.seeds)),
    };
    // The last number is kept free: whoever counts to it must be able to stop.
    match seeds {
        (first, Some(end)) => Ok(first..end),
        (_, None) => {
            let text = "seeds end at 18446744073709551614: begin lower, or run fewer";
            Err(Failure::new(Code::Usage, text.to_owned()))
        }
    }
}

fn tell(scenario: &Named, report: &Report, rate: f64) -> Result<(), Failure> {
    let name = scenario.name;
    let faults: u64 = report.faults.values().sum();
    let missed = report.unreached(scenario.marks);
    if report.seeds == 0 {
        return print(&format!("{name:<NAME_WIDTH$} not run"));
    }
    let verdict = if report.ok() { "ok" } else { "FAILED" };
    print(&format!(
        "{name:<NAME_WIDTH$} {verdict:<7} {} seeds, {rate:.0} a second, {} s simulated, {} steps, \
         {faults} faults, {} marks reached",
        report.seeds,
        report.simulated_us / 1_000_000,
        report.steps,
        report.marks.len()
    ))?;
    if !missed.is_empty() {
        print(&format!("  not reached by these seeds: {}", missed.join(", ")))?;
    }
    for (reason, seeds) in &report.excused {
        print(&format!("  {seeds} seeds did not converge and are excused: {reason}"))?;
    }
    for outcome in &report.failures {
        if let Err(failure) = &outcome.result {
            print(&format!("  seed {}: {failure}", outcome.seed))?;
            print(&format!("    {}", replay_command(name, outcome.seed)))?;
            print(&format!("    {}", shrink_command(name, outcome.seed)))?;
        }
    }
    for (seed, difference) in &report.unstable {
        print(&format!("  seed {seed} ran differently twice: {difference}"))?;
    }
    Ok(())
}

fn as_value(scenario: &Named, report: &Report, rate: f64) -> Value {
    let failures: Vec<Value> = report
        .failures
        .iter()
        .filter_map(|outcome| {
            let failure = outcome.result.as_ref().err()?;
            let replay = replay_command(scenario.name, outcome.seed);
            let shrink = shrink_command(scenario.name, outcome.seed);
            Some(json!({
                "seed": outcome.seed, "failure": failure.to_string(), "replay": replay,
                "shrink": shrink,
            }))
        })
        .collect();
    let marks: Value = report
        .marks
        .iter()
        .map(|(name, reached)| {
            ((*name).to_owned(), json!({ "times": reached.times, "seeds": reached.seeds }))
        })
        .collect::<serde_json::Map<String, Value>>()
        .into();
    json!({
        "scenario": scenario.name, "system": scenario.system, "seeds": report.seeds,
        "seeds_per_second": rate,
        "simulated_s": report.simulated_us / 1_000_000, "steps": report.steps,
        "delivered": report.delivered, "dropped": report.dropped, "faults": report.faults,
        "excused": report.excused,
        "marks": marks, "not_reached": report.unreached(scenario.marks), "failures": failures,
        "unstable": report.unstable.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "60", "s", "0s", "1.5m", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn batches_come_to_the_same_as_one_run() {
        let scenario = scenario("offline_write").unwrap();
        let options = Options { threads: 2, ..Options::default() };
        let (left, report) = (0..40, Report::default());
        let mut course = Course { scenario, left, report, spent: Duration::ZERO, options };
        while !course.over() {
            course.batch();
        }
        assert_eq!(course.report, scenario.trial.many(0..40, options, &|| ()));
    }
}

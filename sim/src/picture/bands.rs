//! How long things held: faults that last, and nodes that were down.
//!
//! A fault begins at its event and ends at the event that undoes it, when it is healed, or when its
//! time is over; a pause also when its node dies. A node is down from its crash to its start.

use serde::Serialize;

use crate::recording::About;
use crate::schedule::Fault;
use crate::trace::{TraceEvent, What};

/// Something that held for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Band {
    /// Its name, by which it is drawn.
    pub(super) name: &'static str,
    /// What there is to say of it.
    pub(super) text: String,
    /// The nodes it holds at; two sides for what holds between nodes.
    pub(super) sides: Vec<Vec<usize>>,
    /// From this event's place to that one's, among those that are shown.
    pub(super) from: usize,
    pub(super) to: usize,
    /// The same as times, in microseconds.
    pub(super) from_us: u64,
    pub(super) to_us: u64,
}

/// A band that has not ended yet.
struct Open {
    /// `None` for a node that is down.
    fault: Option<Fault>,
    lanes: Vec<(usize, usize)>,
    band: Band,
}

/// What held during `events`, with places counted from `skipped`; what ended before is left out.
pub(super) fn bands(events: &[TraceEvent], skipped: usize) -> Vec<Band> {
    let nodes = events.iter().filter_map(|event| event.node).max().map_or(0, |node| node + 1);
    let mut running = vec![false; nodes];
    let (mut open, mut ended): (Vec<Open>, Vec<Band>) = (Vec::new(), Vec::new());
    for (place, event) in events.iter().enumerate() {
        let now = event.time.0;
        let mut end = |open: &mut Vec<Open>, over: &dyn Fn(&Open) -> bool| {
            for mut over in open.extract_if(.., |open| over(open)) {
                over.band.to = over.band.to.min(place);
                over.band.to_us = over.band.to_us.min(now);
                ended.push(over.band);
            }
        };
        end(&mut open, &|open| open.band.to_us <= now);
        match (event.what, event.node, &event.about) {
            (What::Start, Some(node), _) => {
                running[node] = true;
                end(&mut open, &|open| open.is_down(node));
            }
            (What::Crash, Some(node), _) => {
                running[node] = false;
                end(&mut open, &|open| open.is_pause_of(node));
                open.push(down(node, &event.detail, place, now));
            }
            (What::Fault, _, About::Fault(fault)) => match **fault {
                Fault::Heal => {
                    open.iter_mut().for_each(|open| open.healed(None));
                    end(&mut open, &Open::is_over);
                }
                Fault::Pause { node, .. } if !running[node] => {}
                _ => open.extend(begin(fault, place, now)),
            },
            (What::Undo, _, About::Fault(fault)) => {
                let undone = open.iter().position(|open| open.fault.as_ref() == Some(&**fault));
                if let Some(undone) = undone {
                    open[undone].band.to_us = now;
                }
                end(&mut open, &|open| open.band.to_us <= now);
            }
            (What::Heal, _, About::Nodes(healed)) => {
                open.iter_mut().for_each(|open| open.healed(Some(healed)));
                end(&mut open, &Open::is_over);
            }
            _ => {}
        }
    }
    let (last, now) = (events.len(), events.last().map_or(0, |event| event.time.0));
    ended.extend(open.into_iter().map(|open| Band {
        to: last,
        to_us: now.min(open.band.to_us),
        ..open.band
    }));
    ended.retain(|band| band.to > skipped || skipped == 0);
    for band in &mut ended {
        band.from = band.from.saturating_sub(skipped);
        band.to -= skipped;
    }
    ended.sort_by_key(|band| (band.from, band.to));
    ended
}

impl Open {
    fn is_down(&self, node: usize) -> bool {
        self.fault.is_none() && self.band.sides == [vec![node]]
    }

    fn is_pause_of(&self, node: usize) -> bool {
        self.fault
            .as_ref()
            .is_some_and(|fault| matches!(fault, Fault::Pause { node: n, .. } if *n == node))
    }

    fn is_over(&self) -> bool {
        self.band.to_us == 0
    }

    /// `nodes` (all, if `None`, but then their clocks stay as they are) are healed.
    fn healed(&mut self, nodes: Option<&[usize]>) {
        let among = |node: &usize| nodes.is_none_or(|nodes| nodes.contains(node));
        let over = match &self.fault {
            None => false,
            Some(Fault::Drift { .. }) if nodes.is_none() => false,
            Some(Fault::Cut { .. } | Fault::SlowLink { .. } | Fault::Clog { .. }) => {
                self.lanes.retain(|(from, to)| !among(from) || !among(to));
                self.lanes.is_empty()
            }
            Some(_) => self.band.sides.iter().flatten().all(among),
        };
        if over {
            self.band.to_us = 0;
        } else if nodes.is_some() {
            // Outside the core what holds goes on.
            self.band.to_us = u64::MAX;
        }
    }
}

fn down(node: usize, detail: &str, place: usize, now: u64) -> Open {
    let text = format!("down; {detail}");
    let band = Band {
        name: "down",
        text,
        sides: vec![vec![node]],
        from: place,
        to: usize::MAX,
        from_us: now,
        to_us: u64::MAX,
    };
    Open { fault: None, lanes: Vec::new(), band }
}

/// A fault that lasts begins; the others have no band.
fn begin(fault: &Fault, place: usize, now: u64) -> Option<Open> {
    let mut lanes = Vec::new();
    let (text, sides, lasts_us) = match fault {
        Fault::Cut { lanes: cut, lasts_us, .. } => {
            lanes.clone_from(cut);
            (route(cut), sides(cut).to_vec(), *lasts_us)
        }
        Fault::SlowLink { lanes: slow, factor, lasts_us } => {
            lanes.clone_from(slow);
            (format!("{}  {factor} times slower", route(slow)), sides(slow).to_vec(), *lasts_us)
        }
        Fault::Pause { node, lasts_us }
        | Fault::FullDisk { node, lasts_us }
        | Fault::LyingSync { node, lasts_us } => (String::new(), vec![vec![*node]], *lasts_us),
        Fault::Clog { lanes: clogged, lasts_us } => {
            lanes.clone_from(clogged);
            (route(clogged), sides(clogged).to_vec(), *lasts_us)
        }
        Fault::WallWave { node, wave, lasts_us } => {
            let text = format!("{:+} µs each {} µs", wave.most_us, wave.period_us);
            (text, vec![vec![*node]], *lasts_us)
        }
        Fault::SlowNode { node, step_us, lasts_us } => {
            (format!("{step_us} µs a step"), vec![vec![*node]], *lasts_us)
        }
        Fault::SlowDisk { node, factor, lasts_us } => {
            (format!("{factor} times slower"), vec![vec![*node]], *lasts_us)
        }
        Fault::Drift { node, wall_ppm, monotonic_ppm, lasts_us } => {
            let text = format!("wall {wall_ppm:+} ppm, monotonic {monotonic_ppm:+} ppm");
            (text, vec![vec![*node]], *lasts_us)
        }
        _ => return None,
    };
    let to_us = now.saturating_add(lasts_us).max(now + 1);
    let name = fault.name();
    let band = Band { name, text, sides, from: place, to: usize::MAX, from_us: now, to_us };
    Some(Open { fault: Some(fault.clone()), lanes, band })
}

/// The sides of what holds along `lanes`: where they begin and where they end. Where they go both
/// ways, the first node's side and the other.
fn sides(lanes: &[(usize, usize)]) -> [Vec<usize>; 2] {
    let mut left: Vec<usize> = lanes.iter().map(|lane| lane.0).collect();
    let mut right: Vec<usize> = lanes.iter().map(|lane| lane.1).collect();
    for side in [&mut left, &mut right] {
        side.sort_unstable();
        side.dedup();
    }
    if left == right
        && let Some(&first) = left.first()
    {
        let beyond = |node: &usize| lanes.contains(&(first, *node));
        (right, left) = left.into_iter().partition(beyond);
    }
    [left, right]
}

/// Between whom `lanes` go: two sides if each node of the one is cut from each of the other, else
/// the single pairs.
fn route(lanes: &[(usize, usize)]) -> String {
    let sides = sides(lanes);
    let crosses = |from: &[usize], to: &[usize]| {
        from.iter().all(|&from| to.iter().all(|&to| lanes.contains(&(from, to))))
    };
    let list = |side: &[usize]| side.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let [left, right] = &sides;
    let (forth, back) = (crosses(left, right), crosses(right, left));
    let across = left.len() * right.len();
    if forth && back && lanes.len() == 2 * across {
        return format!("{} | {}", list(left), list(right));
    }
    if forth && lanes.len() == across {
        return format!("{} → {}", list(left), list(right));
    }
    let single = |&(from, to): &(usize, usize)| match lanes.contains(&(to, from)) {
        true if from < to => Some(format!("{from}|{to}")),
        true => None,
        false => Some(format!("{from}→{to}")),
    };
    lanes.iter().filter_map(single).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SimTime, ms};

    fn event(number: u64, what: What, node: Option<usize>, about: About) -> TraceEvent {
        let (time, detail) = (SimTime::ms(number), String::new());
        TraceEvent { number, time, what, node, peer: None, about, detail, hash: 0 }
    }

    fn fault(number: u64, what: What, fault: &Fault) -> TraceEvent {
        event(number, what, None, About::Fault(Box::new(fault.clone())))
    }

    fn spans(events: &[TraceEvent], skipped: usize) -> Vec<(&'static str, usize, usize)> {
        bands(events, skipped).into_iter().map(|band| (band.name, band.from, band.to)).collect()
    }

    #[test]
    fn sides_are_told_apart() {
        let side = |fault: &Fault| {
            let Fault::Cut { lanes, .. } = fault else { panic!("a cut") };
            sides(lanes)
        };
        assert_eq!(side(&Fault::split(&[0, 2], &[1])), [vec![0, 2], vec![1]]);
        assert_eq!(side(&Fault::one_way(&[1], &[0, 2])), [vec![1], vec![0, 2]]);
    }

    #[test]
    fn routes_are_told_in_short() {
        let told = |fault: &Fault| {
            let Fault::Cut { lanes, .. } = fault else { panic!("a cut") };
            route(lanes)
        };
        assert_eq!(told(&Fault::split(&[0, 2], &[1, 3])), "0 2 | 1 3");
        assert_eq!(told(&Fault::one_way(&[1], &[0, 2])), "1 → 0 2");
        assert_eq!(told(&Fault::cut_pairs(&[(0, 1), (1, 2), (0, 2)])), "0|1 1|2 0|2");
        assert_eq!(route(&[(0, 1), (1, 0), (1, 2)]), "0|1 1→2");
    }

    #[test]
    fn faults_hold_until_undone_healed_or_over() {
        let cut = Fault::split(&[0], &[1]);
        let pause = Fault::Pause { node: 0, lasts_us: ms(3) };
        let full = Fault::FullDisk { node: 1, lasts_us: ms(100) };
        let events = [
            event(0, What::Start, Some(0), About::Nothing),
            fault(1, What::Fault, &cut),
            fault(2, What::Fault, &pause),
            fault(3, What::Undo, &cut),
            event(4, What::Start, Some(1), About::Nothing),
            event(5, What::Tick, Some(1), About::Nothing),
            fault(6, What::Fault, &full),
            event(7, What::Crash, Some(0), About::Nothing),
            event(8, What::Heal, None, About::Nodes(vec![1])),
            event(9, What::Tick, Some(1), About::Nothing),
        ];
        let all = [("partition", 1, 3), ("pause", 2, 5), ("full disk", 6, 8), ("down", 7, 10)];
        assert_eq!(spans(&events, 0), all);
        assert_eq!(spans(&events, 4), [("pause", 0, 1), ("full disk", 2, 4), ("down", 3, 6)]);
    }

    #[test]
    fn a_pause_ends_with_its_node_and_none_begins_while_it_is_down() {
        let pause = Fault::Pause { node: 0, lasts_us: ms(50) };
        let events = [
            event(0, What::Start, Some(0), About::Nothing),
            fault(1, What::Fault, &pause),
            event(2, What::Crash, Some(0), About::Nothing),
            fault(3, What::Fault, &pause),
            event(4, What::Start, Some(0), About::Nothing),
        ];
        assert_eq!(spans(&events, 0), [("pause", 1, 2), ("down", 2, 4)]);
    }
}

//! How long messages take: the shape of the draws within a span, and a map of regions.

use serde::{Deserialize, Serialize};

use crate::prng::{Ratio, Rng, Span};

/// How draws are spread over a [`Span`]. Integers only, so that they are the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// Each value is as likely as any other.
    #[default]
    Uniform,
    /// Mostly near the least, ever more rarely farther away: each eighth of the span holds half of
    /// what comes after the one before it, and what lies beyond the greatest is the greatest.
    Exponential,
    /// Two ways, such as a link and its detour: the first tenth of the span, or by chance the last.
    Bimodal {
        /// How many take the long way.
        far: Ratio,
    },
}

impl Distribution {
    /// A number of `span`.
    #[inline]
    pub fn draw(self, span: Span, rng: &mut Rng) -> u64 {
        if self == Distribution::Uniform { rng.within(span) } else { self.draw_unevenly(span, rng) }
    }

    #[inline(never)]
    fn draw_unevenly(self, span: Span, rng: &mut Rng) -> u64 {
        match self {
            Distribution::Uniform => rng.within(span),
            Distribution::Exponential => exponential(span, rng),
            Distribution::Bimodal { far } => {
                let tenth = (span.max - span.min) / 10;
                if rng.chance(far) {
                    rng.within(Span::new(span.max - tenth, span.max))
                } else {
                    rng.within(Span::new(span.min, span.min + tenth))
                }
            }
        }
    }
}

/// Halvings that fit into a span.
const HALVINGS: u128 = 8;

/// The logarithm of a uniform draw, linear between powers of two: off by at most a tenth of one
/// halving, which no machine can tell.
fn exponential(span: Span, rng: &mut Rng) -> u64 {
    let width = span.max - span.min;
    if width == 0 {
        return span.min;
    }
    let word = rng.next_u64() | 1;
    let halvings = u128::from(word.leading_zeros());
    // What follows the leading one, in 32 bits: how far the draw is from the next halving.
    let within = (word << word.leading_zeros() << 1) >> 32;
    let exponent = (halvings << 32) + u128::from(u64::from(u32::MAX) - within);
    let scaled = (u128::from(width) * exponent / HALVINGS) >> 32;
    span.min + (scaled as u64).min(width)
}

/// Where nodes stand, and how far apart: a wide-area network. Give it to a
/// [`Plan`](crate::Plan::regions); cuts along it are [`Regions::cut`] and [`Regions::isolate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Regions {
    /// What the regions are called.
    pub names: Vec<String>,
    /// The region of each node.
    pub nodes: Vec<usize>,
    /// How long a message takes one way, in microseconds: by the sender's region, then the
    /// receiver's. Takes the place of the network's own span.
    pub latency_us: Vec<Vec<Span>>,
}

impl Regions {
    /// `nodes` dealt out in turn over America, Europe and Asia, one millisecond or two from their
    /// neighbours and as far from the others as a packet on a cable is, roughly.
    ///
    /// ```
    /// use quorate_sim::Regions;
    /// let regions = Regions::three_continents(5);
    /// assert_eq!(regions.members(0), [0, 3]);
    /// assert!(regions.latency_us(0, 3).max < regions.latency_us(0, 1).min);
    /// ```
    #[must_use]
    pub fn three_continents(nodes: usize) -> Regions {
        let [near, america_europe, america_asia, europe_asia] = [
            Span::new(500, 2_000),
            Span::new(38_000, 55_000),
            Span::new(50_000, 90_000),
            Span::new(75_000, 130_000),
        ];
        Regions {
            names: ["America", "Europe", "Asia"].map(str::to_owned).to_vec(),
            nodes: (0..nodes).map(|node| node % 3).collect(),
            latency_us: vec![
                vec![near, america_europe, america_asia],
                vec![america_europe, near, europe_asia],
                vec![america_asia, europe_asia, near],
            ],
        }
    }

    /// How long a message takes from one node to another.
    ///
    /// # Panics
    /// If a node is in no region, or a region is not in the table.
    #[must_use]
    pub fn latency_us(&self, from: usize, to: usize) -> Span {
        self.latency_us[self.nodes[from]][self.nodes[to]]
    }

    /// The nodes of a region.
    #[must_use]
    pub fn members(&self, region: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node] == region).collect()
    }

    /// The nodes of every other region.
    #[must_use]
    pub fn others(&self, region: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node] != region).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(distribution: Distribution, span: Span) -> Vec<u64> {
        let mut rng = Rng::new(7);
        let draws: Vec<u64> = (0..10_000).map(|_| distribution.draw(span, &mut rng)).collect();
        assert!(draws.iter().all(|draw| (span.min..=span.max).contains(draw)));
        draws
    }

    #[test]
    fn each_eighth_of_an_exponential_span_holds_half_of_the_one_before() {
        let span = Span::new(1_000, 81_000);
        let draws = draws(Distribution::Exponential, span);
        for eighth in 0..4 {
            let range = 1_000 + eighth * 10_000..11_000 + eighth * 10_000;
            let inside = draws.iter().filter(|&draw| range.contains(draw)).count();
            let expected = 10_000 >> (eighth + 1);
            let (least, most) = (expected * 85 / 100, expected * 115 / 100);
            assert!((least..most).contains(&inside), "{inside} in eighth {eighth}");
        }
        let far = draws.iter().filter(|&&draw| draw == span.max).count();
        assert!((10..80).contains(&far), "what lies beyond is the greatest: {far}");
    }

    #[test]
    fn a_bimodal_span_has_two_ways_and_nothing_between() {
        let far = Ratio::per_mille(300);
        let draws = draws(Distribution::Bimodal { far }, Span::new(0, 1_000));
        let long = draws.iter().filter(|&&draw| draw >= 900).count();
        assert!((2_800..3_200).contains(&long), "{long}");
        assert!(draws.iter().all(|draw| *draw <= 100 || *draw >= 900));
    }

    #[test]
    fn a_span_of_one_value_has_that_value() {
        let bimodal = Distribution::Bimodal { far: Ratio::new(1, 2) };
        for distribution in [Distribution::Uniform, Distribution::Exponential, bimodal] {
            assert!(draws(distribution, Span::only(9)).iter().all(|&draw| draw == 9));
        }
        draws(Distribution::Exponential, Span::new(0, u64::MAX));
    }
}

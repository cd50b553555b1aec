//! Counts of durations in buckets whose width is at most 1/128 of what they hold.

use serde::{Deserialize, Serialize};

/// Durations in nanoseconds. The same size whatever it holds; adding costs a few instructions.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), max_ns: 0 }
    }
}

impl Histogram {
    /// Counts one more.
    pub fn add(&mut self, ns: u64) {
        self.counts[bucket_of(ns)] += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Sparse) {
        for (bucket, count) in &other.counts {
            self.counts[*bucket] += count;
        }
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that this part of all do not exceed, at most 1/128 too long; 0 if none was
    /// counted.
    pub fn quantile_ns(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return end_of(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// The longest.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// What is in it, for another process.
    pub fn to_sparse(&self) -> Sparse {
        let counts = self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        Sparse { counts: counts.collect(), max_ns: self.max_ns }
    }
}

/// A histogram without its empty buckets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sparse {
    counts: Vec<(usize, u64)>,
    max_ns: u64,
}

fn bucket_of(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(EXACT_BITS + 1);
    ((shift as usize) << EXACT_BITS) + (ns >> shift) as usize
}

/// The longest duration of a bucket.
fn end_of(bucket: usize) -> u64 {
    let shift = (bucket >> EXACT_BITS).saturating_sub(1);
    let mantissa = bucket - (shift << EXACT_BITS);
    ((mantissa as u64 + 1) << shift) - 1
}

/// Durations are told apart by this many bits after the first.
const EXACT_BITS: u32 = 7;

const BUCKETS: usize = ((64 - EXACT_BITS as usize) + 1) << EXACT_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_hold_what_they_say() {
        let values = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) / 3 * 2]);
        for ns in values.chain([u64::MAX >> 1]) {
            let end = end_of(bucket_of(ns));
            assert!(end >= ns && end - ns <= ns / 128, "{ns} is in a bucket that ends at {end}");
            assert!(bucket_of(ns) < BUCKETS);
        }
    }

    #[test]
    fn quantiles_are_of_all_that_was_merged() {
        let mut all = Histogram::default();
        for part in [1..=50, 51..=100] {
            let mut histogram = Histogram::default();
            part.for_each(|ns| histogram.add(ns));
            all.merge(&histogram.to_sparse());
        }
        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|part| all.quantile_ns(part));
        assert_eq!(quantiles, [1, 50, 99, 100]);
        assert_eq!((all.count(), all.max_ns()), (100, 100));
    }
}

//! Computes figures from samples.

/// Figures of one row, overhead subtracted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    pub n: usize,
    pub min: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
    /// Cost of measuring nothing, subtracted from every sample.
    pub overhead: u64,
}

/// Returns the cost of one operation from a sample.
#[inline(always)]
pub fn figure(sample: u64, overhead: u64, operations: u64) -> u64 {
    let operations = operations.max(1);
    (sample.saturating_sub(overhead) + operations / 2) / operations
}

/// Sorts the samples and summarises them. Each sample covers `operations` operations of one kind,
/// so the figures are divided by that number and rounded to the nearest. Returns `None` without
/// samples.
pub fn summarize(samples: &mut [u64], overhead: u64, operations: u64) -> Option<Summary> {
    samples.sort_unstable();
    let figure = |sample: u64| figure(sample, overhead, operations);
    Some(Summary {
        n: samples.len(),
        min: figure(*samples.first()?),
        p50: figure(percentile(samples, 50)?),
        p99: figure(percentile(samples, 99)?),
        max: figure(*samples.last()?),
        overhead,
    })
}

/// Returns the smallest sample that `percent` of all do not exceed (nearest rank).
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let mut samples: Vec<u64> = (1..=1000).rev().map(|n| n + 10).collect();
        let summary = summarize(&mut samples, 10, 1).unwrap();
        assert_eq!(summary, Summary { n: 1000, min: 1, p50: 500, p99: 990, max: 1000, overhead: 10 });
    }

    #[test]
    fn one_sample_is_all_figures() {
        let summary = summarize(&mut [47], 40, 1).unwrap();
        assert_eq!((summary.min, summary.p50, summary.p99, summary.max), (7, 7, 7, 7));
    }

    #[test]
    fn figures_are_for_one_operation_and_never_below_zero() {
        let summary = summarize(&mut [5, 211, 212], 10, 2).unwrap();
        assert_eq!((summary.min, summary.p50, summary.p99), (0, 101, 101));
        assert_eq!(summarize(&mut [], 0, 1), None);
    }
}

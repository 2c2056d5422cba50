//! What is said of many samples in few numbers.

use serde::Serialize;

/// A series of samples in few numbers. Means are left out: one pause of the host would spoil them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    /// How many samples there are.
    pub(super) n: usize,
    /// The smallest: what it takes when nothing disturbs.
    pub(super) min: f64,
    /// The one in the middle, or the mean of the two there.
    pub(super) median: f64,
    /// The smallest sample that 99 of 100 do not exceed (nearest rank): below 100 samples, the largest.
    pub(super) p99: f64,
}

impl Summary {
    /// Of `samples`; nothing can be said of none.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let upper = *sorted.get(n / 2)?;
        let median = if n.is_multiple_of(2) { f64::midpoint(sorted[n / 2 - 1], upper) } else { upper };
        // Counted from 1. It is at most n, and at least 1 where n is.
        let rank = (99 * n).div_ceil(100);
        Some(Self { n, min: sorted[0], median, p99: sorted[rank - 1] })
    }
}

/// Each sample of `figure` over the one of `base` that was taken in the same round. Such a ratio keeps its meaning
/// on a host that is slower in some rounds than in others, which a ratio of medians does not.
pub(super) fn pairwise_ratios(figure: &[f64], base: &[f64]) -> Vec<f64> {
    figure.iter().zip(base).map(|(sample, base)| sample / base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_no_samples() {
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        let summary = Summary::of(&[5.0, 1.0, 3.0]);
        assert_eq!(summary, Some(Summary { n: 3, min: 1.0, median: 3.0, p99: 5.0 }));
        assert_eq!(summary, Summary::of(&[3.0, 5.0, 1.0]));
    }

    #[test]
    fn an_even_number_of_samples_has_its_median_between_two() {
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 10.0]).map(|summary| summary.median), Some(3.0));
        assert_eq!(Summary::of(&[7.0]), Some(Summary { n: 1, min: 7.0, median: 7.0, p99: 7.0 }));
    }

    #[test]
    fn p99_is_a_sample_and_the_largest_one_below_a_hundred() {
        let p99 =
            |n: u32| Summary::of(&(1..=n).map(f64::from).collect::<Vec<_>>()).map(|summary| summary.p99);
        assert_eq!(p99(20), Some(20.0));
        assert_eq!(p99(99), Some(99.0));
        assert_eq!(p99(100), Some(99.0));
        assert_eq!(p99(101), Some(100.0));
        assert_eq!(p99(1000), Some(990.0));
    }

    #[test]
    fn ratios_are_those_of_samples_of_the_same_round() {
        assert_eq!(pairwise_ratios(&[2.0, 30.0], &[1.0, 10.0]), [2.0, 3.0]);
        assert!(pairwise_ratios(&[2.0], &[]).is_empty());
    }
}

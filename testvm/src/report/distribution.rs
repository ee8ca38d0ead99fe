// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantiles of times.

use hdrhistogram::Histogram;
use serde::Serialize;

/// An hour: nothing measured here takes longer.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Quantiles of a set of times, in one unit; nothing of an empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: Option<f64>,
    /// 99 % are at most this.
    pub p99: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// The median and the largest of a set of times, in one unit; nothing of an empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MedianMax {
    /// The median.
    pub p50: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

impl Quantiles {
    /// Of nanoseconds, in microseconds: quantiles to three digits, the maximum exactly.
    pub(super) fn in_us(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let Some(set) = Set::of(times_ns) else { return Self::default() };
        Self {
            p50: Some(scale(set.quantile(0.5), 1e3)),
            p99: Some(scale(set.quantile(0.99), 1e3)),
            max: Some(scale(set.max, 1e3)),
        }
    }
}

impl MedianMax {
    /// Of nanoseconds, in milliseconds.
    pub(super) fn in_ms(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let Some(set) = Set::of(times_ns) else { return Self::default() };
        Self { p50: Some(scale(set.quantile(0.5), 1e6)), max: Some(scale(set.max, 1e6)) }
    }
}

/// A set that is not empty.
struct Set {
    histogram: Histogram<u64>,
    max: u64,
}

impl Set {
    fn of(times_ns: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).ok()?;
        let mut max = None;
        for ns in times_ns {
            histogram.saturating_record(ns);
            max = max.max(Some(ns));
        }
        Some(Self { histogram, max: max? })
    }

    fn quantile(&self, quantile: f64) -> u64 {
        // The histogram answers with the upper end of a bucket.
        self.histogram.value_at_quantile(quantile).min(self.max)
    }
}

/// Nanoseconds in a larger unit, with three decimals at most.
#[expect(clippy::cast_precision_loss, reason = "an hour in nanoseconds is below 2^53")]
fn scale(ns: u64, unit: f64) -> f64 {
    (ns as f64 / unit * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_set_has_no_numbers() {
        assert_eq!(Quantiles::in_us([]), Quantiles { p50: None, p99: None, max: None });
        assert_eq!(MedianMax::in_ms([]), MedianMax { p50: None, max: None });
    }

    #[test]
    fn one_time_is_all_its_quantiles() {
        assert_eq!(Quantiles::in_us([62_300]), Quantiles { p50: Some(62.3), p99: Some(62.3), max: Some(62.3) });
        assert_eq!(MedianMax::in_ms([203_456_789]), MedianMax { p50: Some(203.457), max: Some(203.457) });
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let set = Quantiles::in_us((1..=1000).map(|us| us * 1000));
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|v| (v / wanted - 1.0).abs() < 0.002);
        assert!(near(set.p50, 500.0) && near(set.p99, 990.0), "{set:?}");
        assert_eq!(set.max, Some(1000.0));
    }
}

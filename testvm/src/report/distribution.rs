// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantiles of times, and rates.

use serde::Serialize;

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
    /// Of nanoseconds, in microseconds.
    pub(super) fn in_us(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let set = Sorted::of(times_ns);
        let at = |percent| set.percentile(percent).map(|ns| scale(ns, 1e3));
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl MedianMax {
    /// Of nanoseconds, in milliseconds.
    pub(super) fn in_ms(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let set = Sorted::of(times_ns);
        let at = |percent| set.percentile(percent).map(|ns| scale(ns, 1e6));
        Self { p50: at(50), max: at(100) }
    }
}

/// A set of times, in ascending order.
struct Sorted(Vec<u64>);

impl Sorted {
    fn of(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let mut times: Vec<u64> = times_ns.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The smallest time that `percent` (1 to 100) of all do not exceed: the nearest rank.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.checked_sub(1)?).copied()
    }
}

/// Nanoseconds in a larger unit, with three decimals at most.
#[expect(
    clippy::cast_precision_loss,
    reason = "below 2^53 ns, which are 104 days, nothing is lost"
)]
fn scale(ns: u64, unit: f64) -> f64 {
    (ns as f64 / unit * 1e3).round() / 1e3
}

/// How many there are.
pub(super) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// How many a second, with two decimals; 0 when no time has passed.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "below 2^53 ns, which are 104 days")]
pub(super) fn per_second(count: u32, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 {
        return 0.0;
    }
    (f64::from(count) * 1e11 / elapsed_ns as f64).round() / 100.0
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
        assert_eq!(
            Quantiles::in_us([62_300]),
            Quantiles { p50: Some(62.3), p99: Some(62.3), max: Some(62.3) }
        );
        assert_eq!(
            MedianMax::in_ms([203_456_789]),
            MedianMax { p50: Some(203.457), max: Some(203.457) }
        );
    }

    #[test]
    fn quantiles_are_exact_whatever_the_order() {
        let set = Quantiles::in_us((1..=1000).rev().map(|us| us * 1000));
        assert_eq!(set, Quantiles { p50: Some(500.0), p99: Some(990.0), max: Some(1000.0) });
        let four = Quantiles::in_us([4_000, 1_000, 3_000, 2_000]);
        assert_eq!(four, Quantiles { p50: Some(2.0), p99: Some(4.0), max: Some(4.0) });
    }

    #[test]
    fn rates_have_two_decimals() {
        let rates = [per_second(10, 3_000_000_000), per_second(0, 7), per_second(3, 0)];
        assert_eq!(rates.map(|rate| rate.to_string()), ["3.33", "0", "0"]);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How late the device raises the interrupts that its policies place: from the time at which one is
//! due to the return of the write to its eventfd.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What is later than this counts as this, nanoseconds: a second.
const MAX_NS: u64 = 1_000_000_000;
/// Significant digits.
const DIGITS: u8 = 2;

/// Lateness of a queue's interrupts. It takes memory when the first one is placed.
#[derive(Clone, Debug, Default)]
pub struct Lateness(Option<Box<Histogram<u64>>>);

/// A summary, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Interrupts.
    pub count: u64,
    /// Half of them were at most so late.
    pub median_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// The latest.
    pub max_ns: u64,
}

impl Lateness {
    /// An interrupt was raised so long after it was due.
    pub fn record(&mut self, late: Duration) {
        if self.0.is_none() {
            // It refuses other bounds than these.
            self.0 = Histogram::new_with_bounds(1, MAX_NS, DIGITS).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(late.as_nanos().clamp(1, MAX_NS.into()) as u64);
        }
    }

    /// All of them; `None` when there were none.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.0.as_ref().map(|histogram| Summary {
            count: histogram.len(),
            median_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
            max_ns: histogram.max(),
        })
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        if let Some(histogram) = &mut self.0 {
            histogram.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_summed_up_to_two_digits_and_a_second() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.summary(), None);
        for us in 1..=100 {
            lateness.record(Duration::from_micros(us));
        }
        lateness.record(Duration::from_secs(9));
        let Summary { count, median_ns, p99_ns, max_ns } = lateness.summary().unwrap();
        assert_eq!(count, 101);
        assert!(median_ns.abs_diff(51_000) <= 510, "{median_ns}");
        assert!(p99_ns.abs_diff(100_000) <= 1_000, "{p99_ns}");
        assert!(max_ns.abs_diff(MAX_NS) <= MAX_NS / 100, "{max_ns}");
        lateness.clear();
        assert_eq!(lateness.summary().unwrap().count, 0);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The NIC's hardware clock: the host's `CLOCK_MONOTONIC`, in nanoseconds.
//!
//! An [`Instant`] of this clock is what completion records carry and what every state machine of the device is given
//! as `now`. It is a type of its own so that it cannot be mistaken for a guest's time.

use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// An instant of the device clock: nanoseconds since an arbitrary start, good for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// The instant `ns` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// Nanoseconds since the clock's start: what a completion record carries.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// Now.
    ///
    /// # Panics
    /// When the kernel has no `CLOCK_MONOTONIC`, which Linux always has.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
        Self { ns: time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs() }
    }

    /// Time passed since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }

    /// This instant moved into the future, stopping at the end of the clock.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        // A Duration may hold more than u64 nanoseconds; such a time never comes, so neither does its truncation matter.
        let by_ns = by.as_nanos();
        let by_ns = if by_ns > u64::MAX as u128 { u64::MAX } else { by_ns as u64 };
        Self { ns: self.ns.saturating_add(by_ns) }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.ns / 1_000_000_000, self.ns % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let one = Instant::from_ns(1);
        assert_eq!(Instant::from_ns(0).since(one), Duration::ZERO);
        assert_eq!(one.plus(Duration::from_micros(3)).since(one), Duration::from_micros(3));
        assert_eq!(one.plus(Duration::MAX), Instant::from_ns(u64::MAX));
        assert_eq!(Instant::from_ns(2_000_000_005).to_string(), "2.000000005");
    }

    #[test]
    fn now_goes_on() {
        let first = Instant::now();
        assert!(Instant::now() >= first);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two times of the device: timer time, by which it waits, and NIC time, which its timestamps
//! carry.
//!
//! Two types, so that neither can be taken for the other, nor for a guest's time.

use core::fmt;
use core::time::Duration;

/// An instant of timer time: what every state machine is given as `now`, what deadlines and ages
/// are made of. Nanoseconds since an arbitrary start; it never goes back and nobody adjusts it.
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

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// Time passed since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }

    /// This instant moved into the past, stopping at the start of the clock.
    #[must_use]
    pub const fn minus(self, by: Duration) -> Self {
        let by_ns = by.as_nanos();
        let by_ns = if by_ns > u64::MAX as u128 { u64::MAX } else { by_ns as u64 };
        Self { ns: self.ns.saturating_sub(by_ns) }
    }

    /// This instant moved into the future, stopping at the end of the clock.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        // A Duration may hold more than u64 nanoseconds; such a time never comes, so neither does
        // its truncation matter.
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

/// A length of time in nanoseconds, as reports have it; stops at the end of the type.
pub(crate) fn ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// A reading of the NIC's clock, nanoseconds: what a completion record carries. No deadline is ever
/// computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicTime {
    ns: u64,
}

impl NicTime {
    /// The reading `ns`.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }
}

/// What one reading of the host's clock gives: the same moment in both times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// In timer time.
    pub timer: Instant,
    /// In NIC time.
    pub nic: NicTime,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let one = Instant::from_ns(1);
        assert_eq!(Instant::from_ns(0).since(one), Duration::ZERO);
        assert_eq!(one.plus(Duration::from_micros(3)).since(one), Duration::from_micros(3));
        assert_eq!(one.plus(Duration::MAX), Instant::from_ns(u64::MAX));
        assert_eq!(one.minus(Duration::MAX), Instant::from_ns(0));
        assert_eq!(Instant::from_ns(9).minus(Duration::from_nanos(4)), Instant::from_ns(5));
        assert_eq!(Instant::from_ns(2_000_000_005).to_string(), "2.000000005");
    }
}

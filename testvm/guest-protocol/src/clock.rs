// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's clock.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds, of the machine this runs on; 0 if the kernel refuses, which it
/// does not.
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| timespec_ns(now.tv_sec(), now.tv_nsec()))
}

/// Seconds and nanoseconds as nanoseconds; negative times, which no clock here has, as 0.
#[must_use]
pub fn timespec_ns(seconds: i64, nanoseconds: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(before > 0);
        assert!(monotonic_ns() >= before);
    }

    #[test]
    fn seconds_and_nanoseconds_add_up() {
        assert_eq!(timespec_ns(3, 7), 3_000_000_007);
        assert_eq!(timespec_ns(0, 0), 0);
        assert_eq!(timespec_ns(-1, 5), 5);
    }
}

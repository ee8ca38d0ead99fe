// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clocks of the device.
//!
//! Timer time is the host's `CLOCK_MONOTONIC`. The NIC's clock shows the same nanoseconds: it is a
//! clock of its own for everyone who reads a timestamp, and the only place that relates the two is
//! here.

use nix::time::{ClockId, clock_gettime};
use tsnic_core::time::{Instant, NicTime, Now};

/// Where the data path takes the time from: the host's clock, or a virtual one in tests.
pub trait Clock: Send {
    /// The present moment.
    fn now(&self) -> Now;
}

/// The clock of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Now {
        let timer = monotonic();
        Now { timer, nic: NicTime::from_ns(timer.as_ns()) }
    }
}

/// Timer time now.
///
/// # Panics
/// When the kernel has no `CLOCK_MONOTONIC`, which Linux always has.
#[must_use]
pub fn monotonic() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    Instant::from_ns(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_goes_on() {
        let first = HostClock.now();
        assert!(HostClock.now().timer >= first.timer);
    }
}

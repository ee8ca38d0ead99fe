// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clocks of the device.
//!
//! Timer time is the host's `CLOCK_MONOTONIC`. The NIC's clock is driven by it and shows the same
//! nanoseconds until somebody adjusts it: the guest, whose PTP hardware clock it is, or the control
//! socket. All queue pairs have the same one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::time::{ClockId, clock_gettime};
use tsnic_core::nic_clock::{Adjustment, NicClock, OutOfRange};
use tsnic_core::time::{Instant, Now};

/// Where the data path takes the time from: the host's clock, or a virtual one in tests.
pub trait Clock: Send {
    /// The present moment.
    fn now(&self) -> Now;

    /// How much faster than timer time NIC time runs, in 2^-16 parts in a million.
    fn rate(&self) -> i64;

    /// Adjusts NIC time, for everybody.
    ///
    /// # Errors
    /// When it cannot be set to that, or be tuned so much.
    fn adjust(&self, adjustment: Adjustment) -> Result<(), OutOfRange>;
}

/// The host's clock, and the NIC's. A clone is the same clock.
#[derive(Clone, Debug, Default)]
pub struct HostClock {
    shared: Arc<Shared>,
    /// A copy, so that nobody takes a lock to stamp a packet, and how often the original had been
    /// adjusted when it was made.
    copy: Cell<NicClock>,
    adjustments: Cell<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    nic: Mutex<NicClock>,
    /// How often it has been adjusted.
    adjustments: AtomicU64,
}

impl HostClock {
    fn nic(&self) -> NicClock {
        let adjustments = self.shared.adjustments.load(Ordering::Acquire);
        if adjustments != self.adjustments.get() {
            self.copy.set(*self.shared.nic.lock().unwrap_or_else(PoisonError::into_inner));
            self.adjustments.set(adjustments);
        }
        self.copy.get()
    }
}

impl Clock for HostClock {
    fn now(&self) -> Now {
        // Before the time is read: a clock is not asked for times before its latest adjustment.
        let nic = self.nic();
        let timer = monotonic();
        Now { timer, nic: nic.read(timer) }
    }

    fn rate(&self) -> i64 {
        self.nic().rate()
    }

    fn adjust(&self, adjustment: Adjustment) -> Result<(), OutOfRange> {
        let mut nic = self.shared.nic.lock().unwrap_or_else(PoisonError::into_inner);
        nic.adjust(adjustment, monotonic())?;
        self.shared.adjustments.fetch_add(1, Ordering::Release);
        Ok(())
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
    use tsnic_core::time::NicTime;

    use super::*;

    #[test]
    fn now_goes_on() {
        let clock = HostClock::default();
        let first = clock.now();
        assert_eq!(first.nic.as_ns(), first.timer.as_ns());
        assert!(clock.now().timer >= first.timer);
    }

    #[test]
    fn a_clone_is_the_same_clock() {
        let clock = HostClock::default();
        let other = clock.clone();
        other.now();
        clock.adjust(Adjustment::Set(NicTime::from_ns(5))).unwrap();
        clock.adjust(Adjustment::Rate(7)).unwrap();
        for clock in [&clock, &other] {
            assert!(clock.now().nic.as_ns() < clock.now().timer.as_ns());
            assert_eq!(clock.rate(), 7);
        }
        assert_eq!(clock.adjust(Adjustment::Rate(i64::MAX)), Err(OutOfRange));
        assert_eq!(other.rate(), 7);
    }
}

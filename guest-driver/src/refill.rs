// SPDX-License-Identifier: GPL-2.0-only
//! When the refill timer asks for memory again: a back-off.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// First delay, milliseconds.
pub const FIRST_MS: u32 = 4;

/// Longest delay, milliseconds.
pub const LAST_MS: u32 = 512;

/// The refill timer's delays: each time it finds memory still missing, twice as long as the time
/// before.
///
/// Every poll tries to refill by itself, so the timer is only for a queue that is not polled. The
/// owner of `SCHED` writes the delay; the timer ends its own run.
#[derive(Debug)]
pub struct Backoff {
    next_ms: AtomicU32,
    running: AtomicBool,
}

impl Backoff {
    /// No timer is running.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_ms: AtomicU32::new(FIRST_MS), running: AtomicBool::new(false) }
    }

    /// Memory was missing: the delay to start the timer with, milliseconds. None while it is
    /// running.
    #[must_use]
    pub fn failed(&self) -> Option<u32> {
        if self.running.swap(true, Ordering::Relaxed) {
            return None;
        }
        let delay = self.next_ms.load(Ordering::Relaxed);
        self.next_ms.store((delay * 2).min(LAST_MS), Ordering::Relaxed);
        Some(delay)
    }

    /// Memory was there.
    pub fn succeeded(&self) {
        self.next_ms.store(FIRST_MS, Ordering::Relaxed);
    }

    /// The timer has run out, or was cancelled.
    pub fn ended(&self) {
        self.running.store(false, Ordering::Relaxed);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_anew_after_a_success() {
        let backoff = Backoff::new();
        let mut delays = vec![];
        for _ in 0..10 {
            delays.push(backoff.failed());
            backoff.ended();
        }
        assert_eq!(delays, [4, 8, 16, 32, 64, 128, 256, 512, 512, 512].map(Some));
        backoff.succeeded();
        assert_eq!(backoff.failed(), Some(FIRST_MS));
    }

    #[test]
    fn a_running_timer_is_not_put_off_and_does_not_lengthen_the_delay() {
        let backoff = Backoff::new();
        assert_eq!(backoff.failed(), Some(4));
        assert_eq!((backoff.failed(), backoff.failed()), (None, None));
        backoff.ended();
        assert_eq!(backoff.failed(), Some(8));
    }
}

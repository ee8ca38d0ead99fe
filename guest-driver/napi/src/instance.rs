// SPDX-License-Identifier: GPL-2.0-only
//! What surrounds the word.

use crate::{Bits, Word};

/// A NAPI instance as the protocol sees it: the word, and what the core and the driver do when the
/// protocol says so.
///
/// The settings have the values of an untouched interface unless an implementation says otherwise.
pub trait Napi {
    /// The kind of word.
    type Word: Word;

    /// The state word, `napi_struct::state`.
    fn word(&self) -> &Self::Word;

    /// Where its bits are.
    fn bits(&self) -> Bits;

    /// `__napi_schedule()`: a poll will run, in a softirq of this CPU or in the instance's thread.
    /// The caller owns `SCHED` and gives it to that poll. Any context; does not sleep.
    fn schedule_poll(&self);

    /// The driver's `poll()`: consumes up to `budget` packets; when there were fewer, calls the
    /// `complete_done` of its kernel and arms the device if, and only if, that returns true.
    /// Returns the number. Softirq, or bottom halves off.
    fn poll(&self, budget: u32) -> u32;

    /// `hrtimer_start()` of the watchdog: `napi_watchdog()` will run after `gro_flush_timeout`.
    fn start_watchdog(&self) {}

    /// `hrtimer_cancel()` of the watchdog: waits for one that runs. Process context; sleeps.
    fn cancel_watchdog(&self) {}

    /// Lets others run: `cpu_relax()` in a busy loop, `usleep_range()` in a disable.
    fn relax(&self) {}

    /// Packets are held for GRO.
    fn gro_held(&self) -> bool {
        false
    }

    /// `napi_gro_flush()`: hands them to the stack; only the old ones when a timer will see to the
    /// others.
    fn gro_flush(&self, only_old: bool) {
        let _ = only_old;
    }

    /// The `gro_flush_timeout` setting is not 0.
    fn gro_flush_timeout(&self) -> bool {
        false
    }

    /// The `napi_defer_hard_irqs` setting.
    fn defer_hard_irqs(&self) -> u32 {
        0
    }

    /// `napi_struct::defer_hard_irqs_count`, the owner's own: completions for which the device is
    /// still not to be armed.
    fn deferrals(&self) -> u32 {
        0
    }

    /// Sets it.
    fn set_deferrals(&self, deferrals: u32) {
        let _ = deferrals;
    }
}

/// Budget of one poll in a busy loop (`BUSY_POLL_BUDGET`).
pub const BUSY_POLL_BUDGET: u32 = 8;

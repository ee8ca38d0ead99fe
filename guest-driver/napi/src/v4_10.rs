// SPDX-License-Identifier: GPL-2.0-only
//! The protocol before the fix: Linux 4.10.0.

use crate::{BUSY_POLL_BUDGET, Bits, Napi, Word, busy};

pub use crate::disable::{disable, enable};

/// Tries to take the instance; true when the caller now owns `SCHED` and must see to it that a poll
/// runs.
///
/// | before | after | returns | |
/// |---|---|---|---|
/// | `DISABLE` | unchanged | false | whoever enables the instance must schedule it once |
/// | neither | `SCHED` set | true | |
/// | `SCHED` | **unchanged** | false | **no trace is left: the race that 4.11 closed with `MISSED`** |
///
/// No other bit is read or written. `DISABLE` is tested first: the other order would leave `SCHED`
/// set with nobody to clear it when a disable is pending, and `napi_disable()` would wait for ever.
/// Between the two a disable may begin; it waits until `SCHED` is clear.
///
/// Models `napi_schedule_prep()` of 4.10.0 (`include/linux/netdevice.h`). Any context, hard
/// interrupts included. The driver's `v4_10` mode is this function on the running kernel's word.
#[inline]
pub fn schedule_prep(word: &impl Word, bits: Bits) -> bool {
    !bits.disable_pending(word) && !word.test_and_set(bits.sched_mask())
}

/// `napi_schedule()`: takes the instance, if it is free, and has it polled. Any context.
pub fn schedule<N: Napi>(napi: &N) {
    if schedule_prep(napi.word(), napi.bits()) {
        napi.schedule_poll();
    }
}

/// A poll that found fewer packets than its budget is done. True: the instance is free, and the
/// caller arms the device. False: it is not the caller's to arm.
///
/// | before | after | returns |
/// |---|---|---|
/// | `NPSVC` or `IN_BUSY_POLL` | unchanged, `SCHED` stays with its owner | false |
/// | neither | `SCHED` cleared | true |
///
/// When packets stay held for GRO the watchdog is started, before `SCHED` is cleared. Models
/// `napi_complete_done()` of 4.10.0 (`net/core/dev.c`). Softirq, or bottom halves off.
pub fn complete_done<N: Napi>(napi: &N, work_done: u32) -> bool {
    let (word, bits) = (napi.word(), napi.bits());
    if word.read() & (bits.npsvc_mask() | bits.in_busy_poll_mask()) != 0 {
        return false;
    }
    flush_or_start_watchdog(napi, work_done);
    word.test_and_clear(bits.sched_mask());
    true
}

/// What becomes of the packets held for GRO when a poll is done, in 4.10.0 and 4.11.
pub(crate) fn flush_or_start_watchdog<N: Napi>(napi: &N, work_done: u32) {
    if napi.gro_held() {
        if work_done > 0 && napi.gro_flush_timeout() {
            napi.start_watchdog();
        } else {
            napi.gro_flush(false);
        }
    }
}

/// `napi_watchdog()`: `gro_flush_timeout` has passed, and a poll is to flush what GRO still holds.
/// Hard interrupt.
///
/// Takes the instance as an interrupt would, although the device's interrupt is armed: one of the
/// owners of the race.
pub fn watchdog<N: Napi>(napi: &N) {
    if napi.gro_held() {
        schedule(napi);
    }
}

/// Busy-polls until `done`. Process context.
pub fn busy_poll<N: Napi>(napi: &N, done: impl FnMut() -> bool) {
    busy::run(napi, || busy::take(napi.word(), napi.bits()), done, || busy_poll_stop(napi));
}

/// Gives the instance back after a busy loop: one more poll, which completes and arms, or is
/// scheduled again.
///
/// | step | word |
/// |---|---|
/// | 1 | `IN_BUSY_POLL` cleared |
/// | 2 | the poll: as [`complete_done`], or, with its budget used up, unchanged and scheduled |
///
/// The poll's `complete_done` is where an interrupt that found `SCHED` owned is lost. Models
/// `busy_poll_stop()` of 4.10.0.
pub fn busy_poll_stop<N: Napi>(napi: &N) {
    napi.word().clear(napi.bits().in_busy_poll_mask());
    if napi.poll(BUSY_POLL_BUDGET) == BUSY_POLL_BUDGET {
        napi.schedule_poll();
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: GPL-2.0-only
//! The protocol with the fix: Linux 4.11, "net: solve a NAPI race".
//!
//! An interrupt that finds the instance owned leaves `MISSED` behind, and whoever completes next
//! polls once more for it.

use crate::{BUSY_POLL_BUDGET, Bits, Napi, Word, busy, v4_10};

pub use crate::disable::{disable, enable};

/// Tries to take the instance; true when the caller now owns `SCHED` and must see to it that a poll
/// runs.
///
/// | before | after | returns |
/// |---|---|---|
/// | `DISABLE` | unchanged, `MISSED` too | false |
/// | neither | `SCHED` set | true |
/// | `SCHED` | **`MISSED` set** | false |
///
/// One transaction: with two, the owner could complete between the look at `SCHED` and the setting
/// of `MISSED`, and nobody would see it. Models `napi_schedule_prep()` since 4.11
/// (`net/core/dev.c`). Any context, hard interrupts included.
#[inline]
pub fn schedule_prep(word: &impl Word, bits: Bits) -> bool {
    let before =
        word.transact(|before| match (before & bits.disable_mask(), before & bits.sched_mask()) {
            (0, 0) => Some(before | bits.sched_mask()),
            (0, _) => Some(before | bits.missed_mask()),
            _ => None,
        });
    before & (bits.disable_mask() | bits.sched_mask()) == 0
}

/// `napi_schedule()`: takes the instance, if it is free, and has it polled; else its owner will
/// poll once more. Any context.
pub fn schedule<N: Napi>(napi: &N) {
    if schedule_prep(napi.word(), napi.bits()) {
        napi.schedule_poll();
    }
}

/// `napi_if_scheduled_mark_missed()`: has the owner poll once more, if there is one. True when
/// there is one, or a disable is pending: the caller need not do the work itself. Any context.
/// Younger than 4.11; it came with `AF_XDP`'s zero copy.
///
/// | before | after | returns |
/// |---|---|---|
/// | `DISABLE` | unchanged | true |
/// | neither | unchanged | false |
/// | `SCHED` | `MISSED` set | true |
#[inline]
pub fn if_scheduled_mark_missed(word: &impl Word, bits: Bits) -> bool {
    let owned = |value| value & bits.sched_mask() != 0;
    let disabling = |value| value & bits.disable_mask() != 0;
    let before = word.transact(|before| {
        (!disabling(before) && owned(before)).then_some(before | bits.missed_mask())
    });
    disabling(before) || owned(before)
}

/// A poll that found fewer packets than its budget is done. True: the instance is free, and the
/// caller arms the device. False: it is not the caller's to arm, nor the ring to look at.
///
/// | before | after | returns |
/// |---|---|---|
/// | `NPSVC` or `IN_BUSY_POLL` | unchanged, `SCHED` stays with its owner | false |
/// | `MISSED` | **`MISSED` cleared, `SCHED` kept** and a poll scheduled | false |
/// | none of them | `SCHED` cleared | true |
///
/// One transaction: with two, an interrupt could set `MISSED` between the look at it and the
/// clearing of `SCHED`. Models `napi_complete_done()` of 4.11 (`net/core/dev.c`). Softirq, or
/// bottom halves off.
pub fn complete_done<N: Napi>(napi: &N, work_done: u32) -> bool {
    let (word, bits) = (napi.word(), napi.bits());
    if word.read() & (bits.npsvc_mask() | bits.in_busy_poll_mask()) != 0 {
        return false;
    }
    v4_10::flush_or_start_watchdog(napi, work_done);
    if !release(word, bits, 0) {
        napi.schedule_poll();
        return false;
    }
    true
}

/// The transaction of [`complete_done`]: gives `SCHED` up, unless an interrupt was missed. False
/// when it was: the caller still owns `SCHED` and schedules a poll. `also` is cleared either way.
#[inline]
pub(crate) fn release(word: &impl Word, bits: Bits, also: usize) -> bool {
    let before = word.transact(|before| {
        let given_up = before & !(bits.missed_mask() | bits.sched_mask() | also);
        Some(if before & bits.missed_mask() == 0 { given_up } else { given_up | bits.sched_mask() })
    });
    before & bits.missed_mask() == 0
}

/// `napi_watchdog()`: `gro_flush_timeout` has passed, and a poll is to flush what GRO still holds.
/// Hard interrupt.
///
/// Takes the instance by the old [`v4_10::schedule_prep`]: when there is an owner its completion
/// flushes, and `MISSED` would only cost a poll.
pub fn watchdog<N: Napi>(napi: &N) {
    if napi.gro_held() && v4_10::schedule_prep(napi.word(), napi.bits()) {
        napi.schedule_poll();
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
/// | 1 | `MISSED` cleared: what it stands for, the poll to come will find |
/// | 2 | `IN_BUSY_POLL` cleared |
/// | 3 | the poll: as [`complete_done`], or, with its budget used up, unchanged and scheduled |
///
/// Models `busy_poll_stop()` of 4.11. The kernel clears both bits by `clear_bit()`, which orders
/// nothing on a weakly ordered machine.
pub fn busy_poll_stop<N: Napi>(napi: &N) {
    let (word, bits) = (napi.word(), napi.bits());
    word.clear(bits.missed_mask());
    word.clear(bits.in_busy_poll_mask());
    if napi.poll(BUSY_POLL_BUDGET) == BUSY_POLL_BUDGET {
        napi.schedule_poll();
    }
}

#[cfg(test)]
mod tests;

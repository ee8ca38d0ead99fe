// SPDX-License-Identifier: GPL-2.0-only
//! The protocol as it is today: Linux 6.1 and 6.12, and what differs in 7.3.
//!
//! `napi_schedule_prep()` and `napi_if_scheduled_mark_missed()` are those of 4.11.

use crate::{BUSY_POLL_BUDGET, Bits, Napi, Word, busy, v4_10, v4_11};

pub use crate::v4_11::{if_scheduled_mark_missed, schedule, schedule_prep};

/// The part of `____napi_schedule()` that touches the word, in 6.12 and later: true when the
/// instance's thread is to be woken, which from now on is the owner; false when the softirq polls.
/// The caller owns `SCHED`.
///
/// | before | after | returns |
/// |---|---|---|
/// | `THREADED` | `SCHED_THREADED` set | true |
/// | not | unchanged | false |
///
/// 6.1 leaves `SCHED_THREADED` clear when the thread is asleep, since it goes by having been woken
/// then.
pub fn hand_to_thread(word: &impl Word, bits: Bits) -> bool {
    let threaded = word.read() & bits.threaded_mask() != 0;
    if threaded {
        word.set(bits.sched_threaded_mask());
    }
    threaded
}

/// A poll that found fewer packets than its budget is done. True: the instance is free, and the
/// caller arms the device. False: it is not the caller's to arm, nor the ring to look at.
///
/// | before | after | returns |
/// |---|---|---|
/// | `NPSVC` or `IN_BUSY_POLL` | unchanged, `SCHED` stays with its owner | false |
/// | `MISSED` | `MISSED` cleared, `SCHED` kept and a poll scheduled | false |
/// | none of them, interrupts deferred | `SCHED` cleared, the watchdog started | **false**: the device stays silent |
/// | none of them | `SCHED` cleared, the watchdog started when packets stay in GRO | true |
///
/// `SCHED_THREADED` and `PREFER_BUSY_POLL` are cleared in every row but the first. Unlike before,
/// the watchdog is started after `SCHED` is cleared, and not at all when a poll follows. Models
/// `napi_complete_done()` (`net/core/dev.c`). Softirq, thread, or bottom halves off.
pub fn complete_done<N: Napi>(napi: &N, work_done: u32) -> bool {
    let (word, bits) = (napi.word(), napi.bits());
    if word.read() & (bits.npsvc_mask() | bits.in_busy_poll_mask()) != 0 {
        return false;
    }
    let mut watchdog = false;
    let mut arm = true;
    if work_done > 0 {
        watchdog = napi.gro_held() && napi.gro_flush_timeout();
        napi.set_deferrals(napi.defer_hard_irqs());
    }
    if napi.deferrals() > 0 {
        napi.set_deferrals(napi.deferrals() - 1);
        watchdog = napi.gro_flush_timeout();
        arm = !watchdog;
    }
    if napi.gro_held() {
        napi.gro_flush(watchdog);
    }
    if !v4_11::release(word, bits, bits.sched_threaded_mask() | bits.prefer_busy_poll_mask()) {
        napi.schedule_poll();
        return false;
    }
    if watchdog {
        napi.start_watchdog();
    }
    arm
}

/// `napi_watchdog()`: the timer has run out. Hard interrupt.
///
/// | before | after |
/// |---|---|
/// | `DISABLE`, or `SCHED` | unchanged |
/// | neither | `SCHED` set, `PREFER_BUSY_POLL` cleared, and a poll scheduled |
///
/// Unlike in 4.11 it polls whether or not GRO holds packets, and so finds a packet whose interrupt
/// was lost.
pub fn watchdog<N: Napi>(napi: &N) {
    let (word, bits) = (napi.word(), napi.bits());
    if v4_10::schedule_prep(word, bits) {
        word.clear(bits.prefer_busy_poll_mask());
        napi.schedule_poll();
    }
}

/// [`busy::take`], and `PREFER_BUSY_POLL` set when that fails and the socket prefers busy polling.
pub fn busy_poll_take(word: &impl Word, bits: Bits, prefer: bool) -> bool {
    let taken = busy::take(word, bits);
    if !taken && prefer {
        word.set(bits.prefer_busy_poll_mask());
    }
    taken
}

/// How a preferred busy loop ends while interrupts are deferred. Two commits changed it, and stable
/// kernels have the first: a kernel's version alone does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredStop {
    /// From 5.11 on: the watchdog is started, then the last poll runs.
    WatchdogThenPoll,
    /// 58e2330bd455 ("net: napi: Avoid gro timer misfiring at end of busypoll", 2026): the last
    /// poll runs; if it uses up its budget, `SCHED` is cleared and then the watchdog started.
    PollThenWatchdog,
    /// 7599c13dbe7a, in 7.3: no last poll; `SCHED` is cleared and then the watchdog started.
    WatchdogOnly,
}

/// Busy-polls until `done`. Process context.
pub fn busy_poll<N: Napi>(napi: &N, form: DeferredStop, prefer: bool, done: impl FnMut() -> bool) {
    let take = || busy_poll_take(napi.word(), napi.bits(), prefer);
    busy::run(napi, take, done, || busy_poll_stop(napi, form, prefer));
}

/// Gives the instance back after a busy loop.
///
/// | step | word |
/// |---|---|
/// | 1 | `MISSED` cleared |
/// | 2 | `IN_BUSY_POLL` cleared |
/// | 3 | the last poll: as [`complete_done`]; with its budget used up unchanged and scheduled |
///
/// When the socket prefers busy polling and interrupts are deferred, step 3 is, by `form`:
///
/// | form | step 3 |
/// |---|---|
/// | [`DeferredStop::WatchdogThenPoll`] | the watchdog started; the last poll; with its budget used up `SCHED` cleared |
/// | [`DeferredStop::PollThenWatchdog`] | the last poll; with its budget used up `SCHED` cleared, then the watchdog started |
/// | [`DeferredStop::WatchdogOnly`] | `SCHED` cleared, then the watchdog started; the device is left as it is |
///
/// In the first form a watchdog that runs out during the last poll finds `SCHED` set and does
/// nothing; if that poll then uses up its budget, nothing polls again.
///
/// Models `busy_poll_stop()`. The first form has been compared with running kernels; the others are
/// from reading the commits.
pub fn busy_poll_stop<N: Napi>(napi: &N, form: DeferredStop, prefer: bool) {
    let (word, bits) = (napi.word(), napi.bits());
    word.clear(bits.missed_mask());
    word.clear(bits.in_busy_poll_mask());
    let deferred = prefer && defer(napi);
    let give_up = || {
        napi.gro_flush(false);
        word.clear(bits.sched_mask());
    };
    if deferred && form == DeferredStop::WatchdogOnly {
        give_up();
        napi.start_watchdog();
        return;
    }
    if deferred && form == DeferredStop::WatchdogThenPoll {
        napi.start_watchdog();
    }
    if napi.poll(BUSY_POLL_BUDGET) < BUSY_POLL_BUDGET {
        return;
    }
    if !deferred {
        napi.schedule_poll();
        return;
    }
    give_up();
    if form == DeferredStop::PollThenWatchdog {
        napi.start_watchdog();
    }
}

/// Begins to defer interrupts, if the settings say so.
fn defer<N: Napi>(napi: &N) -> bool {
    napi.set_deferrals(napi.defer_hard_irqs());
    napi.deferrals() > 0 && napi.gro_flush_timeout()
}

/// Waits until nobody owns the instance, and keeps it. Process context; sleeps.
///
/// | step | word |
/// |---|---|
/// | 1 | `DISABLE` set |
/// | 2 | as soon as `SCHED` and `NPSVC` are both clear: both set, `THREADED` and `PREFER_BUSY_POLL` cleared, in one transaction |
/// | 3 | `DISABLE` cleared |
///
/// Models `napi_disable()` since 5.15.
pub fn disable<N: Napi>(napi: &N) {
    let (word, bits) = (napi.word(), napi.bits());
    let (held, gone) = (
        bits.sched_mask() | bits.npsvc_mask(),
        bits.threaded_mask() | bits.prefer_busy_poll_mask(),
    );
    word.set(bits.disable_mask());
    while word.transact(|before| (before & held == 0).then_some((before | held) & !gone)) & held
        != 0
    {
        napi.relax();
    }
    napi.cancel_watchdog();
    word.clear(bits.disable_mask());
}

/// Gives a disabled instance free, polled by its thread when `threaded`. `MISSED` survives, and
/// costs one poll. Any context, until 7.3, where it may sleep. `SCHED` and `NPSVC` go together, so
/// an interrupt that takes the instance can complete it. Models `napi_enable()` since 5.15.
///
/// # Panics
/// When the instance is not disabled, as the kernel does.
pub fn enable<N: Napi>(napi: &N, threaded: bool) {
    let bits = napi.bits();
    let before = napi.word().transact(|before| {
        let free = before & !(bits.sched_mask() | bits.npsvc_mask());
        Some(if threaded { free | bits.threaded_mask() } else { free })
    });
    assert!(before & bits.sched_mask() != 0, "enabling an instance that is not disabled");
}

#[cfg(test)]
mod tests;

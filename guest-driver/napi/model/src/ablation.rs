// SPDX-License-Identifier: GPL-2.0-only
//! The fix with one clause taken away or done otherwise. Each is what it is called, and the rest is
//! Linux 4.11.

use napi_state::{Bits, Napi, Word, v4_10, v4_11};

use crate::protocol::Protocol;

/// `napi_schedule_prep()` does not set `MISSED`.
#[derive(Debug)]
pub struct PrepSetsNoMissed;

impl Protocol for PrepSetsNoMissed {
    const NAME: &'static str = "4.11, napi_schedule_prep() of 4.10.0";

    fn schedule_prep(word: &impl Word) -> bool {
        v4_10::schedule_prep(word, Self::BITS)
    }
}

/// `napi_complete_done()` clears `MISSED` and does not poll again for it.
#[derive(Debug)]
pub struct CompleteIgnoresMissed;

impl Protocol for CompleteIgnoresMissed {
    const NAME: &'static str = "4.11, MISSED not honoured";

    fn complete_done(napi: &impl Napi, _work_done: u32) -> bool {
        let (word, bits) = (napi.word(), napi.bits());
        if word.read() & (bits.npsvc_mask() | bits.in_busy_poll_mask()) != 0 {
            return false;
        }
        // The watchdog is of no account here: the model that this is for has no GRO.
        assert!(!napi.gro_held(), "not made for GRO");
        word.transact(|before| Some(before & !(bits.missed_mask() | bits.sched_mask())));
        true
    }
}

/// `napi_complete_done()` looks at `MISSED` and clears `SCHED` in two operations.
#[derive(Debug)]
pub struct CompleteInTwoSteps;

impl Protocol for CompleteInTwoSteps {
    const NAME: &'static str = "4.11, napi_complete_done() in two steps";

    fn complete_done(napi: &impl Napi, work_done: u32) -> bool {
        let (word, bits) = (napi.word(), napi.bits());
        if word.read() & (bits.npsvc_mask() | bits.in_busy_poll_mask()) != 0 {
            return false;
        }
        if word.test_and_clear(bits.missed_mask()) {
            napi.schedule_poll();
            return false;
        }
        v4_10::complete_done(napi, work_done)
    }
}

/// `napi_schedule_prep()` tries to take `SCHED` and sets `MISSED` in two operations.
#[derive(Debug)]
pub struct PrepInTwoSteps;

impl Protocol for PrepInTwoSteps {
    const NAME: &'static str = "4.11, napi_schedule_prep() in two steps";

    fn schedule_prep(word: &impl Word) -> bool {
        let bits = Self::BITS;
        if bits.disable_pending(word) {
            return false;
        }
        let taken = !word.test_and_set(bits.sched_mask());
        if !taken {
            word.set(bits.missed_mask());
        }
        taken
    }
}

/// `napi_watchdog()` takes the instance as an interrupt does, and so sets `MISSED`.
#[derive(Debug)]
pub struct WatchdogSetsMissed;

impl Protocol for WatchdogSetsMissed {
    const NAME: &'static str = "4.11, napi_watchdog() by napi_schedule()";

    fn watchdog(napi: &impl Napi) {
        v4_11::schedule(napi);
    }
}

/// `busy_poll_stop()` does not clear `MISSED`.
#[derive(Debug)]
pub struct StopKeepsMissed;

impl Protocol for StopKeepsMissed {
    const NAME: &'static str = "4.11, busy_poll_stop() keeps MISSED";

    fn busy_poll(napi: &impl Napi, _prefer: bool, done: impl FnMut() -> bool) {
        v4_10::busy_poll(napi, done);
    }
}

/// `napi_schedule_prep()` takes `SCHED` first, and then looks whether a disable is pending. In
/// 4.10.0's form, whose order of the two tests the fix keeps.
#[derive(Debug)]
pub struct DisableTestedAfterSched;

impl Protocol for DisableTestedAfterSched {
    const NAME: &'static str = "4.10.0, DISABLE tested after SCHED";
    const BITS: Bits = Bits::LINUX_4_10;

    fn schedule_prep(word: &impl Word) -> bool {
        !word.test_and_set(Self::BITS.sched_mask()) && !Self::BITS.disable_pending(word)
    }
    fn complete_done(napi: &impl Napi, work_done: u32) -> bool {
        v4_10::complete_done(napi, work_done)
    }
}

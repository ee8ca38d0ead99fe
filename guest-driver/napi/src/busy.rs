// SPDX-License-Identifier: GPL-2.0-only
//! The busy-poll loop: `sk_busy_loop()`, since 4.12 `napi_busy_loop()`.

use crate::{BUSY_POLL_BUDGET, Bits, Napi, Word};

/// Tries to take the instance for a busy loop.
///
/// | before | after | returns |
/// |---|---|---|
/// | any of `DISABLE`, `SCHED`, `IN_BUSY_POLL` | unchanged | false |
/// | none of them | `SCHED` and `IN_BUSY_POLL` set | true |
/// | somebody changed the word meanwhile | as they left it | false: the loop comes back |
///
/// Nobody tells the device: an interrupt that is armed stays armed, and may fire at any time from
/// now on. That is how a busy poller comes to own an instance whose interrupt is alive. Process
/// context, bottom halves off.
#[inline]
pub fn take(word: &impl Word, bits: Bits) -> bool {
    let before = word.read();
    let taken = bits.disable_mask() | bits.sched_mask() | bits.in_busy_poll_mask();
    before & taken == 0
        && word
            .compare_exchange(before, before | bits.in_busy_poll_mask() | bits.sched_mask())
            .is_ok()
}

/// The loop: takes the instance as soon as `take` succeeds, polls until `done`, and gives the
/// instance back by `stop`.
///
/// `done` is asked after every turn, so one poll is the least that a loop that got the instance
/// does.
pub(crate) fn run<N: Napi>(
    napi: &N,
    take: impl Fn() -> bool,
    mut done: impl FnMut() -> bool,
    stop: impl FnOnce(),
) {
    let mut ours = false;
    loop {
        ours = ours || take();
        if ours {
            napi.poll(BUSY_POLL_BUDGET);
        }
        if done() {
            break;
        }
        napi.relax();
    }
    if ours {
        stop();
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The protocols under check: those of `napi-state`, by one trait.

use napi_state::v6_1::{self, DeferredStop};
use napi_state::{Bits, Napi, Word, v4_10, v4_11};

/// One kernel's protocol. Unless overridden, the functions are those of Linux 4.11, so that a
/// protocol with one clause changed is one function.
pub trait Protocol: Send + Sync + 'static {
    /// What to call it.
    const NAME: &'static str;
    /// Where its bits are.
    const BITS: Bits = Bits::LINUX_4_11;

    /// `napi_schedule_prep()`.
    fn schedule_prep(word: &impl Word) -> bool {
        v4_11::schedule_prep(word, Self::BITS)
    }

    /// `napi_schedule()`.
    fn schedule(napi: &impl Napi) {
        if Self::schedule_prep(napi.word()) {
            napi.schedule_poll();
        }
    }

    /// `napi_complete_done()`.
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        v4_11::complete_done(napi, work)
    }

    /// `napi_watchdog()`.
    fn watchdog(napi: &impl Napi) {
        v4_11::watchdog(napi);
    }

    /// `napi_busy_loop()`; `prefer` is `SO_PREFER_BUSY_POLL`, where the kernel has it.
    fn busy_poll(napi: &impl Napi, prefer: bool, done: impl FnMut() -> bool) {
        let _ = prefer;
        v4_11::busy_poll(napi, done);
    }

    /// `napi_disable()`.
    fn disable(napi: &impl Napi) {
        v4_11::disable(napi);
    }

    /// `napi_enable()`.
    fn enable(napi: &impl Napi) {
        v4_11::enable(napi);
    }
}

/// Linux 4.10.0.
#[derive(Debug)]
pub struct V4_10;

impl Protocol for V4_10 {
    const NAME: &'static str = "pre-fix (4.10.0)";
    const BITS: Bits = Bits::LINUX_4_10;

    fn schedule_prep(word: &impl Word) -> bool {
        v4_10::schedule_prep(word, Self::BITS)
    }
    fn schedule(napi: &impl Napi) {
        v4_10::schedule(napi);
    }
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        v4_10::complete_done(napi, work)
    }
    fn watchdog(napi: &impl Napi) {
        v4_10::watchdog(napi);
    }
    fn busy_poll(napi: &impl Napi, _prefer: bool, done: impl FnMut() -> bool) {
        v4_10::busy_poll(napi, done);
    }
    fn disable(napi: &impl Napi) {
        v4_10::disable(napi);
    }
    fn enable(napi: &impl Napi) {
        v4_10::enable(napi);
    }
}

/// Linux 4.11.
#[derive(Debug)]
pub struct V4_11;

impl Protocol for V4_11 {
    const NAME: &'static str = "fixed (4.11)";

    fn schedule(napi: &impl Napi) {
        v4_11::schedule(napi);
    }
}

/// Linux 6.1 and 6.12, before 58e2330bd455.
#[derive(Debug)]
pub struct V6_1;

impl Protocol for V6_1 {
    const NAME: &'static str = "6.1";
    const BITS: Bits = Bits::LINUX_6_1;

    fn schedule_prep(word: &impl Word) -> bool {
        v6_1::schedule_prep(word, Self::BITS)
    }
    fn schedule(napi: &impl Napi) {
        v6_1::schedule(napi);
    }
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        v6_1::complete_done(napi, work)
    }
    fn watchdog(napi: &impl Napi) {
        v6_1::watchdog(napi);
    }
    fn busy_poll(napi: &impl Napi, prefer: bool, done: impl FnMut() -> bool) {
        v6_1::busy_poll(napi, DeferredStop::WatchdogThenPoll, prefer, done);
    }
    fn disable(napi: &impl Napi) {
        v6_1::disable(napi);
    }
    fn enable(napi: &impl Napi) {
        v6_1::enable(napi, false);
    }
}

/// Linux 6.1 and later with 58e2330bd455, which stable kernels have: as 6.1 but for the end of a
/// preferred busy loop.
#[derive(Debug)]
pub struct V6_1PollThenWatchdog;

impl Protocol for V6_1PollThenWatchdog {
    const NAME: &'static str = "6.1 with 58e2330bd455";
    const BITS: Bits = Bits::LINUX_6_1;

    fn schedule_prep(word: &impl Word) -> bool {
        V6_1::schedule_prep(word)
    }
    fn schedule(napi: &impl Napi) {
        V6_1::schedule(napi);
    }
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        V6_1::complete_done(napi, work)
    }
    fn watchdog(napi: &impl Napi) {
        V6_1::watchdog(napi);
    }
    fn busy_poll(napi: &impl Napi, prefer: bool, done: impl FnMut() -> bool) {
        v6_1::busy_poll(napi, DeferredStop::PollThenWatchdog, prefer, done);
    }
    fn disable(napi: &impl Napi) {
        V6_1::disable(napi);
    }
    fn enable(napi: &impl Napi) {
        V6_1::enable(napi);
    }
}

/// Linux 7.3: as 6.1 but for the end of a busy loop.
#[derive(Debug)]
pub struct V7_3;

impl Protocol for V7_3 {
    const NAME: &'static str = "7.3";
    const BITS: Bits = Bits::LINUX_6_1;

    fn schedule_prep(word: &impl Word) -> bool {
        V6_1::schedule_prep(word)
    }
    fn schedule(napi: &impl Napi) {
        V6_1::schedule(napi);
    }
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        V6_1::complete_done(napi, work)
    }
    fn watchdog(napi: &impl Napi) {
        V6_1::watchdog(napi);
    }
    fn busy_poll(napi: &impl Napi, prefer: bool, done: impl FnMut() -> bool) {
        v6_1::busy_poll(napi, DeferredStop::WatchdogOnly, prefer, done);
    }
    fn disable(napi: &impl Napi) {
        V6_1::disable(napi);
    }
    fn enable(napi: &impl Napi) {
        V6_1::enable(napi);
    }
}

/// What the experiments run: 6.1 with the `napi_schedule_prep()` of 4.10.0, by the driver's `v4_10`
/// mode or by the livepatch.
#[derive(Debug)]
pub struct V4_10PrepOn6_1;

impl Protocol for V4_10PrepOn6_1 {
    const NAME: &'static str = "6.1, napi_schedule_prep() of 4.10.0";
    const BITS: Bits = Bits::LINUX_6_1;

    fn schedule_prep(word: &impl Word) -> bool {
        v4_10::schedule_prep(word, Self::BITS)
    }
    fn complete_done(napi: &impl Napi, work: u32) -> bool {
        V6_1::complete_done(napi, work)
    }
    fn watchdog(napi: &impl Napi) {
        V6_1::watchdog(napi);
    }
    fn busy_poll(napi: &impl Napi, prefer: bool, done: impl FnMut() -> bool) {
        V6_1::busy_poll(napi, prefer, done);
    }
    fn disable(napi: &impl Napi) {
        V6_1::disable(napi);
    }
    fn enable(napi: &impl Napi) {
        V6_1::enable(napi);
    }
}

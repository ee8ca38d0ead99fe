// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model that the kernel is compared with: the crate `napi-state`, and around it what the
//! module has around the kernel's word.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use napi_state::v6_1::{self, DeferredStop};
use napi_state::{BUSY_POLL_BUDGET, Bits, Napi, v4_10};

use super::step::{
    HELD, POLL_COMPLETED, POLL_WATCHDOG, POLLS, Poll, QUEUED, RETURNED, Seen, Settings, Step,
    WATCHDOG,
};

/// A NAPI instance in the hands of one thread.
#[derive(Debug)]
pub struct Model {
    word: AtomicUsize,
    deferred_stop: DeferredStop,
    settings: Cell<Settings>,
    deferrals: Cell<u32>,
    watchdog: Cell<bool>,
    enabled: Cell<bool>,
    queued: Cell<bool>,
    /// What the polls of the running step do.
    polls: Cell<Option<[Poll; POLLS]>>,
    /// What is seen of them.
    seen: Cell<Seen>,
}

/// What decides the outcome of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The state word.
    pub word: usize,
    /// What surrounds it.
    pub settings: Settings,
    /// Completions that will leave the device silent.
    pub deferrals: u32,
    /// The watchdog is running.
    pub watchdog: bool,
    /// It was enabled later than disabled.
    pub enabled: bool,
    /// How a preferred busy loop ends while interrupts are deferred.
    pub deferred_stop: DeferredStop,
}

impl Model {
    /// Where the bits of its word are.
    pub const BITS: Bits = Bits::LINUX_6_1;

    /// An idle instance with this word, of a kernel whose busy loops end like that.
    pub fn new(word: usize, deferred_stop: DeferredStop) -> Self {
        Self {
            word: AtomicUsize::new(word),
            deferred_stop,
            settings: Cell::default(),
            deferrals: Cell::default(),
            watchdog: Cell::default(),
            enabled: Cell::new(true),
            queued: Cell::default(),
            polls: Cell::default(),
            seen: Cell::default(),
        }
    }

    /// How things are.
    pub fn situation(&self) -> Situation {
        Situation {
            word: self.word.load(Ordering::Relaxed),
            settings: self.settings.get(),
            deferrals: self.deferrals.get(),
            watchdog: self.watchdog.get(),
            enabled: self.enabled.get(),
            deferred_stop: self.deferred_stop,
        }
    }

    /// Carries a step out. The step is permitted ([`super::draw::permitted`]).
    pub fn step(&self, step: Step) -> Seen {
        self.seen.set(Seen::default());
        let (word, bits) = (&self.word, Self::BITS);
        let mut returned = false;
        match step {
            Step::Look => {}
            Step::Prep => returned = v6_1::schedule_prep(word, bits),
            Step::V4_10 => returned = v4_10::schedule_prep(word, bits),
            Step::Schedule => v6_1::schedule(self),
            Step::Queue => self.schedule_poll(),
            Step::Missed => returned = v6_1::if_scheduled_mark_missed(word, bits),
            Step::Complete { work } => returned = v6_1::complete_done(self, work.into()),
            Step::Watchdog => {
                self.watchdog.set(false);
                v6_1::watchdog(self);
            }
            Step::Busy { prefer, polls } => {
                self.polls.set(Some(polls));
                v6_1::busy_poll(self, self.deferred_stop, prefer, || true);
                self.polls.set(None);
            }
            Step::Disable => {
                v6_1::disable(self);
                self.enabled.set(false);
            }
            Step::Enable => {
                v6_1::enable(self, self.settings.get().threaded);
                self.enabled.set(true);
            }
            Step::Set(mask) => _ = word.fetch_or(mask.into(), Ordering::Relaxed),
            Step::Clear(mask) => _ = word.fetch_and(!usize::from(mask), Ordering::Relaxed),
            Step::Settings(settings) => self.settings.set(settings),
        }
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Seen {
            word: self.word.load(Ordering::Relaxed) as u64,
            deferrals: self.deferrals.get(),
            flags: flag(returned, RETURNED)
                | flag(self.queued.take(), QUEUED)
                | flag(self.watchdog.get(), WATCHDOG)
                | flag(self.gro_held(), HELD),
            ..self.seen.get()
        }
    }

    fn hold(&self, held: bool) {
        self.settings.set(Settings { held, ..self.settings.get() });
    }
}

impl Napi for Model {
    type Word = AtomicUsize;

    fn word(&self) -> &AtomicUsize {
        &self.word
    }

    fn bits(&self) -> Bits {
        Self::BITS
    }

    fn schedule_poll(&self) {
        if !v6_1::hand_to_thread(&self.word, Self::BITS) {
            self.queued.set(true);
        }
    }

    fn poll(&self, budget: u32) -> u32 {
        debug_assert_eq!(budget, BUSY_POLL_BUDGET);
        let mut seen = self.seen.get();
        let index = usize::from(seen.polls);
        // A model that polls more often than the kernel is found out by `polls`.
        let script = self.polls.get().and_then(|polls| polls.get(index).copied());
        seen.polls = seen.polls.saturating_add(1);
        let Some(poll) = script else {
            self.seen.set(seen);
            return 0;
        };
        seen.poll_word[index] = self.word.load(Ordering::Relaxed) as u64;
        if self.watchdog.get() {
            seen.poll_flags[index] |= POLL_WATCHDOG;
        }
        if poll.held {
            self.hold(true);
        }
        if poll.irq_before {
            v6_1::schedule(self);
        }
        let work = u32::from(poll.work);
        if work < budget {
            if v6_1::complete_done(self, work) {
                seen.poll_flags[index] |= POLL_COMPLETED;
            }
            if poll.irq_after {
                v6_1::schedule(self);
            }
        }
        self.seen.set(seen);
        work
    }

    fn start_watchdog(&self) {
        self.watchdog.set(true);
    }

    fn cancel_watchdog(&self) {
        self.watchdog.set(false);
    }

    fn relax(&self) {
        unreachable!("the only thread waits for another: the step was not permitted");
    }

    fn gro_held(&self) -> bool {
        self.settings.get().held
    }

    fn gro_flush(&self, _only_old: bool) {
        // The module holds no packet that could be too young.
        self.hold(false);
    }

    fn gro_flush_timeout(&self) -> bool {
        self.settings.get().timeout
    }

    fn defer_hard_irqs(&self) -> u32 {
        self.settings.get().defer_hard_irqs.into()
    }

    fn deferrals(&self) -> u32 {
        self.deferrals.get()
    }

    fn set_deferrals(&self, deferrals: u32) {
        self.deferrals.set(deferrals);
    }
}

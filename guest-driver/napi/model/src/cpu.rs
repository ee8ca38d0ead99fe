// SPDX-License-Identifier: GPL-2.0-only
//! A CPU on which something runs that may own the instance: the kernel's and the driver's code,
//! around the protocol.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use napi_state::{Bits, Napi, Word};

use crate::device::Device;
use crate::protocol::Protocol;
use crate::runtime::{Atomic, Exclusive, Runtime};
use crate::scenario::{Detector, Machine, Order, Owner};
use crate::trace::{Event, Who};
use crate::world::World;

/// Budget of a poll in softirq, in packets times [`crate::scenario::Scenario::weight`].
const SOFTIRQ_BUDGET: u32 = napi_state::BUSY_POLL_BUDGET;

/// The loop itself only sets bits: the first that is cleared is the stop's.
const BUSY_LOOP: &str = "busy polling";

/// `napi_disable()` was waiting for something that cannot happen any more.
struct Stuck;

/// A CPU. Its softirq polls what was scheduled on it.
pub struct Cpu<R: Runtime, P: Protocol> {
    world: Arc<World<R>>,
    who: Who,
    /// The instance is in this CPU's poll list.
    listed: Cell<bool>,
    /// The function of the kernel that runs.
    function: Cell<&'static str>,
    /// In `napi_disable()`: how often it has looked since everybody else was gone.
    waits: Cell<Option<u32>>,
    protocol: PhantomData<P>,
}

impl<R: Runtime, P: Protocol> Cpu<R, P> {
    /// An idle one.
    pub fn new(world: &Arc<World<R>>, who: Who) -> Self {
        let (world, listed, function) = (Arc::clone(world), Cell::default(), Cell::new(""));
        Self { world, who, listed, function, waits: Cell::default(), protocol: PhantomData }
    }

    /// Does what such an owner does, to the end.
    pub fn own(&self, owner: Owner) {
        match owner {
            Owner::BusyPoll { turns } => {
                let mut left = turns;
                let done = || {
                    left -= 1;
                    left == 0
                };
                self.call(BUSY_LOOP, || {
                    P::busy_poll(self, self.world.scenario.settings.prefer_busy_poll, done);
                });
            }
            Owner::Watchdog => self.call("napi_watchdog()", || P::watchdog(self)),
            Owner::Driver { times } => {
                for _ in 0..times {
                    self.call("napi_schedule()", || P::schedule(self));
                    self.softirq();
                }
            }
            Owner::Disable { reopen } => {
                if self.disable() && reopen {
                    self.call("napi_enable()", || P::enable(self));
                    self.call("napi_schedule()", || P::schedule(self));
                }
            }
        }
        self.softirq();
    }

    /// The device's interrupt. The handler is the driver's: `napi_schedule_prep()` and, if that
    /// returns true, `__napi_schedule()`.
    pub fn interrupt(&self) {
        let fired = self.page(|device| device.fired());
        let taken = self.call("napi_schedule_prep()", || P::schedule_prep(self));
        self.note(Event::Handled { taken });
        if let Some(fired) = fired {
            self.page(|device| {
                device.interrupt_seen(fired, taken);
                self.note(Event::Seen(fired.0));
            });
        }
        if taken {
            self.schedule_poll();
        }
        self.softirq();
    }

    /// The watchdog's interrupt.
    pub fn watchdog(&self) {
        self.call("napi_watchdog()", || P::watchdog(self));
        self.softirq();
    }

    /// `net_rx_action()`: polls what was scheduled here. A poll that used up its budget is
    /// repeated, unless a disable is pending, which gets the instance instead.
    fn softirq(&self) {
        while self.listed.take() {
            if self.poll_from(true, SOFTIRQ_BUDGET) == SOFTIRQ_BUDGET {
                if P::BITS.disable_pending(self) {
                    let arm = self.call("napi_complete()", || P::complete_done(self, 0));
                    self.note(Event::Completed { arm });
                } else {
                    self.listed.set(true);
                }
            }
        }
    }

    /// `napi_disable()`; false when it cannot return.
    fn disable(&self) -> bool {
        self.waits.set(Some(0));
        let done =
            catch_unwind(AssertUnwindSafe(|| self.call("napi_disable()", || P::disable(self))));
        self.waits.set(None);
        let event = match done {
            Ok(()) => Event::Disabled,
            Err(cause) if cause.is::<Stuck>() => Event::Stuck,
            Err(cause) => resume_unwind(cause),
        };
        self.note(event);
        event == Event::Disabled
    }

    /// The driver's poll.
    fn poll_from(&self, scheduled: bool, budget: u32) -> u32 {
        let world = &self.world;
        let weight = world.scenario.weight;
        let (mut number, mut ci, mut work) = (0, 0, 0);
        world.ring.with(|| {
            number = world.polls.fetch_add(1, Ordering::Relaxed) + 1;
            self.page(Device::poll_begins);
            self.note(Event::PollBegins { scheduled });
            ci = world.consumed.load(Ordering::Relaxed);
            while work < budget {
                let ready = self.used() - ci;
                let packets = ready.min((budget - work) / weight);
                if packets == 0 {
                    self.note(Event::Empty);
                    break;
                }
                ci += packets;
                work += packets * weight;
                self.note(Event::Consumed { packets, ci });
            }
            world.consumed.store(ci, Ordering::Relaxed);
            self.page(Device::poll_ends);
        });
        if work == budget {
            self.note(Event::Exhausted);
        } else {
            self.finish(number, ci, work);
        }
        work
    }

    /// The end of the poll of that number, which emptied the ring.
    fn finish(&self, number: u32, ci: u32, work: u32) {
        let complete = || {
            let arm = self.call("napi_complete_done()", || P::complete_done(self, work));
            self.note(Event::Completed { arm });
            arm
        };
        match self.world.scenario.order {
            Order::CompleteThenArm => {
                if complete() {
                    self.arm(number);
                }
            }
            Order::ArmThenComplete { recheck } => {
                self.arm(number);
                if complete() && recheck && self.used() != ci {
                    self.call("napi_schedule()", || P::schedule(self));
                }
            }
        }
    }

    /// The arm of the poll of that number. An interrupt that it brings about is raised at once, and
    /// comes when it comes. The device reads `ci` from the page: when two polls overlap, the arm
    /// that lands last carries the later one, whichever it is.
    fn arm(&self, number: u32) {
        let irq_seen = match self.world.scenario.detector {
            Some(Detector::ArmWithIrqSeen) => self.page(|device| device.irq_seen()),
            Some(Detector::ArmWithoutIrqSeen) | None => None,
        };
        let fired = self.world.device(0, |device| {
            let ci = self.world.consumed.load(Ordering::Relaxed);
            let ci = self.world.scenario.arm_with_ci.then_some(ci);
            device.arm(number, ci, irq_seen);
            self.note(Event::Armed { ci, irq_seen: irq_seen.map(|seen| seen.0) });
            self.world.note_fire(device)
        });
        if fired {
            raise::<R, P>(&self.world);
        }
    }

    /// An access to the page, as a step of the device, where the scenario has a page.
    fn page<U>(&self, access: impl FnOnce(&mut Device) -> U) -> Option<U> {
        self.world.scenario.detector.map(|_| self.world.device(0, access))
    }

    /// The ring's used index.
    fn used(&self) -> u32 {
        let used = match self.world.scenario.machine {
            Machine::X86 => self.world.used.load(Ordering::SeqCst),
            Machine::Weak | Machine::WeakOrderedClears => self.world.used.load(Ordering::Acquire),
        };
        used as u32
    }

    fn call<U>(&self, function: &'static str, body: impl FnOnce() -> U) -> U {
        let caller = self.function.replace(function);
        let result = body();
        self.function.set(caller);
        result
    }

    fn note(&self, event: Event) {
        self.world.trace.add(self.who, event);
    }

    fn note_word(&self, before: usize, after: usize) {
        self.note(Event::Word { function: self.function.get(), before, after });
    }

    /// The order of an operation that the kernel asks none of.
    fn unordered(&self) -> Ordering {
        match self.world.scenario.machine {
            Machine::X86 => Ordering::SeqCst,
            Machine::Weak | Machine::WeakOrderedClears => Ordering::Relaxed,
        }
    }

    fn or(&self, mask: usize, order: Ordering) -> usize {
        let before = self.world.state.or(mask, order);
        self.note_word(before, before | mask);
        before
    }

    fn clear_in_loop(&self) {
        if self.function.get() == BUSY_LOOP {
            self.function.set("busy_poll_stop()");
        }
    }

    fn and_not(&self, mask: usize, order: Ordering) -> usize {
        let before = self.world.state.and(!mask, order);
        self.note_word(before, before & !mask);
        before
    }
}

/// An interrupt is under way: its handler runs in a thread of its own, at any time from now on,
/// beside everything else.
pub fn raise<R: Runtime, P: Protocol>(world: &Arc<World<R>>) {
    world.start(handler::<R, P>(world));
}

/// The next run of the interrupt handler.
pub fn handler<R: Runtime, P: Protocol>(
    world: &World<R>,
) -> impl FnOnce(&Arc<World<R>>) + Send + 'static {
    let number = world.raised.fetch_add(1, Ordering::Relaxed);
    move |world| Cpu::<R, P>::new(world, Who::Interrupt(number)).interrupt()
}

/// The watchdog is started: it runs at any time from now on. It is one timer: started again before
/// it has run, it runs once.
fn start_watchdog<R: Runtime, P: Protocol>(world: &Arc<World<R>>) {
    if world.timer.or(1, Ordering::SeqCst) == 0 {
        let number = world.timers.fetch_add(1, Ordering::Relaxed);
        world.start(move |world| {
            world.timer.and(0, Ordering::SeqCst);
            Cpu::<R, P>::new(world, Who::Timer(number)).watchdog();
        });
    }
}

impl<R: Runtime, P: Protocol> Napi for Cpu<R, P> {
    type Word = Self;

    fn word(&self) -> &Self {
        self
    }

    fn bits(&self) -> Bits {
        P::BITS
    }

    fn schedule_poll(&self) {
        assert!(!self.listed.replace(true), "one instance twice in a poll list");
    }

    fn poll(&self, budget: u32) -> u32 {
        self.poll_from(false, budget)
    }

    fn start_watchdog(&self) {
        start_watchdog::<R, P>(&self.world);
    }

    /// Only a disable waits. Once nobody else is left, what it waits for cannot happen: it looks
    /// once more, and that is that.
    fn relax(&self) {
        let Some(waits) = self.waits.get() else { return };
        if self.world.running.load(Ordering::Relaxed) > 1 {
            R::yield_now();
        } else if waits == 0 {
            self.waits.set(Some(1));
        } else {
            resume_unwind(Box::new(Stuck));
        }
    }

    fn gro_held(&self) -> bool {
        self.world.scenario.settings.gro_held
    }

    fn gro_flush_timeout(&self) -> bool {
        self.world.scenario.settings.gro_flush_timeout
    }

    fn defer_hard_irqs(&self) -> u32 {
        self.world.scenario.settings.defer_hard_irqs
    }

    fn deferrals(&self) -> u32 {
        self.world.deferrals.load(Ordering::Relaxed)
    }

    fn set_deferrals(&self, deferrals: u32) {
        self.world.deferrals.store(deferrals, Ordering::Relaxed);
    }
}

impl<R: Runtime, P: Protocol> Word for Cpu<R, P> {
    /// On x86 a load is as recent as the last locked instruction, and orders what follows: here an
    /// operation that changes nothing.
    fn read(&self) -> usize {
        match self.world.scenario.machine {
            Machine::X86 => self.world.state.load(Ordering::SeqCst),
            Machine::Weak | Machine::WeakOrderedClears => self.world.state.load(Ordering::Relaxed),
        }
    }

    fn set(&self, mask: usize) {
        self.or(mask, self.unordered());
    }

    fn clear(&self, mask: usize) {
        self.clear_in_loop();
        let ordered = self.world.scenario.machine == Machine::WeakOrderedClears;
        self.and_not(mask, if ordered { Ordering::SeqCst } else { self.unordered() });
    }

    fn test_and_set(&self, mask: usize) -> bool {
        self.or(mask, Ordering::SeqCst) & mask != 0
    }

    fn test_and_clear(&self, mask: usize) -> bool {
        self.and_not(mask, Ordering::SeqCst) & mask != 0
    }

    fn compare_exchange(&self, current: usize, new: usize) -> Result<usize, usize> {
        let result = self.world.state.compare_exchange(current, new);
        if result.is_ok() {
            self.note_word(current, new);
        }
        result
    }
}

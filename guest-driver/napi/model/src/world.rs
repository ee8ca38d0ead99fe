// SPDX-License-Identifier: GPL-2.0-only
//! One NAPI instance, its device and its ring, and what is to be true of them in the end.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::cpu::Cpu;
use crate::device::Device;
use crate::protocol::Protocol;
use crate::runtime::{Atomic, Runtime};
use crate::scenario::{Owner, Scenario};
use crate::trace::{Event, Trace, Who};
use crate::verdict::{Execution, Violation};

/// The world. What the checker must interleave is of the checker's types; what belongs to the owner
/// of `SCHED`, or only to the bookkeeping, is not.
pub struct World<R: Runtime, P: Protocol> {
    /// What is modelled.
    pub scenario: Scenario,
    /// `napi_struct::state`.
    pub state: R::Atomic,
    /// The ring's used index, widened. Every step of the device is an operation on it.
    pub used: R::Atomic,
    device: Mutex<Device>,
    /// The driver's side of the ring: the owner's alone.
    pub ring: R::Exclusive,
    /// Packets the driver has consumed. Written by whoever has [`Self::ring`].
    pub consumed: AtomicU32,
    /// `defer_hard_irqs_count`, the owner's.
    pub deferrals: AtomicU32,
    /// What happened.
    pub trace: Trace,
    /// Threads that have not ended.
    pub running: AtomicUsize,
    /// 1: the watchdog's timer is started.
    timer: R::Atomic,
    threads: Mutex<Vec<R::Thread>>,
    raised: AtomicUsize,
    timers: AtomicUsize,
    protocol: PhantomData<P>,
}

impl<R: Runtime, P: Protocol> World<R, P> {
    fn new(scenario: Scenario) -> Self {
        // To loom a first value is not part of the sequentially consistent order, so without these
        // a load could go back to it.
        let state = R::Atomic::new(0);
        state.or(0, Ordering::SeqCst);
        let used = R::Atomic::new(scenario.waiting as usize);
        used.add(0, Ordering::SeqCst);
        Self {
            scenario,
            state,
            used,
            device: Mutex::new(Device::new(scenario.device, scenario.waiting, scenario.armed)),
            ring: R::Exclusive::default(),
            consumed: AtomicU32::new(0),
            deferrals: AtomicU32::new(0),
            trace: Trace::default(),
            running: AtomicUsize::new(0),
            timer: R::Atomic::new(0),
            threads: Mutex::default(),
            raised: AtomicUsize::new(0),
            timers: AtomicUsize::new(0),
            protocol: PhantomData,
        }
    }

    /// Runs one execution from beginning to end, inside a checker, and judges it.
    #[must_use]
    pub fn run(scenario: Scenario) -> Execution {
        let world = Arc::new(Self::new(scenario));
        let (first, others) = match scenario.owners.split_first() {
            Some((first, others)) => (Some(*first), others),
            None => (None, [].as_slice()),
        };
        if first.is_some() {
            world.start(Self::device_thread);
        }
        for (number, owner) in (1..).zip(others.iter().copied()) {
            world.start(move |world| Cpu::new(world, Who::Owner(number)).own(owner));
        }
        world.running.fetch_add(1, Ordering::Relaxed);
        match first {
            Some(owner) => Cpu::new(&world, Who::Owner(0)).own(owner),
            None => Self::device_thread(&world),
        }
        world.running.fetch_sub(1, Ordering::Relaxed);
        loop {
            let Some(thread) = world.threads.lock().pop() else { break };
            R::join(thread);
        }
        world.judge()
    }

    /// Starts a thread that the execution waits for.
    fn start(self: &Arc<Self>, body: impl FnOnce(&Arc<Self>) + Send + 'static) {
        self.running.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(self);
        let thread = R::spawn(move || {
            body(&world);
            world.running.fetch_sub(1, Ordering::Relaxed);
        });
        self.threads.lock().push(thread);
    }

    /// The wire: each packet is put into the ring, and later, if one is due then, an interrupt
    /// raised.
    fn device_thread(self: &Arc<Self>) {
        for left in (0..self.scenario.packets).rev() {
            self.device(1, |device| {
                let number = device.publish();
                self.trace.add(Who::Device, Event::Published(number));
            });
            let fired = self.device(0, |device| self.note_fire(device));
            match (fired, left) {
                (false, _) => {}
                // This thread has nothing else to do, so the handler may as well run here.
                (true, 0) => self.handler()(self),
                (true, _) => self.interrupt(),
            }
        }
    }

    /// One step of the device, which does one thing at a time, and publishes `packets` by it.
    ///
    /// The checker sees the operation on the used index; the rest belongs to it, since threads
    /// change only before an operation.
    pub fn device<U>(&self, packets: usize, step: impl FnOnce(&mut Device) -> U) -> U {
        self.used.add(packets, Ordering::SeqCst);
        step(&mut self.device.lock())
    }

    /// Takes an interrupt that is due from the device, and writes it down.
    pub fn note_fire(&self, device: &mut Device) -> bool {
        let Some(signaled) = device.fire() else { return false };
        let for_nothing = self.consumed.load(Ordering::Relaxed) == signaled;
        self.trace.add(Who::Device, Event::Raised { signaled, for_nothing });
        true
    }

    /// The interrupt is under way: its handler runs in a thread of its own, at any time from now
    /// on, beside everything else.
    pub fn interrupt(self: &Arc<Self>) {
        self.start(self.handler());
    }

    fn handler(&self) -> impl FnOnce(&Arc<Self>) + Send + 'static {
        let number = self.raised.fetch_add(1, Ordering::Relaxed);
        move |world| Cpu::new(world, Who::Interrupt(number)).interrupt()
    }

    /// The watchdog is started: it runs at any time from now on. It is one timer: started again
    /// before it has run, it runs once.
    pub fn watchdog(self: &Arc<Self>) {
        if self.timer.or(1, Ordering::SeqCst) == 0 {
            let number = self.timers.fetch_add(1, Ordering::Relaxed);
            self.start(move |world| {
                world.timer.and(0, Ordering::SeqCst);
                Cpu::new(world, Who::Timer(number)).watchdog();
            });
        }
    }

    /// Nothing runs any more and nothing is going to. What is wrong?
    fn judge(&self) -> Execution {
        let state = self.state.load(Ordering::SeqCst);
        let events = self.trace.events();
        let owned = state & P::BITS.sched_mask() != 0;
        let down = self
            .scenario
            .owners
            .iter()
            .any(|owner| matches!(owner, Owner::Disable { reopen: false }));
        let left = self.used.load(Ordering::SeqCst) as u32 - self.consumed.load(Ordering::Relaxed);
        let (armed, due, says_lost) =
            self.device(0, |device| (device.armed(), device.due(), device.says_lost()));
        let violation = if events.iter().any(|(_, event)| *event == Event::Stuck) {
            Some(Violation::DisableNeverReturns)
        } else if owned && !down {
            Some(Violation::OwnedByNobody)
        } else if down && !owned {
            Some(Violation::NotDisabled)
        } else if !down && left > 0 && !due {
            Some(Violation::Lost)
        } else if exhausted_and_forgotten(&events) {
            Some(Violation::NotRescheduled)
        } else {
            None
        };
        // The device's own verdict, with which the experiments judge a guest, is about an idle
        // instance whose driver has armed.
        let wrong_verdict = self.scenario.arm_with_ci
            && !owned
            && armed
            && says_lost.is_some_and(|says| says != (left > 0 && !due));
        Execution::new(events, if wrong_verdict { Some(Violation::DeviceWrong) } else { violation })
    }
}

/// A poll that used up its budget was the last thing that anybody did about the ring.
fn exhausted_and_forgotten(events: &[(Who, Event)]) -> bool {
    let last = |wanted: fn(&Event) -> bool| events.iter().rposition(|(_, event)| wanted(event));
    let exhausted = last(|event| *event == Event::Exhausted);
    let seen_to = last(|event| matches!(event, Event::PollBegins { .. } | Event::Completed { .. }));
    exhausted.is_some() && exhausted > seen_to
}

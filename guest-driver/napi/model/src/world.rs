// SPDX-License-Identifier: GPL-2.0-only
//! One NAPI instance, its device and its ring: what threads share. It knows none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::device::Device;
use crate::runtime::{Atomic, Runtime};
use crate::scenario::Scenario;
use crate::trace::{Event, Trace, Who};

/// The world. What the checker must interleave is of the checker's types; what belongs to the owner
/// of `SCHED`, or only to the bookkeeping, is not.
pub struct World<R: Runtime> {
    /// What is modelled.
    pub scenario: Scenario,
    /// `napi_struct::state`.
    pub state: R::Atomic,
    /// The ring's used index, widened. Every step of the device is an operation on it.
    pub used: R::Atomic,
    device: Mutex<Device>,
    /// The driver's side of the ring: the owner's alone.
    pub ring: R::Exclusive,
    /// The page's `ci`: packets the driver has consumed. Written by whoever has [`Self::ring`].
    pub consumed: AtomicU32,
    /// Polls begun. Counted by whoever has [`Self::ring`].
    pub polls: AtomicU32,
    /// `defer_hard_irqs_count`, the owner's.
    pub deferrals: AtomicU32,
    /// What happened.
    pub trace: Trace,
    /// Threads that have not ended.
    pub running: AtomicUsize,
    /// 1: the watchdog's timer is started.
    pub timer: R::Atomic,
    threads: Mutex<Vec<R::Thread>>,
    /// Interrupt handlers started.
    pub raised: AtomicUsize,
    /// Watchdogs started.
    pub timers: AtomicUsize,
}

impl<R: Runtime> World<R> {
    /// Before anything has happened.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
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
            polls: AtomicU32::new(0),
            deferrals: AtomicU32::new(0),
            trace: Trace::default(),
            running: AtomicUsize::new(0),
            timer: R::Atomic::new(0),
            threads: Mutex::default(),
            raised: AtomicUsize::new(0),
            timers: AtomicUsize::new(0),
        }
    }

    /// Starts a thread that the execution waits for.
    pub fn start(self: &Arc<Self>, body: impl FnOnce(&Arc<Self>) + Send + 'static) {
        self.running.fetch_add(1, Ordering::Relaxed);
        let world = Arc::clone(self);
        let thread = R::spawn(move || {
            body(&world);
            world.running.fetch_sub(1, Ordering::Relaxed);
        });
        self.threads.lock().push(thread);
    }

    /// Waits for every thread that was started, those included that others start meanwhile.
    pub fn join(&self) {
        loop {
            let Some(thread) = self.threads.lock().pop() else { break };
            R::join(thread);
        }
    }

    /// One step of the device, which does one thing at a time, and publishes `packets` by it.
    ///
    /// The checker sees the operation on the used index; the rest belongs to it, since threads
    /// change only before an operation.
    pub fn device<U>(&self, packets: usize, step: impl FnOnce(&mut Device) -> U) -> U {
        self.used.add(packets, Ordering::SeqCst);
        let mut device = self.device.lock();
        let result = step(&mut device);
        if self.scenario.detector.is_some() && device.turns_lost() {
            self.trace.add(Who::Device, Event::CallsLost(device.produced()));
        }
        result
    }

    /// Takes an interrupt that is due from the device, and writes it down.
    pub fn note_fire(&self, device: &mut Device) -> bool {
        let Some(signaled) = device.fire() else { return false };
        let for_nothing = self.consumed.load(Ordering::Relaxed) == signaled;
        self.trace.add(Who::Device, Event::Raised { signaled, for_nothing });
        true
    }
}

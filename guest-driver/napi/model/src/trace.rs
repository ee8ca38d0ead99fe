// SPDX-License-Identifier: GPL-2.0-only
//! What happened in one execution, in order.

use parking_lot::Mutex;

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The owner of that number.
    Owner(usize),
    /// The device.
    Device,
    /// The run of the interrupt handler of that number, with the poll that follows it.
    Interrupt(usize),
    /// A watchdog started during the execution, with the poll that follows it.
    Timer(usize),
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation on the state word that sets or clears bits; `before == after` when it found
    /// nothing to do.
    Word {
        /// The function of the kernel it belongs to.
        function: &'static str,
        /// The word before.
        before: usize,
        /// The word after.
        after: usize,
    },
    /// The interrupt handler's `napi_schedule_prep()` returned.
    Handled {
        /// What.
        taken: bool,
    },
    /// The driver's poll begins; not in a busy loop when `scheduled`.
    PollBegins {
        /// It was scheduled: a softirq.
        scheduled: bool,
    },
    /// It has consumed so many packets, and is at `ci`.
    Consumed {
        /// Packets.
        packets: u32,
        /// Packets consumed since the start.
        ci: u32,
    },
    /// It finds nothing (more) in the ring.
    Empty,
    /// It ends with its budget used up.
    Exhausted,
    /// `napi_complete_done()` returned.
    Completed {
        /// What.
        arm: bool,
    },
    /// The driver armed the device.
    Armed {
        /// How far it said it was.
        ci: Option<u32>,
        /// The latest interrupt that its handler had seen, where it said so.
        irq_seen: Option<u32>,
    },
    /// The interrupt handler wrote to the page that it has seen the interrupt of that number.
    Seen(u32),
    /// The device calls the packets up to that number lost, where it did not before.
    CallsLost(u32),
    /// Packet of that number is in the ring.
    Published(u32),
    /// The device raised an interrupt.
    Raised {
        /// Packets it covers, all told.
        signaled: u32,
        /// The driver had consumed them all already.
        for_nothing: bool,
    },
    /// `napi_disable()` returned.
    Disabled,
    /// `napi_disable()` will never return: nobody is left to clear `SCHED`.
    Stuck,
}

/// Events in order. No checker sees it: it takes no part in what is checked.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Vec<(Who, Event)>>);

impl Trace {
    /// Appends.
    pub fn add(&self, who: Who, event: Event) {
        self.0.lock().push((who, event));
    }

    /// All so far.
    #[must_use]
    pub fn events(&self) -> Vec<(Who, Event)> {
        self.0.lock().clone()
    }
}

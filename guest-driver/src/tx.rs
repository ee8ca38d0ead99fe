// SPDX-License-Identifier: GPL-2.0-only
//! The transmit queue: frames out, completions, and the registration, which travels here.
//!
//! It has a NAPI of its own: a transmit completion that polled the receive NAPI would rescue lost
//! packets.

use tsnic_abi::{Counter, Registration};

use crate::behaviour::Behaviour;
use crate::header::{self, Partial};
use crate::registration::{RegistrationState, Returned};
use crate::shared::{Queue, Shared};
use crate::stats::Stat;

/// What the stack asks for with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The checksum to be filled in.
    pub checksum: Option<Partial>,
    /// A hardware transmit timestamp.
    pub timestamp: bool,
}

/// A chain the device has sent back.
#[derive(Debug)]
pub enum Sent<F> {
    /// A frame.
    Frame(F),
    /// The registration, with the length the device claims to have written.
    Registration(u32),
}

/// The transmit queue's ring, NAPI and network queue. All under the transmit queue's lock, bottom
/// halves or hard interrupts off, never sleeps.
pub trait TxPort {
    /// A frame. Dropping it frees it as dropped, [`TxPort::free`] as sent.
    type Frame;

    /// Takes the next chain that the device has sent back.
    fn pop(&mut self) -> Option<Sent<Self::Frame>>;

    /// Entries of the ring.
    fn ring_size(&self) -> u32;

    /// Descriptors of the ring that may still be used ([`crate::queue_page::room`]).
    fn room(&self) -> u32;

    /// Descriptors that the largest frame may take, registration included.
    fn largest(&self) -> u32;

    /// What the stack asks for.
    fn wish(&self, frame: &Self::Frame) -> Wish;

    /// Bytes of a frame.
    fn length(&self, frame: &Self::Frame) -> u32;

    /// Notes with the frame whether a hardware timestamp is to come ([`TxPort::awaits_timestamp`]),
    /// and if so tells the stack. Once for each frame.
    fn promise_timestamp(&self, frame: &mut Self::Frame, promised: bool);

    /// The last moment before the device gets the frame: the stack's own timestamp.
    fn leaving(&self, frame: &mut Self::Frame);

    /// Puts a frame into the ring; false (and the frame freed) when the ring does not take it.
    fn push(&mut self, frame: Self::Frame, header: [u8; header::LEN]) -> bool;

    /// The device has done something that made the kernel give the queue up
    /// (`virtqueue_is_broken()`), or it is gone.
    fn is_broken(&self) -> bool;

    /// Has the link looked at anew ([`Tx::link`]), soon and in process context. Any context.
    fn look_at_link(&mut self);

    /// Puts the registration chain into the ring.
    fn push_registration(&mut self, header: &Registration) -> bool;

    /// A hardware timestamp was promised for this chain: by this driver, not by whoever else has a
    /// clone of the packet.
    fn awaits_timestamp(&self, frame: &Self::Frame) -> bool;

    /// Reports the hardware timestamp of a frame, device clock, ns.
    fn timestamp(&mut self, frame: &mut Self::Frame, ns: u64);

    /// A promised timestamp will not come: the stack may make one of its own.
    fn no_timestamp(&mut self, frame: &mut Self::Frame);

    /// Frees a frame that was sent.
    fn free(&mut self, frame: Self::Frame);

    /// What the driver does wrong, for tests. Any context.
    fn behaviour(&self) -> Behaviour;

    /// Tells the device of new chains if it wants to know.
    fn kick(&mut self);

    /// Stops the network queue.
    fn stop_queue(&mut self);

    /// Starts it again if it is stopped.
    fn wake_queue(&mut self);

    /// The network queue is stopped.
    fn queue_stopped(&self) -> bool;

    /// `virtqueue_disable_cb()`.
    fn disable_callbacks(&mut self);

    /// `virtqueue_enable_cb_prepare()`.
    fn enable_callbacks(&mut self) -> u32;

    /// `virtqueue_enable_cb_delayed()`: asks for an interrupt when most of what is in the ring is
    /// done; false when it already is.
    fn enable_callbacks_delayed(&mut self) -> bool;

    /// `virtqueue_poll()`.
    fn used_since(&self, mark: u32) -> bool;

    /// `napi_complete_done()` of the transmit NAPI.
    fn complete(&mut self) -> bool;

    /// Schedules the transmit NAPI.
    fn schedule(&mut self);

    /// Schedules the receive NAPI, by the kernel's function.
    fn schedule_rx(&mut self);
}

/// The transmit ring can take the largest frame. If it cannot the network queue would stop at the
/// first frame, for ever.
pub fn ring_suffices<P: TxPort>(port: &P) -> bool {
    port.ring_size() >= port.largest()
}

fn look_whether_broken<P: TxPort>(shared: &Shared<'_>, port: &mut P) {
    if port.is_broken() && shared.found_broken(Queue::Transmit) {
        port.look_at_link();
    }
}

/// The transmit queue's own state. Guarded by the transmit queue's lock.
#[derive(Debug, Default)]
pub struct Tx {
    /// Used-ring entries consumed since the queue was started.
    ci: Counter,
    registration: RegistrationState,
}

impl Tx {
    /// At probe.
    #[must_use]
    pub const fn new() -> Self {
        Self { ci: Counter(0), registration: RegistrationState::new() }
    }

    /// `ndo_start_xmit`: gives a frame to the device. `more`: others follow at once, which may
    /// share the kick.
    pub fn transmit<P: TxPort>(
        &mut self,
        shared: &Shared<'_>,
        port: &mut P,
        mut frame: P::Frame,
        more: bool,
    ) {
        port.disable_callbacks();
        self.reclaim(shared, port);

        let wish = port.wish(&frame);
        let promised = wish.timestamp && shared.stamping.tx() && shared.page().is_some();
        port.promise_timestamp(&mut frame, promised);
        let length = port.length(&frame);
        port.leaving(&mut frame);
        if port.push(frame, header::build(wish.checksum)) {
            shared.stats.add(Stat::TxPackets, 1);
            shared.stats.add(Stat::TxBytes, u64::from(length));
        } else {
            shared.stats.add(Stat::TxDropped, 1);
            look_whether_broken(shared, port);
        }

        // Before the ring is so full that the next frame might not fit.
        if port.room() < port.largest() {
            shared.stats.add(Stat::TxStops, 1);
            port.stop_queue();
        }
        let last = !more || port.queue_stopped();
        if last && port.behaviour() != Behaviour::NoKick {
            port.kick();
        }
        // If there is already something to reclaim no interrupt will come for it.
        if !port.enable_callbacks_delayed() {
            port.schedule();
        }
    }

    /// The transmit NAPI's poll, with a budget, against which nothing counts: it completes always.
    pub fn poll<P: TxPort>(&mut self, shared: &Shared<'_>, port: &mut P) {
        port.disable_callbacks();
        self.reclaim(shared, port);
        let mark = port.enable_callbacks();
        if port.complete() && port.used_since(mark) {
            port.schedule();
        }
    }

    /// The link's state at probe, or after a configuration change. Posts the page when the link is
    /// up, whether it was before or not: an outage may come and go between two looks. Afterwards
    /// the receive NAPI must be scheduled once, for the rules that it completes by may be others.
    pub fn link<P: TxPort>(&mut self, shared: &Shared<'_>, port: &mut P, up: bool) {
        if up {
            self.registration.request(shared);
        } else {
            self.registration.cancel(shared);
        }
        self.post(shared, port);
        port.schedule_rx();
    }

    /// `ndo_tx_timeout`: the network queue has been stopped for too long.
    pub fn timed_out<P: TxPort>(&mut self, shared: &Shared<'_>, port: &mut P) {
        shared.stats.add(Stat::TxTimeouts, 1);
        look_whether_broken(shared, port);
        // Should an interrupt have been missed, this makes up for it.
        port.schedule();
    }

    /// The queues are deleted. The next have nothing in them.
    pub fn queues_deleted(&mut self, shared: &Shared<'_>) {
        self.ci = Counter(0);
        self.registration.queue_deleted();
        shared.queues_deleted();
    }

    /// Takes back all chains that the device has sent back.
    fn reclaim<P: TxPort>(&mut self, shared: &Shared<'_>, port: &mut P) {
        while let Some(sent) = port.pop() {
            let number = self.ci;
            self.ci = self.ci.plus(1);
            match sent {
                Sent::Frame(mut frame) => {
                    if port.awaits_timestamp(&frame) {
                        if let Some(ns) = shared.page().and_then(|page| page.tx_timestamp(number)) {
                            port.timestamp(&mut frame, ns);
                            shared.stats.add(Stat::TxTimestamps, 1);
                        } else {
                            port.no_timestamp(&mut frame);
                            shared.stats.add(Stat::TxNoTimestamp, 1);
                        }
                    }
                    port.free(frame);
                }
                Sent::Registration(length) => {
                    if self.registration.returned(shared, length) == Returned::Accepted {
                        port.schedule_rx();
                    }
                }
            }
        }
        self.post(shared, port);
        if port.queue_stopped() && port.room() >= port.largest() {
            port.wake_queue();
        }
    }

    fn post<P: TxPort>(&mut self, shared: &Shared<'_>, port: &mut P) {
        self.registration.post_if_due(shared, self.ci, |header| {
            let posted = port.push_registration(header);
            if posted {
                port.kick();
                if !port.enable_callbacks_delayed() {
                    port.schedule();
                }
            }
            posted
        });
    }
}

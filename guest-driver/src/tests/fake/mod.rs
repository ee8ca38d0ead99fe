// SPDX-License-Identifier: GPL-2.0-only
//! A fake kernel and a fake device, single-threaded. What another CPU would do at a moment that
//! matters is done by a hook that runs inside `napi_complete_done()`, or by the test between two
//! calls.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use napi_state::Bits;
use tsnic_abi::{
    Counter, MAGIC, RX_RECORDS, Registration, TX_RECORDS, VERSION, completion_offset, offset,
    record_flags,
};
mod rx;
mod tx;

pub use self::rx::RxSide;
pub use self::tx::{Chain, TxSide};
use crate::header;
use crate::irq::{self, Napi};
use crate::mode::IrqMode;
use crate::queue_page::{CELLS, QueuePage};
use crate::rx as rx_driver;
use crate::shared::{Features, Shared};
use crate::tx::{Tx, Wish};

/// Linux 6.1's numbers.
pub const BITS: Bits = Bits::LINUX_6_1;
pub const SCHED: usize = 1;
pub const MISSED: usize = 1 << 1;
pub const IN_BUSY_POLL: usize = 1 << 6;

pub const RX_RING: usize = 8;
pub const TX_RING: usize = 8;

/// What the driver did to its surroundings, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    Pop,
    Push,
    Kick,
    /// With the doorbell cells as the device finds them then.
    Notify {
        ci: u32,
        irq_seen: u32,
        arm: u32,
    },
    /// With the cells as a rendezvous finds them then.
    Complete {
        ci: u32,
        arm: u32,
        phase: u32,
    },
    DisableCallbacks,
    EnableCallbacks,
    UsedSince,
    Schedule,
    RefillIn(u32),
    LookAtLink,
}

/// A buffer or a frame. Counts those that live, so that none is leaked.
#[derive(Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub parts: usize,
    pub wish: Wish,
    pub awaits_timestamp: bool,
    live: Rc<Cell<usize>>,
    dropped: Rc<Cell<usize>>,
}

impl Drop for Packet {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
        self.dropped.set(self.dropped.get() + 1);
    }
}

type Hook = Box<dyn FnOnce(&World)>;

pub struct World {
    pub shared: Shared<'static>,
    cells: &'static [AtomicU32; CELLS],
    pub mode: IrqMode,
    entries: usize,
    pub napi: AtomicUsize,
    /// `__napi_schedule()` was called and the poll has not run.
    pub queued: Cell<u32>,
    pub rx: RefCell<RxSide>,
    pub tx: RefCell<TxSide>,
    pub did: RefCell<Vec<Did>>,
    /// Runs at the next look at the receive ring, once.
    pub poll: RefCell<Option<Hook>>,
    /// Runs at the entry of `napi_complete_done()`, once.
    pub window: RefCell<Option<Hook>>,
    /// Runs at its end, once.
    pub after: RefCell<Option<Hook>>,
    pub live: Rc<Cell<usize>>,
    pub dropped: Rc<Cell<usize>>,
    tx_state: RefCell<Tx>,
}

pub const ALL: Features = Features { guest_csum: true, merged_buffers: true };

impl World {
    pub fn new(mode: IrqMode, features: Features) -> Self {
        let cells: Vec<_> = (0..CELLS).map(|_| AtomicU32::new(0)).collect();
        let cells: Box<[AtomicU32; CELLS]> = cells.try_into().expect("as many as there are");
        let cells: &'static _ = Box::leak(cells);
        Self {
            shared: Shared::new(features, Some(QueuePage::new(cells))),
            cells,
            mode,
            entries: RX_RING,
            napi: AtomicUsize::new(0),
            queued: Cell::new(0),
            rx: RefCell::default(),
            tx: RefCell::new(TxSide { ring_size: 256, ..TxSide::default() }),
            did: RefCell::default(),
            poll: RefCell::default(),
            window: RefCell::default(),
            after: RefCell::default(),
            live: Rc::default(),
            dropped: Rc::default(),
            tx_state: RefCell::new(Tx::new()),
        }
    }

    /// With the ring filled and a page in use.
    pub fn with_page(mode: IrqMode) -> Self {
        Self::with_ring(mode, RX_RING)
    }

    /// The same, and a receive ring of another size.
    pub fn with_ring(mode: IrqMode, entries: usize) -> Self {
        let mut world = Self::new(mode, ALL);
        world.entries = entries;
        world.open();
        world.link(true);
        world.answer_registration();
        world.forget();
        world
    }

    /// With the ring filled, plain virtio.
    pub fn plain(mode: IrqMode) -> Self {
        let world = Self::new(mode, ALL);
        world.open();
        world.forget();
        world
    }

    pub fn open(&self) {
        rx_driver::open(&self.shared, &mut self.port());
    }

    pub fn port(&self) -> &Self {
        self
    }

    pub fn packet(&self, bytes: Vec<u8>) -> Packet {
        self.live.set(self.live.get() + 1);
        Packet {
            bytes,
            parts: 1,
            wish: Wish::default(),
            awaits_timestamp: false,
            live: Rc::clone(&self.live),
            dropped: Rc::clone(&self.dropped),
        }
    }

    pub fn cell(&self, offset: usize) -> u32 {
        self.cells[offset / 4].load(Ordering::Relaxed)
    }

    pub fn set_cell(&self, offset: usize, value: u32) {
        self.cells[offset / 4].store(value, Ordering::Relaxed);
    }

    pub fn did(&self) -> Vec<Did> {
        self.did.borrow().clone()
    }

    pub fn forget(&self) {
        self.did.borrow_mut().clear();
    }

    fn note(&self, did: Did) {
        self.did.borrow_mut().push(did);
    }

    // ---- the device ----

    fn record(&self, base: usize, records: u16, number: Counter, ns: u64) {
        let at = completion_offset(base, records, number);
        self.set_cell(at, ns as u32);
        self.set_cell(at + 4, (ns >> 32) as u32);
        self.set_cell(at + 8, number.0);
        self.set_cell(at + 12, record_flags::TIMESTAMP);
    }

    /// Uses one buffer: its bytes, and the length claimed. The record's time is 1,000 + the
    /// completion's number.
    pub fn use_buffer(&self, bytes: &[u8], claimed: u32) {
        let mut rx = self.rx.borrow_mut();
        let mut buffer = rx.posted.pop_front().expect("the driver keeps the ring filled");
        let written = bytes.len().min(buffer.bytes.len());
        buffer.bytes[..written].copy_from_slice(&bytes[..written]);
        self.record(
            offset::RX,
            RX_RECORDS,
            rx.device.produced,
            1000 + u64::from(rx.device.produced.0),
        );
        rx.device.produced = rx.device.produced.plus(1);
        rx.used.push_back((buffer, claimed));
    }

    /// Publishes one frame of a single buffer whose payload begins with `tag`.
    pub fn publish(&self, tag: u8) {
        self.use_buffer(&frame_of(tag), frame_of(tag).len() as u32);
    }

    /// Rule 2, and the interrupt handler if there is an interrupt. The kernel does not call the
    /// handler when nothing is used.
    pub fn interrupt_if_due(&self) -> bool {
        let due = {
            let mut rx = self.rx.borrow_mut();
            let due = rx.device.armed && rx.device.produced.is_after(rx.device.signaled);
            if due {
                rx.device.signaled = rx.device.produced;
                rx.device.armed = false;
                rx.device.fired = rx.device.fired.plus(1);
                self.set_cell(offset::FIRED, rx.device.fired.0);
            }
            due
        };
        if due {
            self.interrupt();
        }
        due
    }

    /// An interrupt reaches the guest.
    pub fn interrupt(&self) {
        if !self.rx.borrow().used.is_empty() {
            irq::receive_interrupt(&self.shared, self.mode, self);
        }
    }

    /// The device looks at the doorbell (rule 4).
    fn doorbell(&self) {
        let (ci, arm) = (Counter(self.cell(offset::CI)), Counter(self.cell(offset::ARM)));
        let mut rx = self.rx.borrow_mut();
        if arm != rx.device.arm_seen {
            rx.device.arm_seen = arm;
            rx.device.ci_at_arm = ci;
            rx.device.irq_seen_at_arm = self.cell(offset::ARM_IRQ_SEEN);
            rx.device.signaled = rx.device.signaled.latest(ci);
            rx.device.armed = true;
        }
    }

    /// Rule 5: armed, everything signaled, not everything consumed.
    fn loss_candidate(&self) -> bool {
        let rx = self.rx.borrow();
        rx.device.armed
            && rx.device.produced == rx.device.signaled
            && rx.device.produced.is_after(rx.device.ci_at_arm)
    }

    /// A loss candidate whose interrupt's handler found `SCHED` owned, and ran before the arm: the
    /// owner that it found is the one that has armed, and nobody else is to come.
    pub fn lost(&self) -> bool {
        let (fired, irq_seen_at_arm) = {
            let rx = self.rx.borrow();
            (rx.device.fired.0, rx.device.irq_seen_at_arm)
        };
        let owned = self.cell(offset::IRQ_SEEN) == fired && self.cell(offset::IRQ_OWNED) == fired;
        self.loss_candidate() && owned && irq_seen_at_arm == fired
    }

    /// Sends the oldest transmit chain back with this length.
    pub fn complete_tx(&self, length: u32) {
        let mut tx = self.tx.borrow_mut();
        let chain = tx.ring.pop_front().expect("there is a chain");
        self.record(offset::TX, TX_RECORDS, tx.produced, 5000 + u64::from(tx.produced.0));
        tx.produced = tx.produced.plus(1);
        tx.used.push_back((chain, length));
    }

    /// The header of the registration chain that is next in the transmit ring.
    pub fn posted_registration(&self) -> Option<Registration> {
        match self.tx.borrow().ring.front() {
            Some(Chain::Registration(header)) => Some(*header),
            _ => None,
        }
    }

    /// Writes an identity.
    pub fn identify(&self, generation: u32, capabilities: u32) {
        self.set_cell(offset::MAGIC, MAGIC);
        self.set_cell(offset::VERSION, u32::from(VERSION));
        self.set_cell(offset::GENERATION, generation);
        self.set_cell(offset::CAPABILITIES, capabilities);
    }

    /// Accepts the registration as the device does, and lets the driver see it.
    pub fn answer_registration(&self) {
        let header =
            self.posted_registration().expect("a registration is next in the transmit ring");
        {
            let mut rx = self.rx.borrow_mut();
            rx.device.armed = false;
            rx.device.signaled = Counter(header.rx_ci.get());
            rx.device.arm_seen = Counter(header.arm.get());
        }
        self.identify(header.generation.get(), 7);
        self.complete_tx(32 * 1024);
        self.tx_poll();
    }

    // ---- the kernel ----

    /// `napi_schedule()`, the kernel's.
    pub fn napi_schedule(&self) {
        if self.schedule_prep() {
            Napi::schedule(self);
        }
    }

    /// `net_rx_action()` and busy pollers: has the owner poll once. The caller has seen to it that
    /// `SCHED` is owned.
    pub fn poll(&self, budget: i32) -> i32 {
        self.queued.set(0);
        let work = rx_driver::poll(&self.shared, &mut self.port(), budget);
        assert!((0..=budget).contains(&work), "the poll returned {work} of {budget}");
        work
    }

    /// Polls as long as somebody is queued.
    pub fn softirq(&self) {
        for _ in 0..100 {
            if self.queued.get() == 0 {
                return;
            }
            if self.poll(64) == 64 {
                self.queued.set(1);
            }
        }
        panic!("the poll never comes to an end");
    }

    /// What goes on when the next poll has begun.
    pub fn in_poll(&self, hook: impl FnOnce(&World) + 'static) {
        *self.poll.borrow_mut() = Some(Box::new(hook));
    }

    /// What goes on at the entry of the next `napi_complete_done()`.
    pub fn in_window(&self, hook: impl FnOnce(&World) + 'static) {
        *self.window.borrow_mut() = Some(Box::new(hook));
    }

    /// What goes on when the next `napi_complete_done()` has cleared `SCHED`.
    pub fn after_complete(&self, hook: impl FnOnce(&World) + 'static) {
        *self.after.borrow_mut() = Some(Box::new(hook));
    }

    pub fn refill_timer(&self) {
        rx_driver::refill_timer(&self.shared, || self.napi_schedule());
    }

    pub fn link(&self, up: bool) {
        self.tx_state.borrow_mut().link(&self.shared, &mut self.port(), up);
    }

    pub fn tx_poll(&self) {
        self.tx_state.borrow_mut().poll(&self.shared, &mut self.port());
    }

    pub fn tx_timeout(&self) {
        self.tx_state.borrow_mut().timed_out(&self.shared, &mut self.port());
    }

    /// The machine sleeps: what is in the rings is freed, and the driver and the device begin with
    /// new ones.
    pub fn sleep(&self) {
        {
            let (mut rx, mut tx) = (self.rx.borrow_mut(), self.tx.borrow_mut());
            rx.posted.clear();
            rx.used.clear();
            rx.device = rx::Device::default();
            tx.ring.clear();
            tx.used.clear();
            tx.produced = Counter(0);
        }
        self.tx_state.borrow_mut().queues_deleted(&self.shared);
    }

    pub fn transmit(&self, packet: Packet, more: bool) {
        self.tx_state.borrow_mut().transmit(&self.shared, &mut self.port(), packet, more);
    }

    pub fn tags(&self) -> Vec<u8> {
        self.rx
            .borrow()
            .delivered
            .iter()
            .map(|frame| frame.bytes.get(14).copied().unwrap_or(0))
            .collect()
    }
}

/// A header that asks for nothing, 14 bytes of Ethernet, then `tag` and some payload.
pub fn frame_of(tag: u8) -> Vec<u8> {
    let mut bytes = vec![0; header::LEN];
    bytes[10] = 1;
    bytes.extend([0xee; 14]);
    bytes.extend([tag; 40]);
    bytes
}

impl Napi for World {
    fn schedule_prep(&self) -> bool {
        let update = |state: usize| {
            (state & (1 << BITS.disable) == 0)
                .then_some(state | if state & SCHED == 0 { SCHED } else { MISSED })
        };
        let before = self.napi.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        before.is_ok_and(|state| state & SCHED == 0)
    }

    fn state(&self) -> (&AtomicUsize, Bits) {
        (&self.napi, BITS)
    }

    fn schedule(&self) {
        assert_ne!(self.napi.load(Ordering::SeqCst) & SCHED, 0, "only the owner may schedule");
        self.queued.set(self.queued.get() + 1);
        assert_eq!(self.queued.get(), 1, "scheduled twice");
    }
}

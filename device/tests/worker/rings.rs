// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model guest's memory: both rings, receive buffers, and the shared queue page.
//!
//! Descriptor and available entry *i* of the receive ring always belong to buffer *i*, since
//! completions are in order; so posting buffers is moving the available index on.

use std::sync::atomic::Ordering;

use tsnic::net::index::Index;
use tsnic::net::pair::QueueSetup;
use tsnic::net::ring::RingConfig;
use tsnic_abi::{
    Completion, Counter, QUEUE_PAGE_SIZE, RX_RECORDS, Registration, TX_RECORDS, completion_offset,
    offset,
};
use tsnic_core::time::NicTime;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{AtomicAccess, Bytes as _, GuestAddress, GuestMemoryMmap};
use zerocopy::IntoBytes as _;

use super::guest::Cells;

/// Entries of each ring.
pub const ENTRIES: u16 = 256;

const RINGS: [u64; 2] = [0x1_0000, 0x2_0000];
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x4000;
const HEADER: u64 = 0x3_0000;
const PAGE: u64 = 0x4_0000;
const BUFFERS: u64 = 0x10_0000;
const BUFFER_LEN: u32 = 2048;
const NET_HEADER_LEN: usize = 12;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const NO_INTERRUPT: u16 = 1;

/// Guest memory with both rings in it.
pub struct Rings {
    pub memory: GuestMemoryMmap,
    setups: [Option<QueueSetup>; 2],
    /// Transmit chains posted.
    posted: u32,
}

impl Rings {
    /// A receive ring that starts at the index of completion `start`, and a transmit ring that
    /// starts at 0.
    pub fn new(start: Counter) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let setups = [start.0 as u16, 0].into_iter().zip(RINGS).map(|(index, base)| {
            let config = RingConfig {
                entries: ENTRIES,
                descriptors: base,
                available: base + AVAILABLE,
                used: base + USED,
                event_idx: false,
                indirect: false,
            };
            Some(QueueSetup { config, start: 1, next_avail: Index(index) })
        });
        let setups: Vec<_> = setups.collect();
        let rings = Self { memory, setups: [setups[0], setups[1]], posted: 0 };
        for index in 0..ENTRIES {
            let buffer = BUFFERS + u64::from(BUFFER_LEN) * u64::from(index);
            rings.write_descriptor(0, index, Descriptor::new(buffer, BUFFER_LEN, WRITE, 0));
            rings.store(RINGS[0] + AVAILABLE + 4 + 2 * u64::from(index), index);
        }
        // Without a page nothing is to be interrupted, and with one this says nothing.
        rings.store(RINGS[0] + AVAILABLE, NO_INTERRUPT);
        rings.post(start);
        rings.store(RINGS[0] + USED + 2, start.0 as u16);
        rings
    }

    pub const fn setups(&self) -> [Option<QueueSetup>; 2] {
        self.setups
    }

    /// Receive buffers are there for every completion before `end`.
    pub fn post(&self, end: Counter) {
        self.store(RINGS[0] + AVAILABLE + 2, end.0 as u16);
    }

    /// Completions published, after `earlier` of them.
    pub fn used(&self, earlier: Counter) -> Counter {
        earlier.widen(self.load(RINGS[0] + USED + 2))
    }

    /// The frame of receive completion `number`.
    pub fn frame(&self, number: Counter) -> Vec<u8> {
        let entry = RINGS[0] + USED + 4 + 8 * u64::from(number.0 as u16 % ENTRIES);
        let [head, len]: [u32; 2] = self.memory.read_obj(GuestAddress(entry)).unwrap();
        assert_eq!(head, u32::from(number.0 as u16 % ENTRIES), "completions are in order");
        let mut bytes = vec![0; len as usize];
        let buffer = BUFFERS + u64::from(BUFFER_LEN) * u64::from(head);
        self.memory.read_slice(&mut bytes, GuestAddress(buffer)).unwrap();
        bytes.split_off(NET_HEADER_LEN)
    }

    /// Number, flags and timestamp in the record of receive completion `number`.
    pub fn record(&self, number: Counter) -> (Counter, u32, NicTime) {
        self.completion(completion_offset(offset::RX, RX_RECORDS, number))
    }

    /// The same of the transmit completion posted last.
    pub fn transmit_record(&self) -> (Counter, u32, NicTime) {
        let number = Counter(self.posted.wrapping_sub(1));
        self.completion(completion_offset(offset::TX, TX_RECORDS, number))
    }

    fn completion(&self, base: usize) -> (Counter, u32, NicTime) {
        let time: u64 = self.cell(base + std::mem::offset_of!(Completion, timestamp_ns));
        let number = self.cell(base + std::mem::offset_of!(Completion, number));
        (
            Counter(number),
            self.cell(base + std::mem::offset_of!(Completion, flags)),
            NicTime::from_ns(time),
        )
    }

    /// Posts a registration; `good` or with a header that is too short.
    pub fn post_registration(&mut self, header: &Registration, good: bool) {
        self.memory.write_slice(header.as_bytes(), GuestAddress(HEADER)).unwrap();
        let len = size_of::<Registration>() as u32 - u32::from(!good);
        self.write_descriptor(1, 0, Descriptor::new(HEADER, len, NEXT, 1));
        self.write_descriptor(1, 1, Descriptor::new(PAGE, QUEUE_PAGE_SIZE, WRITE, 0));
        // Each entry names descriptor 0, and stays so.
        self.posted += 1;
        self.store(RINGS[1] + AVAILABLE + 2, self.posted as u16);
    }

    /// Posts a transmit chain of one buffer: a frame, if it is long enough and in this memory.
    pub fn post_transmit(&mut self, address: u64, len: u32) {
        self.write_descriptor(1, 0, Descriptor::new(address, len, 0, 0));
        self.posted += 1;
        self.store(RINGS[1] + AVAILABLE + 2, self.posted as u16);
    }

    /// Moves every receive buffer to this address.
    pub fn move_buffers(&self, address: u64) {
        for index in 0..ENTRIES {
            self.write_descriptor(0, index, Descriptor::new(address, BUFFER_LEN, WRITE, 0));
        }
    }

    /// Breaks the transmit ring: more entries are available than it has.
    pub fn break_transmit(&self) {
        self.store(RINGS[1] + AVAILABLE + 2, (self.posted as u16).wrapping_add(ENTRIES + 1));
    }

    /// The registration posted last has been given back, and its page taken into use.
    pub fn is_accepted(&self, generation: u32) -> bool {
        let latest = (self.posted as u16).wrapping_sub(1) % ENTRIES;
        let [_, len]: [u32; 2] = self
            .memory
            .read_obj(GuestAddress(RINGS[1] + USED + 4 + 8 * u64::from(latest)))
            .unwrap();
        assert_eq!(self.load(RINGS[1] + USED + 2), self.posted as u16, "it has been given back");
        len == QUEUE_PAGE_SIZE && self.cell::<u32>(offset::GENERATION) == generation
    }

    /// Transmit completions so far.
    pub const fn transmitted(&self) -> Counter {
        Counter(self.posted)
    }

    /// Writes the cells of the driver and of the rendezvous module.
    pub fn write_cells(&self, cells: &Cells) {
        for (at, value) in [
            (offset::CI, cells.ci.0),
            (offset::ARM_IRQ_SEEN, cells.arm_irq_seen.0),
            (offset::ARM, cells.arm.0),
            (offset::POLLS, cells.polls.0),
            (offset::IRQ_OWNED, cells.irq_owned.0),
            (offset::IRQ_SEEN, cells.irq_seen.0),
            (offset::PHASE, cells.phase),
            (offset::ARRIVED_POINT, cells.point),
            (offset::ARRIVED, cells.arrived),
        ] {
            self.memory.store(value, GuestAddress(PAGE + at as u64), Ordering::Release).unwrap();
        }
    }

    /// Writes a command into the mailbox.
    pub fn write_command(&self, number: u32, op: u32) {
        for (at, value) in [(offset::COMMAND_OP, op), (offset::COMMAND, number)] {
            self.memory.store(value, GuestAddress(PAGE + at as u64), Ordering::Release).unwrap();
        }
    }

    /// Reads those of the device.
    pub fn read_cells(&self, cells: &mut Cells) {
        cells.fired = Counter(self.cell(offset::FIRED));
        cells.requested = self.cell(offset::REQUESTED);
        cells.released = self.cell(offset::RELEASED);
    }

    fn cell<T: AtomicAccess>(&self, at: usize) -> T {
        self.memory.load(GuestAddress(PAGE + at as u64), Ordering::Acquire).unwrap()
    }

    fn write_descriptor(&self, ring: usize, index: u16, descriptor: Descriptor) {
        self.memory
            .write_obj(descriptor, GuestAddress(RINGS[ring] + 16 * u64::from(index)))
            .unwrap();
    }

    fn store(&self, address: u64, value: u16) {
        self.memory.store(value, GuestAddress(address), Ordering::Release).unwrap();
    }

    fn load(&self, address: u64) -> u16 {
        self.memory.load(GuestAddress(address), Ordering::Acquire).unwrap()
    }
}

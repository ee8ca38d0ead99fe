// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest whose memory the targets fill, and a queue pair that is served by hand.

use std::io;
use std::os::fd::BorrowedFd;

use tsnic::clock::HostClock;
use tsnic::control::channel::control_channel;
use tsnic::frame::{Frame, NetHeader};
use tsnic::net::features::Features;
use tsnic::net::index::Index;
use tsnic::net::pair::{InterruptConfig, Lines, Next, Pair, QueueSetup};
use tsnic::net::ring::RingConfig;
use tsnic::net::session;
use tsnic::port::Port;
use tsnic_core::time::Instant;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// Bytes of guest memory.
pub const MEMORY_LEN: u64 = 512 << 10;

/// Sessions in which a pair has to come to the end of any ring: each takes at least one budget's
/// worth of it.
const SESSIONS_MAX: u32 = 10_000;

/// A port that brings frames of these lengths, the last first, with a pause at each `None`, and
/// takes whatever the guest sends.
pub struct Lengths(pub Vec<Option<u16>>);

impl Port for Lengths {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        let Some(Some(len)) = self.0.pop() else { return false };
        frame.header = NetHeader::default();
        frame.bytes.clear();
        frame.bytes.resize(usize::from(len).max(14), 0x5a);
        true
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        false
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, _frame: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

struct NoLines;

impl Lines for NoLines {
    fn raise(&self, _queue: usize) {}
}

/// Where a queue is, and from which index it starts.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Guest physical address of its descriptors, 16 KiB before its available ring and 20 KiB
    /// before its used ring.
    pub base: u64,
    /// Entries.
    pub entries: u16,
    /// Index of its first entry, of both rings.
    pub start: u16,
}

impl Queue {
    const fn available(&self) -> u64 {
        self.base + 0x4000
    }

    const fn used(&self) -> u64 {
        self.base + 0x5000
    }
}

/// The guest and the pair.
pub struct Bench {
    pub memory: GuestMemoryMmap,
    pub pair: Pair<Lengths, HostClock>,
    pub queues: [Queue; 2],
    features: Features,
}

impl Bench {
    /// Empty rings of a driver that has taken `features` of those offered.
    pub fn new(queues: [Queue; 2], features: u64, frames: Vec<Option<u16>>) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_LEN as usize)])
            .expect("there is memory");
        let control = control_channel().expect("there are descriptors").1;
        let mut pair = Pair::new(
            0,
            Lengths(frames),
            HostClock::default(),
            control,
            &InterruptConfig::default(),
        );
        let features = Features(Features::OFFERED.0 & features);
        pair.set_features(features);
        let bench = Self { memory, pair, queues, features };
        for queue in queues {
            bench.store(queue.available() + 2, queue.start);
            bench.store(queue.used() + 2, queue.start);
        }
        bench
    }

    fn store(&self, address: u64, value: u16) {
        self.memory.write_obj(value.to_le(), GuestAddress(address)).expect("it is in memory");
    }

    fn load(&self, address: u64) -> u16 {
        u16::from_le(self.memory.read_obj(GuestAddress(address)).expect("it is in memory"))
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).expect("it is in memory");
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("it is in memory");
        bytes
    }

    pub fn write_descriptor(&self, table: u64, index: u16, descriptor: Descriptor) {
        self.memory
            .write_obj(descriptor, GuestAddress(table + 16 * u64::from(index)))
            .expect("it is in memory");
    }

    /// Writes available entries and an index that is `ahead` of the start.
    pub fn make_available(&self, queue: usize, heads: &[u16], ahead: u16) {
        let queue = self.queues[queue];
        for (offset, head) in heads.iter().enumerate() {
            let slot = queue.start.wrapping_add(offset as u16) % queue.entries;
            self.store(queue.available() + 4 + 2 * u64::from(slot), *head);
        }
        self.store(queue.available() + 2, queue.start.wrapping_add(ahead));
    }

    /// Serves the pair until it wants nothing more at once.
    pub fn serve(&mut self) {
        let setups = self.queues.map(|queue| {
            let config = RingConfig {
                entries: queue.entries,
                descriptors: queue.base,
                available: queue.available(),
                used: queue.used(),
                event_idx: self.features.event_idx(),
                indirect: self.features.indirect(),
            };
            Some(QueueSetup { config, start: 1, next_avail: Index(queue.start) })
        });
        for _ in 0..SESSIONS_MAX {
            if session::service(&mut self.pair, &self.memory, setups, &NoLines) != Next::AtOnce {
                return;
            }
        }
        panic!("the pair wants to be served at once for ever");
    }

    /// Used entries since the start: how many, and head and length of the latest of them, as many
    /// as the ring holds.
    pub fn used(&self, queue: usize) -> (u16, Vec<(u32, u32)>) {
        let queue = self.queues[queue];
        let count = self.load(queue.used() + 2).wrapping_sub(queue.start);
        let entries = (count.saturating_sub(queue.entries)..count).map(|offset| {
            let slot = queue.start.wrapping_add(offset) % queue.entries;
            let [head, len]: [u32; 2] = self
                .memory
                .read_obj(GuestAddress(queue.used() + 4 + 8 * u64::from(slot)))
                .expect("it is in memory");
            (u32::from_le(head), u32::from_le(len))
        });
        (count, entries.collect())
    }
}

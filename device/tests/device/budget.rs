// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest decides how long its chains are, and not how long the worker is busy with them at a
//! time.

use std::io;
use std::os::fd::BorrowedFd;

use tsnic::clock::HostClock;
use tsnic::control::channel::control_channel;
use tsnic::frame::Frame;
use tsnic::frame::NetHeader;
use tsnic::net::features::Features;
use tsnic::net::index::Index;
use tsnic::net::pair::{InterruptConfig, Lines, Next, Pair, QueueSetup};
use tsnic::net::ring::{DESCRIPTOR_BUDGET, RingConfig};
use tsnic::net::session;
use tsnic::port::Port;
use tsnic_core::time::Instant;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::support::{BUFFERS, DriverQueue};

const SIZE: u16 = 1024;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A port on which frames of the largest size come as fast as they are read.
struct Flood {
    /// How many are left.
    frames: u32,
}

impl Port for Flood {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        frame.header = NetHeader::default();
        frame.bytes.resize(65_000, 0);
        let some = self.frames != 0;
        self.frames = self.frames.saturating_sub(1);
        some
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

/// A pair that is served by hand, one session at a time.
struct Bench {
    memory: GuestMemoryMmap,
    pair: Pair<Flood, HostClock>,
    queues: [DriverQueue; 2],
}

impl Bench {
    fn new(frames: u32) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let queues =
            [0x1_0000, 0x2_0000].map(|base| DriverQueue::new(&memory, base, SIZE, false, 0));
        let mut pair = Pair::new(
            0,
            Flood { frames },
            HostClock::default(),
            control_channel().unwrap().1,
            &InterruptConfig::default(),
        );
        pair.set_features(Features::OFFERED);
        Self { memory, pair, queues }
    }

    fn serve(&mut self) -> Next {
        let setups = self.queues.each_ref().map(|queue| {
            let config = RingConfig {
                entries: SIZE,
                descriptors: queue.descriptors,
                available: queue.available,
                used: queue.used,
                event_idx: false,
                indirect: true,
            };
            Some(QueueSetup { config, start: 0, next_avail: Index(0) })
        });
        session::service(&mut self.pair, &self.memory, setups, &NoLines)
    }

    fn counter(&self, name: &str) -> u64 {
        tsnic_protocol::Counters::from(&self.pair.status().counters).by_name()[name]
    }

    /// A table of `SIZE` descriptors one after the other, the first of which has this length and
    /// the others this one.
    fn write_table(&self, table: u64, first: u32, others: u32, flags: u16) {
        for index in 0..SIZE {
            let flags = flags | if index + 1 == SIZE { 0 } else { NEXT };
            let len = if index == 0 { first } else { others };
            let descriptor = Descriptor::new(BUFFERS + 0x10_0000, len, flags, index + 1);
            self.queues[0].write_descriptor(table, index, descriptor);
        }
    }

    /// Makes `count` chains available on a queue, all of which are its descriptor 0: as long as the
    /// ring, or an indirect table of that length.
    fn make_available(
        &mut self,
        queue: usize,
        indirect: bool,
        lens: (u32, u32),
        flags: u16,
        count: u16,
    ) {
        let table = if indirect { BUFFERS } else { self.queues[queue].descriptors };
        self.write_table(table, lens.0, lens.1, flags);
        if indirect {
            let descriptor = Descriptor::new(table, 16 * u32::from(SIZE), INDIRECT, 0);
            self.queues[queue].write_descriptor(self.queues[queue].descriptors, 0, descriptor);
        }
        for _ in 0..count {
            self.queues[queue].make_available(0);
        }
    }

    fn used(&self, queue: usize) -> u16 {
        self.queues[queue].load(self.queues[queue].used + 2)
    }
}

/// Chains of `SIZE` descriptors, and perhaps one more, that fill the budget.
const CHAINS: u16 = DESCRIPTOR_BUDGET.div_ceil(SIZE as u32) as u16;

#[test]
fn long_transmit_chains_are_taken_in_many_sessions() {
    for (indirect, len, flags, counter) in [
        (false, 0, 0, "tx_malformed"),
        (true, 0, 0, "tx_malformed"),
        (true, 64, 0, "tx_frames"),
        (true, 64, WRITE, "registrations_refused"),
    ] {
        let mut bench = Bench::new(0);
        bench.make_available(1, indirect, (len, len), flags, 100);
        for session in 1..=100_u16.div_ceil(CHAINS) {
            let next = bench.serve();
            let taken = (session * CHAINS).min(100);
            assert_eq!(bench.used(1), taken, "session {session}, {counter}");
            assert_eq!(bench.counter(counter), u64::from(taken), "session {session}");
            assert_eq!(next == Next::AtOnce, taken < 100, "session {session}, {counter}");
        }
    }
}

#[test]
fn long_receive_chains_are_taken_in_many_sessions() {
    let mut bench = Bench::new(100);
    bench.make_available(0, true, (66_000, 0), WRITE, 100);
    for session in 1..=100_u16.div_ceil(CHAINS) {
        let next = bench.serve();
        let taken = (session * CHAINS).min(100);
        assert_eq!(
            (bench.used(0), bench.counter("rx_frames")),
            (taken, u64::from(taken)),
            "session {session}"
        );
        assert_eq!(next == Next::AtOnce, taken < 100, "session {session}");
    }
}

#[test]
fn a_frame_in_very_many_pieces_is_too_big_and_the_next_is_for_another_session() {
    let mut bench = Bench::new(1000);
    // 64 bytes in 1,024 descriptors: the whole ring would do.
    bench.make_available(0, true, (64, 0), WRITE, SIZE);
    for session in 1..5 {
        assert_eq!(bench.serve(), Next::AtOnce);
        assert_eq!(bench.counter("rx_too_big"), session);
    }
    assert_eq!(bench.used(0), 0, "nothing was taken");
}

#[test]
fn too_few_buffers_in_very_many_pieces_are_not_looked_at_for_every_frame() {
    let mut bench = Bench::new(1000);
    bench.make_available(0, true, (12, 0), WRITE, CHAINS / 2);
    for session in 1..5 {
        assert_eq!(bench.serve(), Next::AtOnce);
        assert_eq!(bench.counter("rx_no_buffers"), 2 * session);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the parts of the data path cost: a frame of 64 bytes through the rings, received and sent;
//! and of the interrupt path the gate, moderation, policies; and the stamp.
//!
//! `policies/off` against `policies/gate-alone` is what the interrupt path costs when there are
//! neither policies nor moderation. One such call serves a whole batch: compare the difference with
//! `receive-64` for the share of the data path.

#[path = "../tests/device/support/queue.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod queue;

use std::hint::black_box;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queue::DriverQueue;
use tsnic::clock::{Clock as _, HostClock};
use tsnic::control::channel::control_channel;
use tsnic::frame::{Frame, NetHeader};
use tsnic::net::features::Features;
use tsnic::net::index::Index;
use tsnic::net::pair::{InterruptConfig, Lines, Pair, QueueSetup, RX, TX};
use tsnic::net::ring::RingConfig;
use tsnic::net::session;
use tsnic::port::Port;
use tsnic_abi::Counter;
use tsnic_core::moderation::{Limits, Moderation, Setting};
use tsnic_core::path::{Gate, Path};
use tsnic_core::policy::Policies;
use tsnic_core::policy::decision::{Cause, GuestProgress};
use tsnic_core::policy::spec::{Distribution, PolicySpec, Span};
use tsnic_core::time::Instant;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Entries of the rings, frames of a batch, bytes of each.
const SIZE: u16 = 256;
const BATCH: u16 = 64;
const LEN: usize = 64;
/// Where the guest's buffers are.
const BUFFERS: u64 = 0x10_0000;

/// A port with so many frames, which takes what is sent.
struct Frames {
    left: u16,
}

impl Port for Frames {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {
        self.left = BATCH;
    }

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        frame.header = NetHeader::default();
        frame.bytes.resize(LEN, 0);
        let some = self.left != 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, frame: &[u8]) -> io::Result<()> {
        black_box(frame);
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

struct NoLines;

impl Lines for NoLines {
    fn raise(&self, queue: usize) {
        black_box(queue);
    }
}

/// A pair that is served by hand, and its guest.
struct World {
    memory: GuestMemoryMmap,
    pair: Pair<Frames, HostClock>,
    queues: [DriverQueue; 2],
}

impl World {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let queues =
            [0x1_0000, 0x2_0000].map(|base| DriverQueue::new(&memory, base, SIZE, true, 0));
        let control = control_channel().unwrap().1;
        let mut pair = Pair::new(
            0,
            Frames { left: 0 },
            HostClock::default(),
            control,
            &InterruptConfig::default(),
        );
        pair.set_features(Features::OFFERED);
        Self { memory, pair, queues }
    }

    /// Buffers for, or with, a batch of frames.
    fn post(&mut self, queue: usize) {
        while self.queues[queue].take().is_some() {}
        let writable = queue == RX;
        for buffer in 0..u64::from(BATCH) {
            let len = if writable { 2048 } else { 12 + LEN as u32 };
            self.queues[queue].add(&[(BUFFERS + 2048 * buffer, len, writable)]);
        }
        let queue = &self.queues[queue];
        queue.set_used_event(queue.next_used);
    }

    fn serve(&mut self) {
        let setups = self.queues.each_ref().map(|queue| {
            let config = RingConfig {
                entries: SIZE,
                descriptors: queue.descriptors,
                available: queue.available,
                used: queue.used,
                event_idx: true,
                indirect: true,
            };
            Some(QueueSetup { config, start: 0, next_avail: Index(0) })
        });
        black_box(session::service(&mut self.pair, &self.memory, setups, &NoLines));
    }
}

/// A batch of frames through the rings; the guest's part is not measured.
fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(BATCH.into()));
    for (name, queue) in [("receive-64", RX), ("transmit-64", TX)] {
        let mut world = World::new();
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    world.post(queue);
                    if queue == RX {
                        world.pair.port_readable();
                    }
                    let start = std::time::Instant::now();
                    world.serve();
                    spent += start.elapsed();
                }
                spent
            });
        });
        let counters = world.pair.status().counters;
        assert!(counters.rx_frames + counters.tx_frames != 0, "{name} did nothing");
    }
    group.finish();
}

/// A guest that always wants to be interrupted.
struct Open;

impl Gate for Open {
    fn requested(&self) -> bool {
        black_box(true)
    }

    fn pass(&mut self) -> bool {
        black_box(true)
    }
}

/// An interrupt for one packet.
fn interrupt(path: &mut Path, now: &mut Instant) -> u32 {
    *now = now.plus(Duration::from_micros(10));
    path.published(1, LEN as u32, *now);
    path.poll(&mut Open, Cause::Completions, &GuestProgress::default(), *now).count
}

fn policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("policies");
    group.bench_function("gate-alone", |b| {
        b.iter(|| {
            let mut gate = Open;
            u32::from(gate.requested() && gate.pass())
        });
    });
    let uniform = PolicySpec::Jitter(Distribution::Uniform(Span { from_us: 5, to_us: 50 }));
    for (name, stack) in [
        ("off", vec![]),
        ("jitter", vec![uniform.clone()]),
        ("jitter-duplicate-late", {
            let copies = PolicySpec::Duplicate { copies: 1, gap_us: 20, per_mille: 500 };
            vec![uniform, copies, PolicySpec::CoalesceLate { window_us: 40 }]
        }),
    ] {
        let mut now = Instant::from_ns(1);
        let mut path = Path::new(Setting::default());
        path.reset(SIZE);
        path.set_policies(Policies::new(&stack, 1, now).unwrap(), now);
        group.bench_function(name, |b| b.iter(|| interrupt(&mut path, &mut now)));
    }
    group.finish();
}

fn moderation(c: &mut Criterion) {
    let mut group = c.benchmark_group("moderation");
    let limits = Limits { usecs: 50, frames: 8 };
    for (name, setting) in [
        ("off", Setting::default()),
        ("usecs-50-frames-8", limits.into()),
        ("adaptive", Setting { adaptive: true, ..Setting::default() }),
    ] {
        let mut moderation = Moderation::new(setting, SIZE);
        let (mut end, mut now) = (Counter(0), Instant::from_ns(1));
        group.bench_function(name, |b| {
            b.iter(|| {
                end = end.plus(1);
                now = now.plus(Duration::from_micros(1));
                moderation.published(end, LEN as u32, now);
                let moment = moderation.moment(now);
                if moment == tsnic_core::moderation::Moment::Now {
                    moderation.signaled(end);
                    moderation.interrupted(now);
                }
                moment
            });
        });
    }
    group.finish();
}

fn stamp(c: &mut Criterion) {
    let clock = HostClock::default();
    c.bench_function("stamp", |b| b.iter(|| clock.now()));
}

criterion_group!(benches, rings, policies, moderation, stamp);
criterion_main!(benches);

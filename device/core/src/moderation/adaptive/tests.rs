// SPDX-License-Identifier: Apache-2.0 OR MIT

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Adaptive, LEVEL_USECS, SAMPLE, TOP};
use crate::time::Instant;

/// A guest, as far as one queue shows it.
struct World {
    adaptive: Adaptive,
    now_ns: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { adaptive: Adaptive::default(), now_ns: 1_000 };
        // The first sample begins with an interrupt.
        world.interrupt(0, 0, 0);
        world
    }

    fn interrupt(&mut self, after_ns: u64, packets: u32, bytes: u32) {
        self.now_ns += after_ns;
        self.adaptive.published(packets, bytes);
        self.adaptive.interrupted(Instant::from_ns(self.now_ns));
    }

    /// Levels at the end of each of `samples`, of traffic that takes as long for an interrupt, and
    /// has as many packets with it, as it answers for the microseconds in force.
    fn levels(&mut self, samples: usize, traffic: impl Fn(u64) -> (u64, u32)) -> Vec<usize> {
        let mut sample = || {
            for _ in 0..SAMPLE {
                let (after_ns, packets) = traffic(self.adaptive.limits().usecs.into());
                self.interrupt(after_ns, packets, packets * 1_000);
            }
            self.adaptive.level
        };
        (0..samples).map(|_| sample()).collect()
    }
}

/// One request after the other: each waits for its interrupt and 100 us more.
fn rpc(usecs: u64) -> (u64, u32) {
    ((100 + usecs) * 1_000, 1)
}

/// A guest that is busy: 20 us for an interrupt and 1 us for a packet, and as many packets as it
/// manages meanwhile, up to the limit of frames.
fn bulk(usecs: u64) -> (u64, u32) {
    let packets = (usecs + 20).min(64);
    ((20 + packets) * 1_000, packets as u32)
}

/// 100,000 packets a second, whatever the guest does.
fn steady(usecs: u64) -> (u64, u32) {
    let packets = 1 + usecs / 10;
    (packets * 10_000, packets as u32)
}

#[test]
fn requests_that_wait_for_their_answers_are_not_delayed() {
    let levels = World::new().levels(200, rpc);
    assert_eq!(levels[..4], [1, 2, 1, 0]);
    assert!(levels[4..].iter().all(|level| *level == 0), "{levels:?}");
}

#[test]
fn a_stream_gets_fewer_interrupts() {
    for traffic in [bulk, steady] {
        let levels = World::new().levels(200, traffic);
        let high = levels[20..].iter().filter(|level| LEVEL_USECS[**level] >= 64).count();
        assert!(high > 150, "{levels:?}");
    }
}

#[test]
fn it_follows_traffic_that_changes() {
    let mut world = World::new();
    for _ in 0..5 {
        let levels = world.levels(60, bulk);
        assert!(levels[30..].iter().any(|level| LEVEL_USECS[*level] >= 64), "{levels:?}");
        let levels = world.levels(60, rpc);
        assert!(levels[30..].iter().all(|level| LEVEL_USECS[*level] <= 8), "{levels:?}");
    }
}

#[test]
fn a_sample_is_64_interrupts_and_moves_it_by_one_level() {
    let mut world = World::new();
    for interrupt in 1..SAMPLE {
        world.interrupt(1_000, 1, 1_000);
        assert_eq!(world.adaptive.level, 0, "after {interrupt}");
    }
    world.interrupt(1_000, 1, 1_000);
    assert_eq!(world.adaptive.level, 1);
}

#[test]
fn a_delay_that_changes_nothing_is_not_kept() {
    let levels = World::new().levels(40, |_| (50_000, 3));
    assert_eq!(levels[..8], [1, 2, 3, 4, 3, 2, 1, 0]);
    assert!(levels[8..].iter().all(|level| *level == 0), "{levels:?}");
}

proptest! {
    /// Whatever comes, it is at one of its levels, and moves by one at a time.
    #[test]
    fn it_stays_within_its_levels(
        samples in prop::collection::vec((0u64..=u64::MAX / 100_000, any::<u32>(), any::<u32>()), 1..80),
    ) {
        let mut world = World::new();
        let mut before = world.adaptive.level;
        for (after_ns, packets, bytes) in samples {
            for _ in 0..SAMPLE {
                world.interrupt(after_ns / u64::from(SAMPLE), packets, bytes);
            }
            let level = world.adaptive.level;
            prop_assert!(level <= TOP && level.abs_diff(before) <= 1);
            before = level;
        }
    }
}

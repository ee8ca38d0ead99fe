// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/stalls.md, "The two detectors": where both apply, they agree.

use std::time::Duration;

use tsnic::net::pair::{RX, TX};
use tsnic_core::policy::spec::PolicySpec;
use tsnic_core::stall::{Tally, Verdict};

use super::guest::{Mode, Owner};
use super::world::World;

const AFTER: Duration = Duration::from_millis(40);

/// Packets whose interrupts come about when another owner polls.
fn traffic(mode: Mode, policies: Vec<PolicySpec>, seed: u64) -> World {
    let owner = Owner::Timer(Duration::from_millis(1));
    let mut world = World::with_stall_detector(mode, owner, seed, AFTER);
    world.guest.temper.window_ns = 20_000..200_000;
    if !policies.is_empty() {
        world.set_policies(policies);
    }
    for packet in 0..600 {
        world.send([None]);
        world.poke();
        let gap_us = if packet % 2 == 0 { 700 + packet } else { 200_000 };
        world.run_for(Duration::from_micros(gap_us));
    }
    world
}

fn tally(world: &World) -> Tally {
    let stalls = world.pair.status().stalls.expect("the detector is on");
    assert_eq!(stalls[TX].latest, None);
    stalls[RX]
}

#[test]
fn a_minute_of_a_v4_11_guest_has_no_stalls() {
    for seed in 0..2 {
        let world = traffic(Mode::V4_11, Vec::new(), seed);
        let counters = world.counters();
        assert_eq!((tally(&world), counters.nudges), (Tally::default(), 0));
        assert_eq!(counters.rx_frames, 600);
    }
}

#[test]
fn what_a_v4_10_guest_loses_is_lost_to_both_detectors() {
    let mut lost = 0;
    for seed in 0..6 {
        let world = traffic(Mode::V4_10, Vec::new(), seed);
        let (rx, counters) = (tally(&world), world.counters());
        lost += rx.lost;
        assert_eq!((rx.lost, rx.by_policy), (counters.lost, 0));
        assert_eq!((counters.stalls, counters.nudges), (rx.lost, rx.lost), "{rx:?}");
        assert_eq!(counters.detector_disagreements, 0);
        assert!(!world.guest.is_stuck(), "the nudge has brought the packet");
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn what_a_policy_drops_is_the_policy_s_to_both_detectors() {
    let drop = PolicySpec::Drop { per_mille: 300 };
    let world = traffic(Mode::V4_11, vec![drop], 1);
    let (rx, counters) = (tally(&world), world.counters());
    assert!(rx.lost > 10 && rx.by_policy == rx.lost, "{rx:?}");
    assert_eq!(rx.latest.map(|it| it.verdict), Some(Verdict::Lost));
    assert_eq!((counters.lost, counters.detector_disagreements), (0, 0));
}

/// Frames come in all the time while the interface is down, and the ring runs full.
#[test]
fn a_guest_whose_interface_is_down_has_not_stalled() {
    let mut world = World::with_stall_detector(Mode::V4_11, Owner::Nobody, 1, AFTER);
    world.run_for(Duration::from_millis(5));
    for _ in 0..3 {
        world.guest.down();
        for _ in 0..600 {
            world.send([None]);
            world.poke();
            world.run_for(Duration::from_millis(1));
        }
        world.guest.up(world.now);
        world.run_for(Duration::from_millis(10));
    }
    let counters = world.counters();
    assert_eq!((tally(&world), counters.nudges, counters.lost), (Tally::default(), 0, 0));
    assert!(counters.rx_frames > 600, "{}", counters.rx_frames);
}

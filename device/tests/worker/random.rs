// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random runs: packets at random gaps, with no rendezvous.

use std::time::Duration;

use proptest::prelude::*;
use tsnic_abi::Counter;
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{RandomReport, RandomSpec};

use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

const BUSY: Owner = Owner::BusyPoll(Duration::from_micros(200));

fn request(packets: u32) -> RandomSpec {
    RandomSpec { seed: 3, packets, gap_us: (50, 500), flow: FLOW }
}

fn run(world: &mut World, request: RandomSpec) -> RandomReport {
    match world.run_to_end(RunRequest::Random(request)) {
        Finished::Random(report) => report,
        other => panic!("{other:?}"),
    }
}

fn assert_all_told(report: &RandomReport) {
    let delivered = report.delivered_ns.len() as u32;
    assert_eq!(
        delivered + report.lost + report.rescued + report.inconclusive,
        report.sent,
        "{report:?}"
    );
    assert_eq!(report.stuck_ns.len() as u32, report.lost);
}

#[test]
fn a_v4_11_guest_loses_nothing() {
    for seed in 0..4 {
        let mut world = World::new(Mode::V4_11, BUSY, seed);
        world.guest.temper.window_ns = 2_000..40_000;
        let report = run(&mut world, request(5_000));
        assert_eq!((report.sent, report.lost, report.inconclusive), (5_000, 0, 0));
        assert_all_told(&report);
    }
}

#[test]
fn a_v4_10_guest_loses_some_and_each_stays_lost_until_the_next_packet() {
    let mut lost = 0;
    for seed in 0..4 {
        let mut world = World::new(Mode::V4_10, BUSY, seed);
        world.guest.temper.window_ns = 2_000..40_000;
        world.guest.temper.irq_latency_us = 1..30;
        let report = run(&mut world, request(5_000));
        assert_eq!((report.sent, report.inconclusive), (5_000, 0));
        assert_all_told(&report);
        lost += report.lost;
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn an_interrupt_in_flight_is_never_taken_for_a_loss_however_long_it_takes() {
    for mode in [Mode::V4_11, Mode::V4_10] {
        let mut world = World::new(mode, Owner::Nobody, 5);
        // With no other owner nothing can be lost, however late interrupts are.
        world.guest.temper.irq_latency_us = 100..60_000;
        let report = run(&mut world, request(500));
        assert_eq!((report.sent, report.lost, report.rescued, report.inconclusive), (500, 0, 0, 0));
        assert_all_told(&report);
    }
    let mut world = World::new(Mode::V4_11, BUSY, 5);
    world.guest.temper.irq_latency_us = 100..60_000;
    world.guest.temper.window_ns = 2_000..40_000;
    let report = run(&mut world, request(1_000));
    assert_eq!((report.lost, report.rescued, report.inconclusive), (0, 0, 0));
}

#[test]
fn a_packet_whose_interrupt_never_comes_is_inconclusive_not_lost() {
    let mut inconclusive = 0;
    for nth in 1..60 {
        let mut world = World::new(Mode::V4_11, BUSY, nth.into());
        world.guest.temper.window_ns = 100_000..200_000;
        world.guest.temper.swallow = Some(world.guest.cells.fired.0 + nth);
        match world.run_to_end(RunRequest::Random(request(100))) {
            Finished::Random(report) => {
                assert_eq!(report.lost, 0);
                assert_all_told(&report);
                inconclusive += report.inconclusive;
            }
            // Nobody but that interrupt would have armed the queue again.
            Finished::Failed(why) => assert!(why.contains("no packet could be published"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(inconclusive > 0);
}

#[test]
fn the_last_packet_is_judged_too() {
    for seed in 0..200 {
        let mut world = World::new(Mode::V4_10, BUSY, seed);
        world.guest.temper.window_ns = 100_000..200_000;
        let report = run(&mut world, RandomSpec { gap_us: (50, 1_000), ..request(2) });
        assert_all_told(&report);
        assert_eq!(report.sent, 2);
        if report.lost > 0 && report.delivered_ns.len() == 1 {
            return;
        }
    }
    panic!("no run lost a packet");
}

#[test]
fn the_same_seed_gives_the_same_gaps() {
    let gaps = |world_seed| {
        // A guest that finds everything at once, so that nothing holds a packet back.
        let mut world = World::new(Mode::V4_11, Owner::Nobody, world_seed);
        world.guest.temper.irq_latency_us = 1..2;
        run(&mut world, request(50));
        world.published.windows(2).map(|pair| pair[1].since(pair[0])).collect::<Vec<_>>()
    };
    assert_eq!(gaps(1), gaps(2));
    assert!(gaps(1).iter().all(|gap| (50..=500).contains(&gap.as_micros())));
}

#[test]
fn the_run_fails_when_the_page_goes_or_changes() {
    for post_again in [false, true] {
        let mut world = World::new(Mode::V4_11, BUSY, 1);
        world.start(RunRequest::Random(request(100))).expect("it starts");
        world.run_for(Duration::from_millis(5));
        if post_again {
            world.register();
        } else {
            world.withdraw();
        }
        let Finished::Failed(why) = world.until_finished(Duration::from_secs(1)) else { panic!() };
        assert!(
            why.starts_with("The shared queue page was withdrawn or posted again after "),
            "{why}"
        );
        world.run_for(Duration::from_millis(1));
        world.assert_let_go();
    }
}

#[test]
fn the_run_fails_when_the_guest_has_no_buffers_or_never_gets_idle() {
    let mut world = World::new(Mode::V4_11, BUSY, 1);
    world.buffers = 0;
    let Finished::Failed(why) = world.run_to_end(RunRequest::Random(request(100))) else {
        panic!()
    };
    assert_eq!(
        why,
        "For 2s no packet could be published, for want of receive buffers as a rule, after 0 packets"
    );

    let mut world = World::new(Mode::V4_11, BUSY, 1);
    world.guest.cells.phase = 1;
    let Finished::Failed(why) = world.run_to_end(RunRequest::Random(request(100))) else {
        panic!()
    };
    assert!(why.starts_with("The queue was not idle within 2s: armed, produced"), "{why}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The invariant the whole project is about, wherever the counters wrap: a driver that sets
    /// `MISSED` loses nothing.
    #[test]
    fn a_v4_11_guest_never_loses_a_packet(
        seed in any::<u64>(),
        start in prop::sample::select(vec![0u32, 0xffff_ff00, 0xff80, 0x7fff_ff80]),
        timer in any::<bool>(),
        owner_us in 50u64..1_000,
        window_ns in 300u64..200_000,
        latency_us in 1u64..500,
        gap_us in (1u32..300, 300u32..1_500),
    ) {
        let length = Duration::from_micros(owner_us);
        let owner = if timer { Owner::Timer(length) } else { Owner::BusyPoll(length) };
        let mut lost = [0, 0];
        for (mode, lost) in [Mode::V4_11, Mode::V4_10].into_iter().zip(&mut lost) {
            let mut world = World::starting_at(mode, owner, seed, Counter(start));
            world.guest.temper.window_ns = window_ns..window_ns + 1_000;
            world.guest.temper.irq_latency_us = latency_us..latency_us + 100;
            let report = run(&mut world, RandomSpec { gap_us, ..request(400) });
            prop_assert_eq!((report.sent, report.inconclusive), (400, 0));
            assert_all_told(&report);
            *lost = report.lost;
        }
        prop_assert_eq!(lost[0], 0);
    }
}

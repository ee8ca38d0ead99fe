// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Natural runs: packets and interrupts placed by time alone, with no rendezvous.

use std::time::Duration;

use proptest::prelude::*;
use tsnic::net::pair::RX;
use tsnic_abi::Counter;
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{NaturalReport, NaturalSpec, Offsets, Outcome};

use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

/// `gro_flush_timeout`.
const TIMEOUT: Duration = Duration::from_micros(500);

fn request(trials: u32) -> NaturalSpec {
    NaturalSpec {
        seed: 3,
        trials,
        flow: FLOW,
        burst: 48,
        burst_us: (300, 300),
        straggler_us: (100, 600),
        interrupt_us: (0, 20),
        stuck_us: (1_000, 2_000),
        nudges: false,
    }
}

/// A guest whose stack takes long for a batch: the window is wide.
fn world(mode: Mode, seed: u64) -> World {
    let mut world = World::new(mode, Owner::Watchdog(TIMEOUT), seed);
    world.guest.temper.irq_latency_us = 1..30;
    world.guest.temper.window_ns = 100_000..200_000;
    world
}

fn run(world: &mut World, request: NaturalSpec) -> NaturalReport {
    match world.run_to_end(RunRequest::Natural(request)) {
        Finished::Natural(report) => report,
        other => panic!("{other:?}"),
    }
}

fn count(report: &NaturalReport, outcome: Outcome) -> u32 {
    report.trials.iter().filter(|trial| trial.outcome == outcome).count() as u32
}

/// Each trial has come to its end, and the trials together account for every loss of the run.
fn assert_all_told(report: &NaturalReport) {
    assert_eq!(count(report, Outcome::Inconclusive), 0);
    assert_eq!(count(report, Outcome::Lost), report.lost);
    assert_eq!(count(report, Outcome::Rescued), report.rescued);
    for trial in &report.trials {
        let delivered = trial.outcome == Outcome::Delivered;
        assert_eq!(trial.delivered_ns.is_some(), delivered, "{trial:?}");
        assert_eq!(trial.stuck_ns.is_some(), !delivered, "{trial:?}");
        assert!(trial.straggler_ns.is_some() && trial.reason.is_none(), "{trial:?}");
    }
}

#[test]
fn a_v4_10_guest_with_a_wide_window_loses_packets_and_they_stay_lost() {
    let mut world = world(Mode::V4_10, 1);
    let report = run(&mut world, request(400));
    assert_all_told(&report);
    assert_eq!((report.trials.len(), report.rescued), (400, 0));
    assert!(report.lost > 40, "{}", report.lost);
    for trial in report.trials.iter().filter(|trial| trial.outcome == Outcome::Lost) {
        assert!(trial.owned, "the interrupt found the NAPI owned: {trial:?}");
        assert!(trial.stuck_ns.unwrap() >= 1_000_000, "it was left alone: {trial:?}");
        let window = trial.window.expect("it was lost in a window");
        let straggler = trial.straggler_ns.unwrap();
        // The device sees both ends a little late.
        assert!(straggler < window.to_ns && straggler + 50_000 > window.from_ns, "{trial:?}");
    }
}

#[test]
fn a_run_that_allows_nudges_leaves_what_is_lost_to_the_stall_detector() {
    let after = Duration::from_millis(20);
    let spec = NaturalSpec { stuck_us: (60_000, 60_000), nudges: true, ..request(60) };
    for (mode, nudges) in [(Mode::V4_10, true), (Mode::V4_10, false), (Mode::V4_11, true)] {
        let owner = Owner::Watchdog(TIMEOUT);
        let mut world = World::with_stall_detector(mode, owner, 1, after);
        world.guest.temper.irq_latency_us = 1..30;
        world.guest.temper.window_ns = 100_000..200_000;
        let report = run(&mut world, NaturalSpec { nudges, ..spec });
        assert_all_told(&report);
        let loses = mode == Mode::V4_10;
        assert_eq!(report.lost > 5, loses, "{mode:?}: {}", report.lost);
        let stalls = world.pair.status().stalls.expect("the detector is on");
        let told = if nudges { u64::from(report.lost) } else { 0 };
        assert_eq!((stalls[RX].lost, stalls[RX].nudges), (told, told), "{mode:?}");
        assert_eq!(world.counters().detector_disagreements, 0);
        for trial in report.trials.iter().filter(|trial| trial.outcome == Outcome::Lost) {
            let stuck = Duration::from_nanos(trial.stuck_ns.unwrap());
            assert_eq!(stuck < Duration::from_millis(50), nudges, "{stuck:?}");
        }
    }
}

#[test]
fn a_v4_11_guest_loses_nothing_in_the_same_window() {
    let mut world = world(Mode::V4_11, 1);
    let report = run(&mut world, request(2_000));
    assert_all_told(&report);
    assert_eq!((report.trials.len(), report.lost, report.rescued), (2_000, 0, 0));
    let owned = report.trials.iter().filter(|trial| trial.owned).count();
    assert!(owned > 200, "the interrupt found the NAPI owned in {owned} trials");
}

#[test]
fn a_v4_10_guest_without_the_window_loses_nothing() {
    let mut world = world(Mode::V4_10, 1);
    // No interrupt is as quick as this.
    world.guest.temper.window_ns = 100..200;
    let report = run(&mut world, request(400));
    assert_all_told(&report);
    assert_eq!((report.lost, report.rescued), (0, 0));
}

#[test]
fn a_guest_whose_owner_is_the_interrupt_loses_nothing() {
    let mut world = world(Mode::V4_10, 1);
    world.guest.owner = Owner::Nobody;
    let report = run(&mut world, request(400));
    assert_all_told(&report);
    assert_eq!((report.lost, report.rescued), (0, 0));
    assert!(report.trials.iter().all(|trial| trial.window.is_none() && !trial.owned));
}

#[test]
fn a_poll_that_finds_a_lost_packet_has_rescued_it() {
    let mut world = world(Mode::V4_10, 1);
    // This timer runs after every poll.
    world.guest.owner = Owner::Timer(TIMEOUT);
    let report = run(&mut world, request(400));
    assert_all_told(&report);
    assert!(report.rescued > 40 && report.lost == 0, "{}, {}", report.rescued, report.lost);
}

#[test]
fn the_window_and_the_latency_are_those_of_the_guest() {
    let mut world = world(Mode::V4_11, 1);
    world.guest.temper.irq_latency_us = 70..71;
    world.guest.temper.window_ns = 150_000..151_000;
    // After the window: nothing comes in between.
    let report = run(&mut world, NaturalSpec { straggler_us: (900, 900), ..request(200) });
    let mut windows = 0;
    for trial in &report.trials {
        if let Some(window) = trial.window {
            windows += 1;
            // A look every 30 us, and an arm that is heard of within 40.
            let length = window.to_ns - window.from_ns;
            assert!((110_000..=200_000).contains(&length), "{trial:?}");
        }
        assert!((70_000..=110_000).contains(&trial.handled_ns.unwrap()), "{trial:?}");
    }
    assert!(windows > 150, "{windows}");
}

#[test]
fn packets_and_interrupt_are_where_they_were_meant_to_be() {
    let mut world = world(Mode::V4_11, 1);
    let report = run(&mut world, request(200));
    for trial in &report.trials {
        let Offsets { straggler_us, interrupt_us, .. } = trial.offsets;
        assert_eq!(trial.straggler_ns, Some(u64::from(straggler_us) * 1_000));
        if let Some(interrupt_ns) = trial.interrupt_ns {
            assert_eq!(interrupt_ns, u64::from(interrupt_us) * 1_000);
        }
    }
    // One frame for GRO, one that ends it, the burst and the straggler.
    assert_eq!(world.published.len(), 200 * 51);
    let mut times: Vec<_> = world.published;
    times.dedup();
    assert_eq!(times.len(), 200 * 3, "the burst is published at once");
}

#[test]
fn the_same_seed_gives_the_same_offsets() {
    let offsets = |world_seed, seed| {
        let mut world = world(Mode::V4_10, world_seed);
        let report = run(&mut world, NaturalSpec { seed, ..request(50) });
        report.trials.iter().map(|trial| trial.offsets).collect::<Vec<_>>()
    };
    assert_eq!(offsets(1, 3), offsets(2, 3));
    assert_ne!(offsets(1, 3), offsets(1, 4));
    assert!(offsets(1, 3).iter().all(|it| (100..=600).contains(&it.straggler_us)));
}

#[test]
fn an_interrupt_in_flight_is_never_taken_for_a_loss_however_long_it_takes() {
    for mode in [Mode::V4_11, Mode::V4_10] {
        let mut world = world(mode, 5);
        // With no other owner nothing can be lost, however late interrupts are.
        world.guest.owner = Owner::Nobody;
        world.guest.temper.irq_latency_us = 100..60_000;
        let report = run(&mut world, request(200));
        assert_all_told(&report);
        assert_eq!((report.lost, report.rescued), (0, 0));
    }
}

#[test]
fn a_packet_whose_interrupt_never_comes_is_inconclusive_not_lost() {
    let mut inconclusive = 0;
    for nth in 1..30 {
        let mut world = world(Mode::V4_11, nth.into());
        world.guest.temper.swallow = Some(world.guest.cells.fired.0 + nth);
        match world.run_to_end(RunRequest::Natural(request(20))) {
            Finished::Natural(report) => {
                assert_eq!((report.trials.len(), report.lost, report.rescued), (20, 0, 0));
                inconclusive += count(&report, Outcome::Inconclusive);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(inconclusive > 0);
}

#[test]
fn the_run_fails_when_the_page_goes_or_changes() {
    for post_again in [false, true] {
        let mut world = world(Mode::V4_11, 1);
        world.start(RunRequest::Natural(request(100))).expect("it starts");
        world.run_for(Duration::from_millis(5));
        if post_again {
            world.register();
        } else {
            world.withdraw();
        }
        let Finished::Failed(why) = world.until_finished(Duration::from_secs(1)) else { panic!() };
        let text = "The shared queue page was withdrawn or posted again after ";
        assert!(why.starts_with(text), "{why}");
        world.run_for(Duration::from_millis(1));
        world.assert_let_go();
    }
}

#[test]
fn a_guest_without_buffers_ends_the_run_with_the_reason() {
    let mut world = world(Mode::V4_11, 1);
    // Enough for all but the burst.
    world.buffers = 20;
    let report = run(&mut world, request(100));
    assert_eq!(count(&report, Outcome::Inconclusive), 100);
    let reasons: Vec<_> = report.trials.iter().filter_map(|it| it.reason.as_deref()).collect();
    assert_eq!(
        (reasons[0], reasons[99]),
        (
            "Not everything was published, for want of receive buffers as a rule",
            "Not tried: 10 trials in a row were inconclusive"
        )
    );
}

#[test]
fn a_guest_that_never_gets_idle_ends_the_run_with_the_reason() {
    let mut world = world(Mode::V4_11, 1);
    world.guest.cells.phase = 1;
    let report = run(&mut world, request(100));
    assert_eq!(count(&report, Outcome::Inconclusive), 100);
    let reason = report.trials[0].reason.as_deref().unwrap();
    assert!(reason.starts_with("The queue was not idle within 2s: armed, produced"), "{reason}");
}

#[test]
fn a_cancelled_run_holds_no_interrupt_back() {
    for us in (0..3_000).step_by(37) {
        let mut world = world(Mode::V4_11, 1);
        world.start(RunRequest::Natural(request(100))).expect("it starts");
        world.run_for(Duration::from_micros(us));
        world.cancel();
        world.run_for(Duration::from_millis(2));
        assert_eq!(world.guest.consumed, world.guest.cells.used, "after {us} us");
        world.assert_let_go();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The invariant the whole project is about, wherever the counters wrap: a driver that sets
    /// `MISSED` loses nothing.
    #[test]
    fn a_v4_11_guest_never_loses_a_packet(
        seed in any::<u64>(),
        start in prop::sample::select(vec![0u32, 0xffff_ff00, 0xff80, 0x7fff_ff80]),
        owner in 0..3,
        owner_us in 50u64..1_000,
        window_ns in 300u64..200_000,
        latency_us in 1u64..500,
        straggler_us in (0u32..300, 300u32..1_500),
    ) {
        let length = Duration::from_micros(owner_us);
        let owner = match owner {
            0 => Owner::Timer(length),
            1 => Owner::BusyPoll(length),
            _ => Owner::Watchdog(length),
        };
        for mode in [Mode::V4_11, Mode::V4_10] {
            let mut world = World::starting_at(mode, owner, seed, Counter(start));
            world.guest.temper.window_ns = window_ns..window_ns + 1_000;
            world.guest.temper.irq_latency_us = latency_us..latency_us + 100;
            let report = run(&mut world, NaturalSpec { straggler_us, ..request(100) });
            prop_assert_eq!(count(&report, Outcome::Inconclusive), 0);
            if mode == Mode::V4_11 {
                assert_all_told(&report);
                prop_assert_eq!((report.lost, report.rescued), (0, 0));
            }
        }
    }
}

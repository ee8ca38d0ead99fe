// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Injection runs: packets published while the guest is at the rendezvous.

use std::time::Duration;

use proptest::prelude::*;
use tsnic_abi::Counter;
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{InjectionReport, InjectionSpec, Outcome, Stimulus};

use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

const OWNERS: [Owner; 2] =
    [Owner::Timer(Duration::from_millis(2)), Owner::BusyPoll(Duration::from_micros(200))];

fn request(rounds: u32) -> InjectionSpec {
    InjectionSpec {
        seed: 7,
        rounds,
        flow: FLOW,
        stimulus: Stimulus::Udp,
        stuck_us: (1_000, 30_000),
    }
}

fn run(world: &mut World, request: InjectionSpec) -> InjectionReport {
    match world.run_to_end(RunRequest::Injection(request)) {
        Finished::Injection(report) => report,
        other => panic!("{other:?}"),
    }
}

fn count(report: &InjectionReport, outcome: Outcome) -> usize {
    report.rounds.iter().filter(|round| round.outcome == outcome).count()
}

#[test]
fn a_v4_10_guest_loses_every_injected_packet_and_keeps_it_lost_for_the_time_drawn() {
    for owner in OWNERS {
        for seed in 0..5 {
            let mut world = World::new(Mode::V4_10, owner, seed);
            let report = run(&mut world, request(100));
            assert_eq!(count(&report, Outcome::Lost), 100, "{owner:?} {:?}", report.rounds);
            for round in &report.rounds {
                let stuck_ns = round.stuck_ns.expect("a lost packet has a stuck time");
                assert!((1_000_000..40_000_000).contains(&stuck_ns), "{stuck_ns}");
                assert_eq!(round.delivered_ns, None);
            }
            assert_eq!(world.guest.gave_up, 0);
        }
    }
}

#[test]
fn a_v4_11_guest_loses_none() {
    for owner in OWNERS {
        for seed in 0..5 {
            let mut world = World::new(Mode::V4_11, owner, seed);
            let report = run(&mut world, request(100));
            assert_eq!(count(&report, Outcome::Delivered), 100, "{owner:?} {:?}", report.rounds);
            assert!(
                report
                    .rounds
                    .iter()
                    .all(|round| round.delivered_ns.is_some_and(|ns| ns < 2_000_000))
            );
        }
    }
}

#[test]
fn a_round_begins_with_what_the_last_one_left_and_waits_for_no_quiet() {
    for mode in [Mode::V4_10, Mode::V4_11] {
        let mut world = World::new(mode, OWNERS[1], 1);
        let report = run(&mut world, InjectionSpec { stuck_us: (1_000, 1_000), ..request(200) });
        assert_eq!(report.stimuli, 1, "the first one");
        assert!(report.elapsed_ns < 200 * 2_000_000, "{} ns", report.elapsed_ns);
    }
    // GRO holds a stimulus only.
    let owner = Owner::Watchdog(Duration::from_micros(500));
    let mut world = World::new(Mode::V4_10, owner, 1);
    let spec =
        InjectionSpec { stimulus: Stimulus::GroHeld, stuck_us: (1_000, 1_000), ..request(200) };
    let report = run(&mut world, spec);
    assert_eq!((count(&report, Outcome::Lost), report.stimuli), (200, 200));
    assert!(report.elapsed_ns < 200 * 3_000_000, "{} ns", report.elapsed_ns);
}

#[test]
fn an_owner_who_comes_before_the_device_has_heard_of_the_arm_is_met() {
    for mode in [Mode::V4_10, Mode::V4_11] {
        let mut world = World::new(mode, OWNERS[1], 1);
        // Longer than the receiver busy-polls.
        world.wakes_us = 300..500;
        let report = run(&mut world, request(100));
        let outcome = if mode == Mode::V4_10 { Outcome::Lost } else { Outcome::Delivered };
        assert_eq!((count(&report, outcome), report.stimuli), (100, 1));
    }
}

#[test]
fn a_guest_that_does_not_come_by_itself_gets_a_stimulus() {
    // Its timer takes longer than the device waits for it.
    let mut world = World::new(Mode::V4_10, Owner::Timer(Duration::from_millis(40)), 1);
    let report = run(&mut world, request(50));
    assert_eq!(count(&report, Outcome::Lost), 50);
    assert_eq!(report.stimuli, 50);
    // Stimulus, injected packet, the one after it. The stimulus waits for a quiet guest.
    for (one, next) in world.published.chunks(3).zip(world.published.chunks(3).skip(1)) {
        assert!(next[0].since(one[2]) >= Duration::from_millis(20 + 5));
    }
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
    let stuck_ms = |world_seed, seed| {
        let mut world = World::new(Mode::V4_10, OWNERS[1], world_seed);
        let report = run(&mut world, InjectionSpec { seed, ..request(20) });
        report
            .rounds
            .iter()
            .map(|round| round.stuck_ns.expect("lost") / 1_000_000)
            .collect::<Vec<_>>()
    };
    let plan = stuck_ms(1, 7);
    assert_eq!(plan, stuck_ms(1, 7), "same guest, same seed: the same to the nanosecond");
    for (one, other) in plan.iter().zip(stuck_ms(2, 7)) {
        assert!(
            one.abs_diff(other) <= 1,
            "another guest, same seed: the same but for the guest's own time"
        );
    }
    assert_ne!(plan, stuck_ms(1, 8));
}

fn reason(report: &InjectionReport, round: usize) -> &str {
    assert_eq!(report.rounds[round].outcome, Outcome::Inconclusive, "{:?}", report.rounds[round]);
    report.rounds[round].reason.as_deref().expect("an inconclusive round has a reason")
}

#[test]
fn a_guest_that_never_comes_makes_rounds_inconclusive_and_ends_the_run_early() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 1);
    world.guest.temper.comes = false;
    let report = run(&mut world, request(30));
    assert_eq!(report.rounds.len(), 30);
    assert!(
        reason(&report, 0)
            .starts_with("The guest did not come to the rendezvous: 40 stimuli in 2s")
    );
    assert_eq!(reason(&report, 10), "Not tried: 10 rounds in a row were inconclusive");
    assert_eq!(report.stimuli, 10 * 40);
}

#[test]
fn a_guest_with_nobody_to_own_the_napi_only_comes_unarmed_and_is_let_go_each_time() {
    let mut world = World::new(Mode::V4_10, Owner::Nobody, 1);
    let report = run(&mut world, request(1));
    assert!(reason(&report, 0).starts_with("The guest did not come"));
    assert!(world.counters().releases > 36 && world.guest.gave_up == 0);
    assert_eq!(world.counters().lost, 0);
}

#[test]
fn a_guest_that_leaves_the_rendezvous_before_the_interrupt_came_is_inconclusive() {
    for mode in [Mode::V4_11, Mode::V4_10] {
        let mut world = World::new(mode, OWNERS[0], 3);
        world.guest.temper.spin = Duration::from_millis(5);
        world.start(RunRequest::Injection(request(2))).expect("it starts");
        world.run_for(Duration::from_millis(5));
        assert_eq!(
            world.published.len(),
            1,
            "the stimulus has been handled, the timer has not run out"
        );
        world.guest.temper.irq_latency_us = 8_000..9_000;
        assert!(world.run_until(Duration::from_secs(1), |world| world.published.len() == 2));
        world.guest.temper.irq_latency_us = 20..200;
        let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
            panic!()
        };
        assert_eq!(
            reason(&report, 0),
            "The guest left the rendezvous before the interrupt was handled"
        );
        assert_ne!(report.rounds[1].outcome, Outcome::Inconclusive, "{report:?}");
        assert_eq!(world.guest.gave_up, 1);
    }
}

#[test]
fn an_interrupt_that_never_arrives_is_inconclusive_and_the_next_round_works() {
    for (mode, outcome) in [(Mode::V4_11, Outcome::Delivered), (Mode::V4_10, Outcome::Lost)] {
        let mut world = World::new(mode, OWNERS[0], 3);
        let fired = world.guest.cells.fired.0;
        // The first is the stimulus's, the second the injection's.
        world.guest.temper.swallow = Some(fired + 2);
        let report = run(&mut world, request(3));
        assert!(
            reason(&report, 0).starts_with("The interrupt was not handled within 200 ms"),
            "{report:?}"
        );
        assert_eq!(report.rounds[1].outcome, outcome);
        assert_eq!(report.rounds[2].outcome, outcome);
        assert_eq!(world.guest.gave_up, 0, "it was let go before its own bound");
    }
}

#[test]
fn a_stimulus_whose_interrupt_never_arrives_leaves_a_queue_that_nobody_arms() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.guest.temper.swallow = Some(world.guest.cells.fired.0 + 1);
    let report = run(&mut world, request(12));
    assert!(reason(&report, 0).starts_with("The guest did not come"));
    assert!(
        reason(&report, 1).starts_with("The queue was not idle within 2s: not armed, produced"),
        "{report:?}"
    );
    assert!(reason(&report, 11).starts_with("Not tried"));
}

#[test]
fn a_stimulus_that_leads_nowhere_is_repeated_after_50_ms() {
    let mut world = World::new(Mode::V4_10, OWNERS[0], 3);
    world.guest.temper.comes = false;
    world.start(RunRequest::Injection(request(1))).expect("it starts");
    world.run_for(Duration::from_millis(120));
    world.guest.temper.comes = true;
    let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
        panic!()
    };
    assert_eq!((report.stimuli, report.rounds[0].outcome), (4, Outcome::Lost));
}

#[test]
fn a_guest_that_does_not_arm_after_the_injection_is_inconclusive() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.start(RunRequest::Injection(request(1))).expect("it starts");
    assert!(world.run_until(Duration::from_secs(1), |world| world.published.len() == 2));
    world.guest.temper.never_arms = true;
    let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
        panic!()
    };
    assert!(
        reason(&report, 0).starts_with("Neither delivered nor lost within 2000 ms"),
        "{report:?}"
    );
}

#[test]
fn traffic_from_before_the_run_is_waited_for_even_when_it_is_lost() {
    let mut world = World::new(Mode::V4_10, OWNERS[0], 3);
    lose_one(&mut world);
    let report = run(&mut world, request(10));
    assert_eq!(count(&report, Outcome::Lost), 10, "{report:?}");
}

/// Sends packets until one is lost.
fn lose_one(world: &mut World) {
    let healthy = world.guest.temper.clone();
    world.guest.temper.window_ns = 300_000..400_000;
    world.guest.temper.irq_latency_us = 1..20;
    // Its own state says so, whatever the device thinks: a packet is in the ring and nobody owns
    // the NAPI.
    let lost = |world: &World| world.guest.is_stuck();
    for n in 0..1_000 {
        world.send([None]);
        world.poke();
        // Sooner or later a packet comes just when the timer's poll has looked for the last time.
        world.run_for(Duration::from_micros(2_300 + 50 * (n % 10)));
        if lost(world) {
            world.run_for(Duration::from_millis(10));
            if lost(world) {
                world.guest.temper = healthy;
                return;
            }
        }
    }
    panic!("no packet was lost");
}

#[test]
fn a_withdrawn_page_ends_the_run_after_a_while() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.start(RunRequest::Injection(request(20))).expect("it starts");
    world.run_until(Duration::from_secs(1), |world| world.published.len() == 5);
    world.withdraw();
    let begin = world.now;
    let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
        panic!()
    };
    assert!(world.now.since(begin) < Duration::from_secs(5));
    assert_eq!(report.rounds.len(), 20);
    assert_eq!(reason(&report, 19), "Not tried: No shared queue page for 2000 ms");
    assert!(
        report
            .rounds
            .iter()
            .any(|round| round.reason.as_deref() == Some("The shared queue page was withdrawn"))
    );
}

#[test]
fn a_page_posted_again_spoils_the_round_it_comes_in_and_no_other() {
    for publications in 1..8 {
        let mut world = World::new(Mode::V4_10, OWNERS[1], publications);
        world.start(RunRequest::Injection(request(20))).expect("it starts");
        assert!(world.run_until(Duration::from_secs(5), |world| world.published.len() as u64
            == publications));
        world.register();
        let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
            panic!()
        };
        assert_eq!(count(&report, Outcome::Inconclusive), 1, "{publications} {report:?}");
        assert_eq!(count(&report, Outcome::Lost), 19, "{publications} {report:?}");
    }
}

#[test]
fn a_guest_without_receive_buffers_is_named() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.buffers = 0;
    let report = run(&mut world, request(1));
    assert!(reason(&report, 0).contains("40 of them not sent"), "{report:?}");
    assert_eq!(report.stimuli, 0);
}

#[test]
fn no_receive_buffer_for_the_injected_packet_calls_the_injection_off() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.start(RunRequest::Injection(request(2))).expect("it starts");
    assert!(world.run_until(Duration::from_secs(1), |world| world.published.len() == 1));
    world.run_for(Duration::from_millis(1));
    world.buffers = 0;
    world.run_for(Duration::from_millis(10));
    world.buffers = 256;
    let Finished::Injection(report) = world.until_finished(Duration::from_secs(60)) else {
        panic!()
    };
    assert!(
        reason(&report, 0).contains("The injected packet could not be published"),
        "{report:?}"
    );
    assert_eq!(report.rounds[1].outcome, Outcome::Delivered);
    assert_eq!(world.guest.gave_up, 0, "the guest was let go");
}

#[test]
fn the_port_is_shut_while_the_run_is_on_and_open_afterwards() {
    let mut world = World::new(Mode::V4_11, OWNERS[0], 3);
    world.start(RunRequest::Injection(request(3))).expect("it starts");
    world.send([None]);
    world.run_for(Duration::from_millis(1));
    world.poke();
    assert_eq!(world.waiting(), 1);
    world.until_finished(Duration::from_secs(60));
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.waiting(), 0);
    world.assert_let_go();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the guest writes, a run comes to its end, and no wait in it is without bound.
    #[test]
    fn a_guest_that_scribbles_on_its_cells_cannot_hang_or_break_the_run(
        seed in any::<u64>(),
        before_the_fix in any::<bool>(),
        scribbles in prop::collection::vec((0u64..60_000, 0u8..9, any::<u32>()), 1..60),
    ) {
        let mode = if before_the_fix { Mode::V4_10 } else { Mode::V4_11 };
        let mut world = World::new(mode, OWNERS[usize::from(seed % 2 == 0)], seed);
        world.start(RunRequest::Injection(request(4))).expect("it starts");
        for (us, cell, value) in scribbles {
            world.run_for(Duration::from_micros(us));
            let cells = &mut world.guest.cells;
            let near = |counter: Counter| counter.plus((value % 5).wrapping_sub(2));
            match cell {
                0 => cells.ci = Counter(value),
                1 => cells.ci = near(cells.ci),
                2 => cells.arm = near(cells.arm),
                3 => cells.irq_seen = near(cells.irq_seen),
                4 => cells.irq_owned = near(cells.irq_owned),
                5 => cells.phase = value % 3,
                6 => cells.arrived = cells.arrived.wrapping_add(value % 3),
                7 => cells.point = value % 3,
                _ => (cells.irq_seen, cells.irq_owned) = (Counter(value), Counter(value)),
            }
            world.guest.kicked = value % 2 == 0;
        }
        if world.finished.is_none() {
            world.until_finished(Duration::from_secs(120));
        }
        world.run_for(Duration::from_millis(1));
        world.assert_let_go();
    }
}

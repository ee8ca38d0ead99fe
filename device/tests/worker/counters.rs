// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every counter is incremented by the situation it is named for, and by the end of the list all of
//! them are.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tsnic::frame::{Frame, NetHeader};
use tsnic::net::features::Features;
use tsnic_core::counters::Counters;
use tsnic_core::policy::spec::{PolicySpec, Span};
use tsnic_core::run::RunRequest;
use tsnic_core::spec::{InjectionSpec, MonitorSpec, Stimulus};
use tsnic_core::wire::HELD_MAX;
use tsnic_core::wire::spec::PacketSpec;

use super::client::PORT;
use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

const ZEROES: u64 = 0x8_0000;
const NOWHERE: u64 = 1 << 40;

fn world() -> World {
    World::new(Mode::V4_10, Owner::Timer(Duration::from_millis(2)), 1)
}

fn deliver(world: &World, frame: Frame) {
    world.pair.port().frames.lock().unwrap().push_back(frame);
}

/// A frame for a guest that arms, is interrupted, and posted its page before.
fn ordinary_traffic() -> Counters {
    let mut world = world();
    world.pair.connected();
    world.send([None]);
    world.poke();
    world.rings.post_transmit(ZEROES, 100);
    world.poke();
    world.counters()
}

fn an_injection_at_the_rendezvous() -> Counters {
    let mut world = world();
    let stuck_us = (1_000, 1_000);
    let spec = InjectionSpec { seed: 1, rounds: 1, flow: FLOW, stimulus: Stimulus::Udp, stuck_us };
    world.run_to_end(RunRequest::Injection(spec));
    world.counters()
}

/// The handler finds the NAPI owned, the owner arms without the packet, and a later arm covers it.
/// Then an arm covers what has not been published.
fn a_rescue_and_an_arm_that_cannot_be_true() -> Counters {
    let mut world = World::new(Mode::V4_10, Owner::Nobody, 1);
    let fired = world.guest.cells.fired.plus(1);
    world.guest.temper.swallow = Some(fired.0);
    world.send([None]);
    world.poke();
    let end = world.guest.cells.used;
    let cells = &mut world.guest.cells;
    (cells.irq_owned, cells.irq_seen, cells.arm_irq_seen) = (fired, fired, fired);
    for ci in [cells.ci, end, end.plus(1)] {
        world.guest.cells.ci = ci;
        world.guest.cells.arm = world.guest.cells.arm.plus(1);
        world.poke();
    }
    world.counters()
}

fn frames_nobody_can_use() -> Counters {
    let mut world = world();
    deliver(
        &world,
        Frame { header: NetHeader { gso_type: 1, ..NetHeader::default() }, bytes: vec![0; 60] },
    );
    world.pair.set_features(Features(1 << 32));
    deliver(&world, Frame { bytes: vec![0; 3000], ..Frame::default() });
    world.rings.post_transmit(ZEROES, 20);
    world.poke();
    world.rings.post_transmit(NOWHERE, 100);
    world.poke();
    world.pair.port().refuses.store(true, Ordering::Relaxed);
    world.rings.post_transmit(ZEROES, 100);
    world.poke();
    world.counters()
}

fn no_buffers() -> Counters {
    let mut world = world();
    world.pair.port().loses.store(true, Ordering::Relaxed);
    world.buffers = 0;
    world.send([None]);
    world.poke();
    world.counters()
}

fn buffers_in_memory_that_is_not_shared() -> Counters {
    let mut world = world();
    world.rings.move_buffers(NOWHERE);
    world.send([None]);
    world.serve()
}

fn frames_held_for_a_guest_that_goes() -> Counters {
    let mut world = world();
    let spec = MonitorSpec { seed: 1, port: PORT, inject_per_mille: 1000 };
    world.start(RunRequest::Monitor(spec)).unwrap();
    world.send([Some(1)]);
    world.poke();
    world.run_until(Duration::from_secs(1), |world| world.guest.cells.requested != 0);
    world.send([None]);
    world.poke();
    assert_eq!(world.held(), 1);
    world.pair.disconnected(&world.rings.memory);
    world.counters()
}

fn a_port_that_goes_and_comes() -> Counters {
    let mut world = world();
    for detached in [true, false] {
        world.pair.port().detached.store(detached, Ordering::Relaxed);
        world.poke();
    }
    world.counters()
}

/// An interrupt that is raised twice, one that is held, and one that is dropped while its driver
/// arms by itself.
fn policies_at_work() -> Counters {
    let mut world = World::new(Mode::V4_10, Owner::Nobody, 1);
    let duplicate = PolicySpec::Duplicate { copies: 1, gap_us: 10, per_mille: 1000 };
    world.set_policies(vec![PolicySpec::FixedDelay { delay_us: 5 }, duplicate]);
    world.send([None]);
    world.poke();
    world.run_for(Duration::from_millis(1));
    world.set_policies(vec![PolicySpec::Drop { per_mille: 1000 }]);
    world.send([None]);
    world.poke();
    world.guest.cells.arm = world.guest.cells.arm.plus(1);
    world.poke();
    world.send([None]);
    world.poke();
    world.counters()
}

fn a_wire_that_does_what_it_can() -> Counters {
    let mut world = world();
    let frames = |world: &mut World, count: usize| {
        world.send(vec![None; count]);
        world.poke();
    };
    let late = PacketSpec::Delay(Span { from_us: 1_000, to_us: 1_000 });
    let every = 1000;
    for spec in [
        PacketSpec::Corrupt { per_mille: every },
        PacketSpec::Loss { per_mille: every },
        PacketSpec::Duplicate { per_mille: every, copies: 1 },
        PacketSpec::Reorder { per_mille: every, frames: 1, latest_us: 1_000 },
        late,
    ] {
        world.set_packets(1, [vec![spec], vec![]]);
        frames(&mut world, if spec == late { HELD_MAX + 1 } else { 1 });
        world.run_for(Duration::from_millis(2));
    }
    world.counters()
}

/// The handler finds the NAPI owned, the owner arms without the packet, and no later interrupt
/// reaches the handler: lost to the one detector, stopped to the other.
fn a_lost_packet_that_nudges_do_not_bring() -> Counters {
    let after = Duration::from_millis(50);
    let mut world = World::with_stall_detector(Mode::V4_10, Owner::Nobody, 1, after);
    let fired = world.guest.cells.fired.plus(1);
    world.guest.temper.swallow = Some(fired.0);
    world.send([None]);
    world.poke();
    world.guest.temper.swallows_all = true;
    let cells = &mut world.guest.cells;
    (cells.irq_owned, cells.irq_seen, cells.arm_irq_seen) = (fired, fired, fired);
    cells.arm = cells.arm.plus(1);
    world.poke();
    world.run_for(Duration::from_secs(1));
    world.counters()
}

fn a_page_that_is_refused() -> Counters {
    let mut world = world();
    world.withdraw();
    world.counters()
}

fn a_command_that_nobody_knows() -> Counters {
    let mut world = world();
    world.rings.write_command(7, u32::MAX);
    world.serve()
}

fn a_broken_ring() -> Counters {
    let mut world = world();
    world.rings.break_transmit();
    world.serve()
}

#[test]
fn every_counter_counts() {
    let situations: [(Counters, &[&str]); 14] = [
        (
            ordinary_traffic(),
            &[
                "rx_frames",
                "rx_bytes",
                "rx_completions",
                "rx_interrupts",
                "tx_frames",
                "tx_bytes",
                "tx_interrupts",
                "registrations",
                "arms",
                "connections",
            ],
        ),
        (an_injection_at_the_rendezvous(), &["releases", "lost", "loss_candidates"]),
        (a_rescue_and_an_arm_that_cannot_be_true(), &["rescued", "ci_errors"]),
        (
            frames_nobody_can_use(),
            &["rx_malformed", "rx_too_big", "tx_malformed", "tx_unshared", "tx_port_errors"],
        ),
        (no_buffers(), &["rx_no_buffers"]),
        (buffers_in_memory_that_is_not_shared(), &["rx_unshared"]),
        (frames_held_for_a_guest_that_goes(), &["rx_not_running"]),
        (a_port_that_goes_and_comes(), &["port_detached", "port_reattached"]),
        (a_page_that_is_refused(), &["registrations_refused", "pages_forgotten"]),
        (a_command_that_nobody_knows(), &["commands", "commands_refused"]),
        (
            policies_at_work(),
            &["interrupts_held", "interrupts_dropped", "interrupts_spurious", "lost_to_drops"],
        ),
        (
            a_wire_that_does_what_it_can(),
            &[
                "frames_dropped_by_policy",
                "frames_duplicated",
                "frames_reordered",
                "frames_corrupted",
                "frames_delayed",
                "frames_not_held",
            ],
        ),
        (a_lost_packet_that_nudges_do_not_bring(), &["nudges", "stalls", "detector_disagreements"]),
        (a_broken_ring(), &["queues_broken"]),
    ];
    let mut left = tsnic_protocol::Counters::default().by_name();
    for (counters, names) in &situations {
        let counters = tsnic_protocol::Counters::from(counters).by_name();
        for name in *names {
            assert_ne!(counters[name], 0, "{name}");
            left.remove(name);
        }
    }
    assert!(left.is_empty(), "no situation for {left:?}");
}

#[test]
fn what_is_counted_of_losses_stays_when_the_page_goes() {
    let mut world = world();
    let stuck_us = (1_000, 1_000);
    let spec = InjectionSpec { seed: 1, rounds: 3, flow: FLOW, stimulus: Stimulus::Udp, stuck_us };
    world.run_to_end(RunRequest::Injection(spec));
    let before = world.counters();
    assert!(before.lost >= 3);
    for step in [World::register, World::withdraw] {
        step(&mut world);
        let after = world.counters();
        assert_eq!((after.lost, after.loss_candidates), (before.lost, before.loss_candidates));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The traffic monitor: requests of a TCP client pass by, and some of them are injected.

use std::time::Duration;

use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{MonitorReport, MonitorSpec, Outcome};

use super::client::{Client, PORT};
use super::guest::{Mode, Owner};
use super::ports::stamp;
use super::world::World;

const BUSY: Owner = Owner::BusyPoll(Duration::from_micros(200));

fn request(inject_per_mille: u32) -> MonitorSpec {
    MonitorSpec { seed: 11, port: PORT, inject_per_mille }
}

fn world(mode: Mode, seed: u64, requests: u64) -> World {
    let mut world = World::new(mode, BUSY, seed);
    world.client = Some(Client::new(requests));
    world
}

fn client(world: &World) -> &Client {
    world.client.as_ref().expect("the test has one")
}

/// Monitors until the client is done, then ends the run.
fn monitor(world: &mut World, request: MonitorSpec) -> MonitorReport {
    world.start(RunRequest::Monitor(request)).expect("it starts");
    assert!(
        world.run_until(Duration::from_secs(600), |world| client(world).is_done()),
        "{:?}",
        client(world)
    );
    stop(world)
}

fn stop(world: &mut World) -> MonitorReport {
    assert!(world.stop_monitor());
    match world.until_finished(Duration::from_secs(2)) {
        Finished::Monitor(report) => report,
        other => panic!("{other:?}"),
    }
}

fn count(report: &MonitorReport, outcome: Outcome) -> u32 {
    report.injected.iter().filter(|injected| injected.outcome == outcome).count() as u32
}

#[test]
fn injected_requests_of_a_v4_11_guest_are_all_delivered_and_none_is_sent_twice() {
    for seed in 0..4 {
        let mut world = world(Mode::V4_11, seed, 1_000);
        let report = monitor(&mut world, request(100));
        assert_eq!(report.requests, 1_000);
        assert_eq!((report.lost, report.rescued), (0, 0));
        assert_eq!(client(&world).retransmissions, 0);
        let injected = report.injected.len() as u32;
        assert!((60..140).contains(&(injected + report.not_met)), "{injected} {}", report.not_met);
        assert!(injected > 9 * report.not_met, "{injected} {}", report.not_met);
        assert_eq!(count(&report, Outcome::Delivered), injected);
    }
}

#[test]
fn injected_requests_of_a_v4_10_guest_are_lost_until_the_peer_sends_them_again() {
    for seed in 0..4 {
        let mut world = world(Mode::V4_10, seed, 1_000);
        let report = monitor(&mut world, request(50));
        let injected = report.injected.len() as u32;
        assert!(injected > 20);
        assert_eq!(count(&report, Outcome::Lost), injected, "{report:?}");
        assert!(report.lost >= injected, "natural losses are counted with them");
        assert_eq!(client(&world).retransmissions, report.lost);
        assert_eq!(report.requests, 1_000 + report.lost);
    }
}

#[test]
fn the_timestamps_of_injected_requests_are_those_of_their_records() {
    let mut world = world(Mode::V4_10, 1, 200);
    let report = monitor(&mut world, request(100));
    for injected in &report.injected {
        assert!(world.published.iter().any(|at| stamp(*at) == injected.timestamp));
    }
}

#[test]
fn with_nothing_to_inject_no_frame_is_held() {
    let mut world = world(Mode::V4_10, 1, 500);
    world.start(RunRequest::Monitor(request(0))).expect("it starts");
    assert!(world.run_until(Duration::from_secs(600), |world| {
        assert_eq!((world.guest.cells.requested, world.held()), (0, 0));
        client(world).is_done()
    }));
    let report = stop(&mut world);
    assert_eq!((report.injected.len(), report.not_met), (0, 0));
    assert_eq!(report.requests, 500 + client(&world).retransmissions);
}

#[test]
fn natural_losses_are_counted_without_holding_frames() {
    let mut world = world(Mode::V4_10, 1, 3_000);
    world.guest.temper.window_ns = 20_000..80_000;
    world.guest.temper.irq_latency_us = 1..30;
    world.client.as_mut().unwrap().think = Duration::from_micros(220);
    let report = monitor(&mut world, request(0));
    assert!(report.lost > 0);
    assert_eq!(
        client(&world).retransmissions,
        report.lost,
        "each is found by the retransmission and by nothing else"
    );
}

#[test]
fn a_guest_that_does_not_come_gets_its_requests_after_20_ms() {
    let mut world = world(Mode::V4_11, 1, 100);
    world.guest.temper.comes = false;
    let report = monitor(&mut world, request(200));
    assert!((10..30).contains(&report.not_met));
    assert_eq!((report.injected.len(), report.requests), (0, 100));
    assert_eq!(client(&world).retransmissions, 0);
}

#[test]
fn a_guest_whose_client_has_nothing_to_ask_is_let_go_from_the_rendezvous() {
    let mut world = world(Mode::V4_11, 1, 50);
    world.client.as_mut().unwrap().think = Duration::from_millis(300);
    let report = monitor(&mut world, request(1000));
    assert_eq!(report.requests, 50);
    assert_eq!(world.guest.gave_up, 0, "the device let it go, not its own bound");
    assert_eq!(client(&world).retransmissions, 0);
}

#[test]
fn frames_that_are_no_requests_are_held_no_longer_than_20_ms_and_break_nothing() {
    for (mode, ack_us) in
        [(Mode::V4_11, 5), (Mode::V4_11, 25_000), (Mode::V4_10, 5), (Mode::V4_10, 40_000)]
    {
        let mut world = world(mode, 9, 400);
        let client_mut = world.client.as_mut().unwrap();
        client_mut.ack_after = Some(Duration::from_micros(ack_us));
        let report = monitor(&mut world, request(100));
        assert_eq!(report.requests, 400 + client(&world).retransmissions);
        assert!(report.injected.len() > 10, "{report:?}");
        if mode == Mode::V4_11 {
            assert_eq!(count(&report, Outcome::Delivered) as usize, report.injected.len());
        } else {
            assert_eq!(count(&report, Outcome::Delivered), 0, "{report:?}");
        }
        world.run_for(Duration::from_millis(1));
        assert_eq!(world.held(), 0);
    }
}

#[test]
fn a_monitor_can_be_stopped_and_cancelled_at_any_moment() {
    for us in (0..4_000).step_by(37) {
        for cancel in [false, true] {
            let mut world = world(Mode::V4_10, us, 10_000);
            world.start(RunRequest::Monitor(request(700))).expect("it starts");
            world.run_for(Duration::from_micros(us));
            if cancel {
                world.cancel();
            } else {
                stop(&mut world);
            }
            assert!(!world.run_is_on());
            let spinning = world.guest.cells.arrived != world.guest.cells.released;
            assert!(!spinning, "a guest at the rendezvous is let go at once");
            world.run_for(Duration::from_millis(1));
            world.assert_let_go();
            assert_eq!(world.guest.gave_up, 0);
        }
    }
}

#[test]
fn a_page_that_goes_and_comes_does_not_end_the_monitor() {
    let mut world = world(Mode::V4_10, 5, 600);
    world.start(RunRequest::Monitor(request(300))).expect("it starts");
    for _ in 0..10 {
        world.run_for(Duration::from_millis(150));
        world.withdraw();
        world.run_for(Duration::from_micros(300));
        world.register();
    }
    assert!(world.run_until(Duration::from_secs(600), |world| client(world).is_done()));
    let report = stop(&mut world);
    assert!(count(&report, Outcome::Lost) > 20, "{report:?}");
    assert!(count(&report, Outcome::Inconclusive) <= 10, "{report:?}");
}

#[test]
fn a_guest_out_of_buffers_gets_its_frames_when_it_has_some() {
    let mut world = world(Mode::V4_11, 5, 300);
    world.start(RunRequest::Monitor(request(300))).expect("it starts");
    for _ in 0..20 {
        world.buffers = 0;
        world.run_for(Duration::from_millis(3));
        world.buffers = 256;
        world.poke();
        world.run_for(Duration::from_millis(3));
    }
    assert!(world.run_until(Duration::from_secs(600), |world| client(world).is_done()));
    let report = stop(&mut world);
    assert_eq!(report.lost, 0);
}

#[test]
fn as_many_frames_held_as_can_be_before_a_guest_out_of_buffers_does_not_keep_the_worker_spinning() {
    let mut world = world(Mode::V4_11, 5, 300);
    world.start(RunRequest::Monitor(request(300))).expect("it starts");
    assert!(world.run_until(Duration::from_secs(1), |world| world.guest.cells.requested != 0));
    world.send([None; 100]);
    world.buffers = 0;
    // The world itself sees to it that a worker does not go round and round.
    world.poke();
    assert_eq!(world.guest.cells.requested, 0);
    world.buffers = 256;
    world.poke();
    assert!(world.run_until(Duration::from_secs(600), |world| client(world).is_done()));
    assert_eq!(stop(&mut world).lost, 0);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The adversary and the worker, whatever the run.

use std::time::Duration;

use tsnic_core::run::RunRequest;
use tsnic_core::spec::{InjectionSpec, MonitorSpec, Stimulus};

use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

fn injection(rounds: u32) -> RunRequest {
    let stuck_us = (1_000, 1_000);
    RunRequest::Injection(InjectionSpec {
        seed: 1,
        rounds,
        flow: FLOW,
        stimulus: Stimulus::Udp,
        stuck_us,
    })
}

fn world() -> World {
    World::new(Mode::V4_10, Owner::Timer(Duration::from_millis(2)), 1)
}

#[test]
fn at_a_registration_the_device_releases_whatever_arrived_says() {
    // "At a registration the device releases whatever `arrived` says."
    let mut world = world();
    world.guest.cells.arrived = 41;
    world.guest.cells.released = 7;
    world.register();
    assert_eq!(world.guest.cells.released, 41);
}

#[test]
fn a_rendezvous_nobody_needs_is_released_at_once() {
    let mut world = world();
    world.guest.cells.arrived += 1;
    world.poke();
    assert_eq!(world.guest.cells.released, world.guest.cells.arrived);
}

#[test]
fn one_run_at_a_time() {
    let mut world = world();
    world.start(injection(5)).expect("the first one starts");
    assert_eq!(world.start(injection(5)), Err("Another run is on".into()));
    world.until_finished(Duration::from_secs(60));
    world.start(injection(5)).expect("and the next one when it is over");
}

#[test]
fn no_run_without_a_page() {
    let mut world = world();
    world.withdraw();
    let why = world.start(injection(5)).unwrap_err();
    assert!(why.starts_with("The guest has not registered a shared queue page"), "{why}");
}

#[test]
fn a_request_that_is_refused_leaves_no_run_behind() {
    let mut world = world();
    let bad = RunRequest::Monitor(MonitorSpec { seed: 1, port: 0, inject_per_mille: 0 });
    assert!(world.start(bad).is_err());
    assert!(!world.run_is_on());
    world.assert_let_go();
}

#[test]
fn a_cancelled_run_lets_go_of_guest_and_port_wherever_it_was() {
    for us in (0..60_000).step_by(611) {
        let mut world = world();
        world.start(injection(100)).expect("it starts");
        world.run_for(Duration::from_micros(us));
        world.cancel();
        assert_eq!(
            world.guest.cells.released, world.guest.cells.arrived,
            "a spinning guest is let go at once"
        );
        world.assert_let_go();
        world.run_for(Duration::from_millis(1));
        assert_eq!((world.guest.gave_up, world.finished.is_none()), (0, true));
    }
}

#[test]
fn stop_monitor_is_for_a_monitor_only() {
    let mut world = world();
    assert!(!world.stop_monitor());
    world.start(injection(5)).expect("it starts");
    assert!(!world.stop_monitor());
}

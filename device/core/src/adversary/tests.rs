// SPDX-License-Identifier: Apache-2.0 OR MIT

use core::time::Duration;

use crate::model::guest::{Mode, Owner};
use crate::model::world::{FLOW, World};
use crate::run::{PortPolicy, RunRequest, StartError};
use crate::spec::{InjectionSpec, MonitorSpec, Stimulus};

fn injection(rounds: u32) -> RunRequest {
    let stuck_us = (1_000, 1_000);
    RunRequest::Injection(InjectionSpec { seed: 1, rounds, flow: FLOW, stimulus: Stimulus::Udp, stuck_us })
}

fn world() -> World {
    World::new(Mode::V4_10, Owner::Timer(Duration::from_millis(2)), 1)
}

#[test]
fn at_a_registration_the_device_acknowledges_whatever_here_says() {
    // "At a registration the device acknowledges whatever `here` says."
    let mut world = world();
    world.guest.cells.arrived = 41;
    world.guest.cells.released = 7;
    world.register();
    assert_eq!(world.guest.cells.released, 41);
}

#[test]
fn a_rendezvous_nobody_needs_is_acknowledged_at_once() {
    let mut world = world();
    world.guest.cells.arrived += 1;
    world.poke();
    assert_eq!(world.guest.cells.released, world.guest.cells.arrived);
}

#[test]
fn one_run_at_a_time() {
    let mut world = world();
    world.start(injection(5)).expect("the first one starts");
    assert_eq!(world.start(injection(5)), Err(StartError::Busy));
    world.until_finished(Duration::from_secs(60));
    world.start(injection(5)).expect("and the next one when it is over");
}

#[test]
fn no_run_without_a_page() {
    let mut world = world();
    world.withdraw();
    assert_eq!(world.start(injection(5)), Err(StartError::NoPage));
}

#[test]
fn a_request_that_is_refused_leaves_no_run_behind() {
    let mut world = world();
    let bad = RunRequest::Monitor(MonitorSpec { seed: 1, port: 0, inject_per_mille: 0 });
    assert!(world.start(bad).is_err());
    assert!(!world.adversary.is_active());
    assert_eq!(world.last.port, PortPolicy::Open);
}

#[test]
fn a_cancelled_run_lets_go_of_guest_and_wire_wherever_it_was() {
    for us in (0..60_000).step_by(611) {
        let mut world = world();
        world.start(injection(100)).expect("it starts");
        world.run_for(Duration::from_micros(us));
        world.adversary.cancel();
        world.poke();
        assert_eq!((world.last.port, world.last.requested), (PortPolicy::Open, 0));
        assert_eq!(world.guest.cells.released, world.guest.cells.arrived, "a spinning guest is let go at once");
        world.run_for(Duration::from_millis(1));
        assert_eq!((world.guest.gave_up, world.finished.is_none()), (0, true));
    }
}

#[test]
fn stop_monitor_is_for_a_watch_only() {
    let mut world = world();
    assert!(!world.adversary.stop_monitor());
    world.start(injection(5)).expect("it starts");
    assert!(!world.adversary.stop_monitor());
    assert!(world.adversary.flow().is_some() && world.adversary.request_port().is_none());
}

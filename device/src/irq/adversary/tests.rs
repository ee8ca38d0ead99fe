// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::time::Duration;

use crate::control::protocol::{Starter, StrikeRun, WatchRun};
use crate::irq::model::guest::{Mode, Owner};
use crate::irq::model::world::{FLOW, World};
use crate::irq::run::{RunRequest, StartError, Wire};

fn strike(rounds: u32) -> RunRequest {
    let stuck_us = (1_000, 1_000);
    RunRequest::Strike(StrikeRun { seed: 1, rounds, flow: FLOW, starter: Starter::Udp, stuck_us })
}

fn world() -> World {
    World::new(Mode::Prefix, Owner::Timer(Duration::from_millis(2)), 1)
}

#[test]
fn at_a_handover_the_device_acknowledges_whatever_here_says() {
    // "At a hand-over the device acknowledges whatever `here` says."
    let mut world = world();
    world.guest.cells.here = 41;
    world.guest.cells.ack = 7;
    world.hand_over();
    assert_eq!(world.guest.cells.ack, 41);
}

#[test]
fn a_meeting_nobody_needs_is_acknowledged_at_once() {
    let mut world = world();
    world.guest.cells.here += 1;
    world.poke();
    assert_eq!(world.guest.cells.ack, world.guest.cells.here);
}

#[test]
fn one_run_at_a_time() {
    let mut world = world();
    world.start(strike(5)).expect("the first one starts");
    assert_eq!(world.start(strike(5)), Err(StartError::Busy));
    world.until_finished(Duration::from_secs(60));
    world.start(strike(5)).expect("and the next one when it is over");
}

#[test]
fn no_run_without_an_area() {
    let mut world = world();
    world.withdraw();
    assert_eq!(world.start(strike(5)), Err(StartError::NoArea));
}

#[test]
fn a_request_that_is_refused_leaves_no_run_behind() {
    let mut world = world();
    let bad = RunRequest::Watch(WatchRun { seed: 1, port: 0, strike_per_mille: 0 });
    assert!(world.start(bad).is_err());
    assert!(!world.adversary.is_active());
    assert_eq!(world.last.wire, Wire::Open);
}

#[test]
fn a_cancelled_run_lets_go_of_guest_and_wire_wherever_it_was() {
    for us in (0..60_000).step_by(611) {
        let mut world = world();
        world.start(strike(100)).expect("it starts");
        world.run_for(Duration::from_micros(us));
        world.adversary.cancel();
        world.poke();
        assert_eq!((world.last.wire, world.last.want), (Wire::Open, 0));
        assert_eq!(world.guest.cells.ack, world.guest.cells.here, "a spinning guest is let go at once");
        world.run_for(Duration::from_millis(1));
        assert_eq!((world.guest.gave_up, world.finished.is_none()), (0, true));
    }
}

#[test]
fn stop_watch_is_for_a_watch_only() {
    let mut world = world();
    assert!(!world.adversary.stop_watch());
    world.start(strike(5)).expect("it starts");
    assert!(!world.adversary.stop_watch());
    assert!(world.adversary.flow().is_some() && world.adversary.request_port().is_none());
}

// SPDX-License-Identifier: GPL-2.0-only
//! The race itself, step by step: who owns `SCHED`, an interrupt in the window before
//! `napi_complete_done()` clears it, then the arm.

use std::sync::atomic::Ordering;

use tsnic_abi::offset;

use super::fake::{IN_BUSY_POLL, MISSED, SCHED, World};
use crate::mode::IrqMode;

/// Armed and idle, as after a completed poll.
fn armed(mode: IrqMode) -> World {
    let world = World::with_page(mode);
    world.softirq();
    assert!(world.rx.borrow().device.armed, "the first poll arms");
    assert_eq!(world.napi.load(Ordering::SeqCst), 0);
    world
}

/// In the window: a packet becomes visible and its interrupt is handled.
fn injection(world: &World) {
    world.in_window(|world| {
        world.publish(3);
        assert!(world.interrupt_if_due(), "the queue is armed, so the packet is signaled");
    });
}

#[test]
fn v4_10_loses_the_packet_when_the_drivers_own_schedule_owns_sched() {
    let world = armed(IrqMode::V4_10);
    injection(&world);
    world.refill_timer();
    world.softirq();
    assert!(world.lost());
    assert!(!world.interrupt_if_due(), "nothing in the device will ever fire for it");
    assert_eq!(world.tags(), [], "it is in the ring, and nobody knows");
}

#[test]
fn the_next_packets_interrupt_brings_the_lost_one() {
    let world = armed(IrqMode::V4_10);
    injection(&world);
    world.refill_timer();
    world.softirq();
    world.publish(4);
    assert!(world.interrupt_if_due());
    world.softirq();
    assert_eq!(world.tags(), [3, 4]);
    assert!(!world.lost());
}

#[test]
fn v4_11_delivers_the_packet() {
    let world = armed(IrqMode::V4_11);
    injection(&world);
    world.refill_timer();
    world.softirq();
    assert!(!world.lost());
    assert_eq!(world.tags(), [3]);
    assert_eq!(world.napi.load(Ordering::SeqCst), 0, "MISSED is used up, SCHED is clear");
    assert!(world.rx.borrow().device.armed);
}

/// A busy poller: takes `SCHED` with `IN_BUSY_POLL`, polls, then clears `MISSED` and `IN_BUSY_POLL`
/// and polls a last time.
fn busy_poll(world: &World, before_last: impl FnOnce(&World)) {
    world.napi.store(SCHED | IN_BUSY_POLL, Ordering::SeqCst);
    world.poll(8);
    assert_eq!(world.napi.load(Ordering::SeqCst) & SCHED, SCHED, "the busy poller still owns it");
    before_last(world);
    world.napi.fetch_and(!(MISSED | IN_BUSY_POLL), Ordering::SeqCst);
    world.poll(8);
    world.softirq();
}

#[test]
fn v4_10_loses_it_in_a_busy_pollers_last_poll_and_v4_11_does_not() {
    for (mode, lost, tags) in [(IrqMode::V4_10, true, vec![]), (IrqMode::V4_11, false, vec![3])] {
        let world = armed(mode);
        busy_poll(&world, injection);
        assert_eq!((world.lost(), world.tags()), (lost, tags), "{mode:?}");
    }
}

#[test]
fn an_interrupt_during_the_busy_loop_is_harmless_in_both_modes() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = armed(mode);
        busy_poll(&world, |world| {
            world.publish(3);
            assert!(world.interrupt_if_due());
        });
        assert_eq!(
            (world.lost(), world.tags()),
            (false, vec![3]),
            "{mode:?}: one more poll follows"
        );
    }
}

#[test]
fn a_poll_that_the_interrupt_started_is_immune_in_both_modes() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = armed(mode);
        world.publish(1);
        assert!(world.interrupt_if_due());
        world.in_window(|world| {
            world.publish(2);
            assert!(!world.interrupt_if_due(), "one shot: not armed");
        });
        world.softirq();
        // The arm says what was consumed; the device compares.
        assert!(world.interrupt_if_due(), "{mode:?}");
        world.softirq();
        assert_eq!((world.lost(), world.tags()), (false, vec![1, 2]), "{mode:?}");
    }
}

/// A busy poller's last poll that has given `SCHED` up and has not armed yet, while `meanwhile`
/// goes on on another CPU.
fn delayed_arm(mode: IrqMode, meanwhile: fn(&World)) -> World {
    let world = armed(mode);
    world.publish(1);
    world.after_complete(meanwhile);
    busy_poll(&world, |_| ());
    world
}

/// Another owner polls, completes and arms.
fn another_poll(world: &World) {
    world.refill_timer();
    world.softirq();
}

/// What the device does by itself, and what the guest makes of it, until all is quiet.
fn settle(world: &World) {
    while world.interrupt_if_due() {
        world.softirq();
    }
}

#[test]
fn a_delayed_arm_after_a_newer_one_loses_nothing_and_invents_no_loss() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = delayed_arm(mode, |world| {
            world.publish(2);
            another_poll(world);
            assert_eq!(
                world.cell(offset::ARM),
                world.cell(offset::POLLS),
                "the newer poll has armed"
            );
        });
        assert_ne!(world.cell(offset::ARM), world.cell(offset::POLLS), "the older arm landed last");
        assert_eq!(world.cell(offset::CI), 2, "`ci` has not gone back");
        assert!(world.rx.borrow().device.armed && !world.lost(), "{mode:?}");
        world.publish(3);
        settle(&world);
        assert_eq!((world.tags(), world.lost()), (vec![1, 2, 3], false), "{mode:?}");
    }
}

#[test]
fn a_delayed_arm_after_the_newer_ones_interrupt_loses_nothing_and_invents_no_loss() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = delayed_arm(mode, |world| {
            another_poll(world);
            world.publish(2);
            assert!(
                world.interrupt_if_due(),
                "the newer arm's interrupt, whose handler takes the NAPI"
            );
        });
        // busy_poll() has run that poll, too. One interrupt too many is the price of the delayed
        // arm.
        settle(&world);
        world.publish(3);
        settle(&world);
        assert_eq!((world.tags(), world.lost()), (vec![1, 2, 3], false), "{mode:?}");
    }
}

#[test]
fn a_handler_after_the_arm_that_finds_a_later_owner_is_no_loss() {
    let world = armed(IrqMode::V4_10);
    world.napi_schedule();
    world.publish(3);
    assert!(world.interrupt_if_due(), "its handler finds the later owner");
    assert!(!world.lost(), "the latest arm is older than that handler");
    world.softirq();
    assert_eq!((world.tags(), world.lost()), (vec![3], false));
}

// SPDX-License-Identifier: GPL-2.0-only
//! The race itself, step by step: who owns `SCHED`, an interrupt in the window before `napi_complete_done()` clears it, then the arm.

use std::sync::atomic::Ordering;

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
    assert!(world.lost() && world.answered_as_owned());
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

/// A busy poller: takes `SCHED` with `IN_BUSY_POLL`, polls, then clears `MISSED` and `IN_BUSY_POLL` and polls a last time.
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
        assert_eq!((world.lost(), world.tags()), (false, vec![3]), "{mode:?}: one more poll follows");
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

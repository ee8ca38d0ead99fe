// SPDX-License-Identifier: GPL-2.0-only
//! Transmission.

use super::fake::{Chain, Did, Packet, TX_RING, World};
use crate::behaviour::Behaviour;
use crate::header::{self, Partial};
use crate::mode::IrqMode;
use crate::stamp::{Able, FILTER_NONE, StampConfig, TX_ON};
use crate::stats::Stat;
use crate::tx::{Wish, ring_suffices};

fn plain() -> World {
    let world = World::plain(IrqMode::V4_11);
    world.tx.borrow_mut().kicks = 0;
    world
}

fn frame(world: &World) -> Packet {
    world.packet(vec![0; 60])
}

fn wishing(world: &World, wish: Wish) -> Packet {
    let mut packet = frame(world);
    packet.wish = wish;
    packet
}

fn tx_timestamps_on(world: &World) {
    let on = StampConfig { tx_type: TX_ON, rx_filter: FILTER_NONE };
    world.shared.stamping.set(on, Able { rx: false, tx: true }).expect("able");
}

const STAMP: Wish = Wish { checksum: None, timestamp: true };

#[test]
fn a_frame_goes_out_with_the_header_it_asks_for() {
    let world = plain();
    let partial = Partial { start: 34, offset: 16 };
    world.transmit(wishing(&world, Wish { checksum: Some(partial), timestamp: false }), false);
    world.transmit(frame(&world), false);
    let headers: Vec<_> = world
        .tx
        .borrow()
        .ring
        .iter()
        .map(|chain| match chain {
            Chain::Frame(_, header) => *header,
            Chain::Registration(_) => panic!("no registration"),
        })
        .collect();
    assert_eq!(headers, [header::build(Some(partial)), [0; header::LEN]]);
    assert_eq!(world.shared.stats.get(Stat::TxPackets), 2);
    assert_eq!(world.shared.stats.get(Stat::TxBytes), 120);
    assert_eq!(world.tx.borrow().left, 2, "each got its chance of a software timestamp");
}

#[test]
fn frames_that_follow_at_once_share_a_kick() {
    let world = plain();
    world.transmit(frame(&world), true);
    world.transmit(frame(&world), true);
    assert_eq!(world.tx.borrow().kicks, 0);
    world.transmit(frame(&world), false);
    assert_eq!(world.tx.borrow().kicks, 1);
}

#[test]
fn a_driver_may_be_made_to_forget_the_kick() {
    let world = plain();
    world.tx.borrow_mut().behaviour = Behaviour::NoKick;
    world.transmit(frame(&world), false);
    assert_eq!((world.tx.borrow().kicks, world.tx.borrow().ring.len()), (0, 1));
    world.tx.borrow_mut().behaviour = Behaviour::Right;
    world.transmit(frame(&world), false);
    assert_eq!(world.tx.borrow().kicks, 1);
}

#[test]
fn the_queue_stops_before_the_ring_is_full_and_wakes_when_there_is_room() {
    let world = plain();
    let mut sent = 0;
    while !world.tx.borrow().stopped {
        world.transmit(frame(&world), true);
        sent += 1;
    }
    assert_eq!(sent, TX_RING - 1, "one frame of the largest kind no longer fits");
    assert_eq!(world.tx.borrow().kicks, 1, "a stopped queue kicks, whatever follows");
    assert_eq!(world.shared.stats.get(Stat::TxStops), 1);
    world.complete_tx(0);
    world.tx_poll();
    assert!(!world.tx.borrow().stopped);
    assert_eq!(world.tx.borrow().sent, 1);
}

#[test]
fn a_transmit_completion_never_schedules_the_receive_napi() {
    let world = World::with_page(IrqMode::V4_11);
    world.softirq();
    let before = world.tx.borrow().rx_scheduled;
    for _ in 0..20 {
        world.transmit(frame(&world), false);
        world.complete_tx(0);
        world.tx_poll();
    }
    assert_eq!(world.tx.borrow().rx_scheduled, before);
    assert_eq!(world.queued.get(), 0);
}

#[test]
fn a_frame_the_ring_does_not_take_is_a_counted_drop() {
    let world = plain();
    world.tx.borrow_mut().broken = true;
    let (live, dropped) = (world.live.get(), world.dropped.get());
    world.transmit(frame(&world), false);
    assert_eq!((world.live.get(), world.dropped.get()), (live, dropped + 1));
    assert_eq!(world.shared.stats.get(Stat::TxDropped), 1);
    assert_eq!(world.shared.stats.get(Stat::TxPackets), 0);
}

#[test]
fn sent_frames_are_freed_as_sent_once() {
    let world = plain();
    let (live, dropped) = (world.live.get(), world.dropped.get());
    world.transmit(frame(&world), false);
    world.complete_tx(0);
    world.transmit(frame(&world), false);
    assert_eq!(world.tx.borrow().sent, 1, "the next transmission takes back what is done");
    world.complete_tx(0);
    world.tx_poll();
    assert_eq!((world.tx.borrow().sent, world.live.get(), world.dropped.get()), (2, live, dropped));
}

#[test]
fn what_is_done_already_is_taken_back_without_an_interrupt() {
    let world = plain();
    world.tx.borrow_mut().callback_misses = 1;
    world.transmit(frame(&world), false);
    assert_eq!(world.tx.borrow().scheduled, 1, "by the transmit NAPI");
}

#[test]
fn the_transmit_poll_looks_again_after_completion() {
    let world = plain();
    world.transmit(frame(&world), false);
    world.in_window(|world| world.complete_tx(0));
    world.tx_poll();
    assert_eq!(world.tx.borrow().scheduled, 1);
    world.tx_poll();
    assert_eq!((world.tx.borrow().scheduled, world.tx.borrow().sent), (1, 1));
}

#[test]
fn a_frame_that_asks_for_it_gets_the_timestamp_of_its_completion() {
    let world = World::with_page(IrqMode::V4_11);
    tx_timestamps_on(&world);
    // Completion 0 was the registration.
    world.transmit(frame(&world), false);
    world.transmit(wishing(&world, STAMP), false);
    world.complete_tx(0);
    world.complete_tx(0);
    world.tx_poll();
    assert_eq!(world.tx.borrow().stamped, [5002]);
    assert_eq!(world.shared.stats.get(Stat::TxTimestamps), 1);
}

#[test]
fn no_timestamp_is_promised_without_a_page_or_unless_it_is_switched_on() {
    for (world, on) in [(plain(), true), (World::with_page(IrqMode::V4_11), false)] {
        if on {
            tx_timestamps_on(&world);
        }
        world.transmit(wishing(&world, STAMP), false);
        world.complete_tx(0);
        world.tx_poll();
        assert_eq!(world.tx.borrow().stamped, []);
        let stats = &world.shared.stats;
        assert_eq!((stats.get(Stat::TxTimestamps), stats.get(Stat::TxNoTimestamp)), (0, 0));
    }
}

#[test]
fn a_promised_timestamp_that_does_not_come_is_counted_and_the_stack_may_make_its_own() {
    let world = World::with_page(IrqMode::V4_11);
    tx_timestamps_on(&world);
    world.transmit(wishing(&world, STAMP), false);
    world.link(false);
    world.complete_tx(0);
    world.tx_poll();
    assert_eq!(world.tx.borrow().stamped, []);
    assert_eq!(world.shared.stats.get(Stat::TxNoTimestamp), 1);
    assert_eq!(world.tx.borrow().unstamped, 1);
    assert_eq!(world.tx.borrow().sent, 1, "and the frame is freed");
}

#[test]
fn what_is_left_over_in_a_frame_is_no_promise() {
    let world = World::with_page(IrqMode::V4_11);
    tx_timestamps_on(&world);
    let mut packet = frame(&world);
    packet.awaits_timestamp = true;
    world.transmit(packet, false);
    world.complete_tx(0);
    world.tx_poll();
    assert_eq!((world.tx.borrow().stamped.len(), world.tx.borrow().unstamped), (0, 0));
}

#[test]
fn a_transmit_ring_that_cannot_take_the_largest_frame_does_not_do() {
    let world = plain();
    for (entries, suffices) in [(1, false), (2, true), (256, true)] {
        world.tx.borrow_mut().ring_size = entries;
        assert_eq!(ring_suffices(&world.port()), suffices, "{entries}");
    }
}

#[test]
fn a_broken_queue_is_counted_and_told_of_once() {
    let world = plain();
    world.tx.borrow_mut().broken = true;
    for _ in 0..3 {
        world.transmit(frame(&world), false);
    }
    let looks = world.did().iter().filter(|did| **did == Did::LookAtLink).count();
    let stats = &world.shared.stats;
    assert_eq!((looks, stats.get(Stat::QueuesBroken), stats.get(Stat::TxDropped)), (1, 1, 3));
}

#[test]
fn a_timeout_is_counted_and_has_the_ring_looked_at() {
    let world = plain();
    world.tx_timeout();
    assert_eq!(world.shared.stats.get(Stat::TxTimeouts), 1);
    assert_eq!(world.tx.borrow().scheduled, 1);
    assert!(!world.did().contains(&Did::LookAtLink), "the queue is not broken");
}

// SPDX-License-Identifier: GPL-2.0-only
//! The poll and the refill.

use std::sync::atomic::Ordering;

use tsnic_abi::{Counter, completion_offset, offset, phase};

use super::fake::{ALL, Did, IN_BUSY_POLL, RX_RING, SCHED, World, frame_of};
use crate::behaviour::Behaviour;
use crate::header::{Checksum, Partial};
use crate::mode::IrqMode;
use crate::refill::FIRST_MS;
use crate::shared::Features;
use crate::stamp::{Able, FILTER_ALL, StampConfig, TX_OFF};
use crate::stats::Stat;

/// `SCHED` is owned, nothing queued.
fn owned(world: World) -> World {
    world.softirq();
    world.forget();
    world.napi.store(SCHED, Ordering::SeqCst);
    world
}

fn page() -> World {
    owned(World::with_page(IrqMode::V4_11))
}

fn plain() -> World {
    owned(World::plain(IrqMode::V4_11))
}

fn timestamps_on(world: &World) {
    let all = StampConfig { tx_type: TX_OFF, rx_filter: FILTER_ALL };
    world.shared.stamping.set(all, Able { rx: true, tx: false }).expect("able");
}

#[test]
fn the_poll_consumes_until_the_ring_is_empty() {
    for world in [page(), plain()] {
        (1..=5).for_each(|tag| world.publish(tag));
        assert_eq!(world.poll(64), 5);
        assert_eq!(world.tags(), [1, 2, 3, 4, 5]);
        assert_eq!(world.shared.stats.get(Stat::RxPackets), 5);
        assert_eq!(world.shared.stats.get(Stat::RxBytes), 5 * 54);
    }
}

#[test]
fn the_poll_consumes_no_more_than_its_budget_and_does_not_complete_then() {
    for world in [page(), plain()] {
        (1..=7).for_each(|tag| world.publish(tag));
        assert_eq!(world.poll(5), 5);
        assert_eq!(world.tags(), [1, 2, 3, 4, 5]);
        assert!(
            !world.did().iter().any(|did| matches!(did, Did::Complete { .. })),
            "not when work == budget"
        );
        assert!(!world.did().iter().any(|did| matches!(did, Did::Notify { .. })));
        assert_eq!(world.napi.load(Ordering::SeqCst), SCHED, "still owned");
    }
}

#[test]
fn budget_0_touches_nothing() {
    for world in [page(), plain()] {
        world.publish(1);
        assert_eq!(world.poll(0), 0);
        assert_eq!(world.did(), []);
        assert_eq!(world.tags(), []);
    }
}

#[test]
fn an_arm_is_ci_before_completion_then_irq_seen_and_number_then_a_kick_and_nothing_after_it() {
    let world = page();
    let (ci, arm) = (world.cell(offset::CI), world.cell(offset::ARM));
    world.publish(1);
    world.publish(2);
    world.napi.store(0, Ordering::SeqCst);
    world.set_cell(offset::FIRED, 41);
    world.interrupt();
    world.set_cell(offset::FIRED, 42);
    world.set_cell(offset::IRQ_SEEN, 43);
    world.poll(64);
    let did = world.did();
    let complete =
        did.iter().position(|did| matches!(did, Did::Complete { .. })).expect("it completed");
    // `ci` is up to date, and the poll done with the ring, before SCHED is given up; the arm comes
    // after.
    assert_eq!(did[complete], Did::Complete { ci: ci + 2, arm, phase: phase::IDLE });
    let [Did::Notify { ci: seen, irq_seen, arm: next }] = did[complete + 1..] else {
        panic!("an arm, a kick and no recheck of the ring: {did:?}");
    };
    assert_eq!(seen, ci + 2);
    assert_eq!(
        irq_seen, 41,
        "what the handler saw: not what fired says now, and not what the device may have written"
    );
    assert_ne!(next, arm);
}

#[test]
fn when_complete_returns_false_nothing_is_touched() {
    let world = page();
    world.napi.store(SCHED | IN_BUSY_POLL, Ordering::SeqCst);
    let arm = world.cell(offset::ARM);
    world.publish(1);
    world.poll(8);
    assert!(matches!(world.did().last(), Some(Did::Complete { .. })));
    assert_eq!(world.cell(offset::ARM), arm);
}

#[test]
fn an_arm_carries_what_the_handler_had_seen_before_it_and_not_after() {
    for (seen_before, carried) in [(true, 5), (false, 0)] {
        let world = page();
        let interrupt = |world: &World| {
            world.publish(1);
            world.set_cell(offset::FIRED, 5);
            world.interrupt();
        };
        // Before: between the completion and the arm. After: its handler finds a later owner, that
        // has not polled yet.
        if seen_before {
            world.after_complete(interrupt);
        }
        let arm = world.cell(offset::ARM);
        world.poll(64);
        assert_ne!(world.cell(offset::ARM), arm);
        if !seen_before {
            world.napi.store(SCHED, Ordering::SeqCst);
            interrupt(&world);
        }
        assert_eq!((world.cell(offset::ARM_IRQ_SEEN), world.cell(offset::IRQ_SEEN)), (carried, 5));
    }
}

#[test]
fn an_arm_beside_a_new_owner_is_harmless_and_the_new_owner_arms_too() {
    let world = page();
    let arm = world.cell(offset::ARM);
    // On another CPU, between `SCHED` cleared and the arm; the new owner's poll has not begun.
    world.after_complete(World::napi_schedule);
    world.poll(64);
    let first = world.cell(offset::ARM);
    assert_ne!(first, arm);
    world.publish(1);
    world.softirq();
    assert_ne!(world.cell(offset::ARM), first, "the new owner arms");
    assert_eq!((world.tags(), world.lost()), (vec![1], false));
    assert!(world.rx.borrow().device.armed);
}

#[test]
fn an_arm_that_is_written_after_that_of_a_later_poll_is_one_more_arm() {
    let world = page();
    world.poll(64);
    let late = world.cell(offset::ARM);
    world.napi_schedule();
    world.publish(1);
    world.softirq();
    // Poll N had completed, and writes its arm only after poll N + 1 has written its own.
    world.set_cell(offset::ARM, late);
    world.publish(2);
    assert!(world.interrupt_if_due());
    world.softirq();
    assert_eq!((world.tags(), world.lost()), (vec![1, 2], false));
}

#[test]
fn an_arms_number_is_its_polls() {
    let world = page();
    for _ in 0..3 {
        world.napi.store(SCHED, Ordering::SeqCst);
        world.poll(64);
        assert_eq!(world.cell(offset::ARM), world.cell(offset::POLLS));
    }
}

#[test]
fn the_phase_is_poll_while_the_ring_is_looked_at_and_the_polls_are_counted() {
    let world = page();
    let polls = world.cell(offset::POLLS);
    world.set_cell(offset::PHASE, 99);
    world.poll(64);
    assert_eq!((world.cell(offset::PHASE), world.cell(offset::POLLS)), (phase::IDLE, polls + 1));
    assert_eq!(world.shared.stats.get(Stat::RxPolls), u64::from(polls + 1));
}

#[test]
fn without_a_page_the_ring_is_looked_at_again_after_completion() {
    let world = plain();
    world.in_window(|world| world.publish(1));
    world.poll(64);
    assert_eq!(world.queued.get(), 1, "scheduled again");
    world.softirq();
    assert_eq!(world.tags(), [1]);
    assert!(world.rx.borrow().callbacks, "interrupts are asked for at the end");
    assert_eq!(world.napi.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_page_interrupts_are_masked_for_the_length_of_the_poll() {
    let world = plain();
    world.poll(64);
    let did = world.did();
    assert_eq!(did[0], Did::DisableCallbacks);
    let enabled = did.iter().position(|did| *did == Did::EnableCallbacks).expect("asked for again");
    assert!(matches!(did[enabled + 1..], [Did::Complete { .. }, Did::UsedSince]));
}

#[test]
fn ci_counts_buffers_and_runs_on_across_the_wrap() {
    let world = page();
    let start = Counter(u32::MAX - 1);
    world.shared.set_rx_ci(start);
    world.rx.borrow_mut().device.produced = start;
    timestamps_on(&world);
    // A merged frame of three buffers is one frame and three completions.
    let mut first = frame_of(1);
    first[10] = 3;
    world.use_buffer(&first, first.len() as u32);
    world.use_buffer(&[0xbb; 100], 100);
    world.use_buffer(&[0xcc; 50], 50);
    world.publish(2);
    assert_eq!(world.poll(64), 2);
    assert_eq!(world.cell(offset::CI), start.plus(4).0);
    assert_eq!(world.shared.rx_ci(), start.plus(4));
    assert_eq!(
        world.shared.stats.get(Stat::RxTimestamps),
        2,
        "the records are found on both sides of the wrap"
    );
    let delivered = &world.rx.borrow().delivered[0];
    assert_eq!((delivered.bytes.len(), delivered.parts), (54 + 150, 3));
    assert_eq!(delivered.bytes[54..], [vec![0xbb; 100], vec![0xcc; 50]].concat());
}

#[test]
fn without_merged_buffers_the_number_of_buffers_is_not_looked_at() {
    let world = World::new(IrqMode::V4_11, Features { merged_buffers: false, ..ALL });
    world.open();
    let world = owned(world);
    let mut frame = frame_of(1);
    frame[10] = 7;
    world.use_buffer(&frame, frame.len() as u32);
    world.publish(2);
    assert_eq!(world.poll(64), 2);
    assert_eq!(world.tags(), [1, 2]);
}

#[test]
fn checksum_notes_go_with_the_frame() {
    let world = plain();
    let mut valid = frame_of(1);
    valid[0] = 2;
    let mut partial = frame_of(2);
    partial[0] = 1;
    partial[6] = 34;
    partial[8] = 6;
    for frame in [valid, partial, frame_of(3)] {
        world.use_buffer(&frame, frame.len() as u32);
    }
    world.poll(64);
    let checksums: Vec<_> =
        world.rx.borrow().delivered.iter().map(|frame| frame.notes.checksum).collect();
    assert_eq!(
        checksums,
        [Checksum::Valid, Checksum::Partial(Partial { start: 34, offset: 6 }), Checksum::Unknown]
    );
}

#[test]
fn the_timestamp_is_that_of_the_frames_first_completion() {
    let world = page();
    timestamps_on(&world);
    let mut merged = frame_of(1);
    merged[10] = 2;
    world.use_buffer(&merged, merged.len() as u32);
    world.use_buffer(&[0; 10], 10);
    world.publish(2);
    world.poll(64);
    let times: Vec<_> =
        world.rx.borrow().delivered.iter().map(|frame| frame.notes.timestamp_ns).collect();
    assert_eq!(times, [Some(1000), Some(1002)]);
    assert_eq!(world.shared.stats.get(Stat::RxTimestamps), 2);
}

#[test]
fn a_record_of_another_completion_gives_no_timestamp() {
    let world = page();
    timestamps_on(&world);
    world.publish(1);
    world.publish(2);
    world.publish(3);
    let number = completion_offset(offset::RX, 512, Counter(0)) + 8;
    world.set_cell(number, 512);
    world.set_cell(completion_offset(offset::RX, 512, Counter(1)) + 12, 0);
    world.poll(64);
    let times: Vec<_> =
        world.rx.borrow().delivered.iter().map(|frame| frame.notes.timestamp_ns).collect();
    assert_eq!(times, [None, None, Some(1002)]);
    assert_eq!(world.shared.stats.get(Stat::RxNoTimestamp), 2);
}

#[test]
fn no_timestamp_unless_it_is_wanted() {
    let world = page();
    world.publish(1);
    world.poll(64);
    assert_eq!(world.rx.borrow().delivered[0].notes.timestamp_ns, None);
    let stats = &world.shared.stats;
    assert_eq!((stats.get(Stat::RxTimestamps), stats.get(Stat::RxNoTimestamp)), (0, 0));
}

#[test]
fn consumed_buffers_are_replaced_and_the_device_told() {
    let world = plain();
    assert_eq!(world.rx.borrow().posted.len(), RX_RING);
    world.publish(1);
    world.publish(2);
    world.poll(64);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING);
    assert_eq!(world.did().iter().filter(|did| **did == Did::Kick).count(), 1);
}

#[test]
fn out_of_memory_starts_the_refill_timer_whose_poll_refills() {
    let world = page();
    world.rx.borrow_mut().memory = Some(1);
    world.publish(1);
    world.publish(2);
    world.publish(3);
    world.poll(64);
    assert!(world.did().contains(&Did::RefillIn(FIRST_MS)));
    assert_eq!(world.shared.stats.get(Stat::RxNoMemory), 1);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING - 2);

    world.rx.borrow_mut().memory = None;
    assert!(world.rx.borrow().device.armed, "the timer comes with the queue armed");
    world.refill_timer();
    assert_eq!(world.queued.get(), 1);
    world.softirq();
    assert_eq!(world.rx.borrow().posted.len(), RX_RING);
    assert_eq!(world.shared.stats.get(Stat::RxRefillTimer), 1);
}

#[test]
fn the_refill_timer_schedules_by_the_kernels_function_in_both_modes() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = World::with_page(mode);
        world.softirq();
        world.napi.store(SCHED, Ordering::SeqCst);
        world.refill_timer();
        assert_eq!(world.napi.load(Ordering::SeqCst), SCHED | super::fake::MISSED, "{mode:?}");
    }
}

#[test]
fn memory_that_is_said_to_be_out_is_so_in_polls_that_consumed_and_only_in_those() {
    let world = page();
    world.rx.borrow_mut().behaviour = Behaviour::OutOfMemory;
    world.publish(1);
    world.poll(64);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING - 1);
    assert!(world.did().contains(&Did::RefillIn(FIRST_MS)));
    world.forget();
    world.refill_timer();
    world.softirq();
    assert_eq!(world.rx.borrow().posted.len(), RX_RING);
    assert!(
        !world.did().iter().any(|did| matches!(did, Did::RefillIn(_))),
        "and then there is rest"
    );
}

#[test]
fn the_device_is_told_that_the_interface_is_down() {
    let world = page();
    crate::rx::stop(&world.shared);
    assert_eq!(world.cell(offset::PHASE), phase::DOWN);
    world.open();
    assert_eq!(world.cell(offset::PHASE), phase::IDLE);
}

#[test]
fn a_ring_that_nobody_refills_runs_dry() {
    let world = page();
    world.rx.borrow_mut().behaviour = Behaviour::NoRefill;
    world.forget();
    (0..3).for_each(|tag| world.publish(tag));
    world.napi.store(SCHED, Ordering::SeqCst);
    world.poll(64);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING - 3);
    assert!(!world.did().iter().any(|did| matches!(did, Did::RefillIn(_) | Did::Push)));
    world.rx.borrow_mut().behaviour = Behaviour::Right;
    world.publish(1);
    world.napi.store(SCHED, Ordering::SeqCst);
    world.poll(64);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING);
}

#[test]
fn a_broken_queue_is_tried_once_and_told_of_once() {
    let world = plain();
    world.rx.borrow_mut().broken = true;
    world.publish(1);
    world.poll(64);
    let did = world.did();
    assert_eq!(did.iter().filter(|did| **did == Did::Push).count(), 1, "one try");
    assert!(!did.iter().any(|did| matches!(did, Did::RefillIn(_) | Did::Kick)), "and no timer");
    assert!(did.contains(&Did::LookAtLink), "where the user is told");
    assert_eq!(world.shared.stats.get(Stat::QueuesBroken), 1);
    world.forget();
    world.napi.store(SCHED, Ordering::SeqCst);
    world.poll(64);
    assert!(!world.did().contains(&Did::LookAtLink), "once");
    assert_eq!(world.shared.stats.get(Stat::QueuesBroken), 1);
    assert_eq!(world.live.get(), RX_RING - 1, "the buffer that was not taken is freed");
}

#[test]
fn the_rules_change_with_the_page_from_one_poll_to_the_next() {
    let world = plain();
    world.poll(64);
    assert!(world.did().contains(&Did::EnableCallbacks));
    world.link(true);
    world.answer_registration();
    world.forget();
    world.softirq();
    assert!(
        world.did().iter().any(|did| matches!(did, Did::Notify { .. })),
        "the first arm, at once"
    );
    world.link(false);
    world.forget();
    world.softirq();
    assert!(world.did().contains(&Did::EnableCallbacks), "virtio's rules again");
    assert!(!world.did().iter().any(|did| matches!(did, Did::Notify { .. })));
}

#[test]
fn with_a_page_too_interrupts_are_asked_for_before_completion_and_the_ring_is_not_looked_at_after_it()
 {
    let world = page();
    world.poll(64);
    let did = world.did();
    let enabled = did.iter().position(|did| *did == Did::EnableCallbacks).expect("asked for");
    assert!(matches!(did[enabled + 1..], [Did::Complete { .. }, Did::Notify { .. }]), "{did:?}");
    assert!(world.rx.borrow().callbacks);
}

#[test]
fn a_page_the_device_has_forgotten_is_gone_and_handed_over_again() {
    let world = page();
    world.set_cell(offset::GENERATION, 0);
    world.publish(1);
    world.poll(64);
    assert!(world.shared.page().is_none());
    assert_eq!(world.tags(), [1]);
    let did = world.did();
    assert_eq!(did.iter().filter(|did| **did == Did::LookAtLink).count(), 1);
    assert!(
        matches!(did[did.len() - 2..], [Did::Complete { .. }, Did::UsedSince]),
        "virtio's rules: {did:?}"
    );
    assert_eq!(world.shared.stats.get(Stat::PagesForgotten), 1);

    world.forget();
    world.napi.store(SCHED, Ordering::SeqCst);
    world.poll(64);
    assert!(!world.did().contains(&Did::LookAtLink), "asked for once");
    world.link(true);
    world.answer_registration();
    world.softirq();
    assert!(world.shared.page().is_some());
    assert!(world.rx.borrow().device.armed);
}

#[test]
fn a_page_that_is_forgotten_during_a_poll_is_not_armed() {
    let world = page();
    world.publish(1);
    world.in_poll(|world| world.set_cell(offset::GENERATION, 0));
    world.poll(64);
    assert_eq!(world.tags(), [1]);
    let did = world.did();
    assert_eq!(did.iter().filter(|did| **did == Did::LookAtLink).count(), 1);
    assert!(
        matches!(did[did.len() - 2..], [Did::Complete { .. }, Did::UsedSince]),
        "virtio's rules: {did:?}"
    );
    assert!(world.shared.page().is_none());
    assert_eq!(world.shared.stats.get(Stat::PagesForgotten), 1);
}

#[test]
fn a_forgotten_page_that_has_been_asked_for_again_already_is_not_asked_for_twice() {
    let world = page();
    world.link(true);
    world.set_cell(offset::GENERATION, 0);
    world.forget();
    world.poll(64);
    assert!(!world.did().contains(&Did::LookAtLink));
    assert_eq!(world.shared.stats.get(Stat::PagesForgotten), 0);
}

#[test]
fn what_came_while_the_interface_was_down_is_discarded_when_it_goes_up() {
    let world = World::with_page(IrqMode::V4_11);
    world.softirq();
    timestamps_on(&world);
    (1..=3).for_each(|tag| world.publish(tag));
    world.open();
    assert_eq!(world.shared.stats.get(Stat::RxDiscarded), 3);
    assert_eq!(world.rx.borrow().posted.len(), RX_RING, "their buffers are replaced");
    assert_eq!(world.cell(offset::CI), 3, "the device is told that they are consumed");
    world.publish(4);
    world.napi.store(SCHED, Ordering::SeqCst);
    world.poll(64);
    assert_eq!(world.tags(), [4]);
    assert_eq!(
        world.rx.borrow().delivered[0].notes.timestamp_ns,
        Some(1003),
        "with a record of its own"
    );
}

#[test]
fn a_refill_that_keeps_failing_backs_off() {
    let world = page();
    world.rx.borrow_mut().memory = Some(0);
    world.publish(1);
    world.poll(64);
    // Under traffic the polls try by themselves: they do not put the timer off.
    for tag in 2..4 {
        world.publish(tag);
        world.napi.store(SCHED, Ordering::SeqCst);
        world.poll(64);
    }
    for _ in 0..2 {
        world.refill_timer();
        world.softirq();
    }
    let delays: Vec<_> =
        world.did().into_iter().filter(|did| matches!(did, Did::RefillIn(_))).collect();
    assert_eq!(
        delays,
        [Did::RefillIn(FIRST_MS), Did::RefillIn(2 * FIRST_MS), Did::RefillIn(4 * FIRST_MS)]
    );
}

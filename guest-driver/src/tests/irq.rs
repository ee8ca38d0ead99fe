// SPDX-License-Identifier: GPL-2.0-only
//! The interrupt handler.

use std::sync::atomic::Ordering;

use tsnic_abi::offset;

use super::fake::{ALL, MISSED, SCHED, World};
use crate::mode::IrqMode;
use crate::stats::Stat;

fn state(world: &World) -> usize {
    world.napi.load(Ordering::SeqCst)
}

#[test]
fn a_free_napi_is_taken_and_scheduled_in_both_modes() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = World::plain(mode);
        world.publish(1);
        world.interrupt();
        assert_eq!((state(&world), world.queued.get()), (SCHED, 1), "{mode:?}");
    }
}

#[test]
fn v4_11_marks_an_owned_napi_as_missed() {
    let world = World::plain(IrqMode::V4_11);
    world.napi.store(SCHED, Ordering::SeqCst);
    world.publish(1);
    world.interrupt();
    assert_eq!((state(&world), world.queued.get()), (SCHED | MISSED, 0));
}

#[test]
fn v4_10_leaves_an_owned_napi_exactly_as_it_was() {
    let world = World::plain(IrqMode::V4_10);
    world.napi.store(SCHED, Ordering::SeqCst);
    world.publish(1);
    world.interrupt();
    assert_eq!((state(&world), world.queued.get()), (SCHED, 0));
}

#[test]
fn the_handler_copies_fired_into_irq_seen_and_into_irq_owned_too_when_it_found_sched_owned() {
    for mode in [IrqMode::V4_11, IrqMode::V4_10] {
        let world = World::with_page(mode);
        world.softirq();
        world.publish(1);
        world.set_cell(offset::FIRED, 41);
        world.interrupt();
        let cells = |world: &World| {
            [offset::IRQS, offset::IRQS_OWNED, offset::IRQ_SEEN, offset::IRQ_OWNED]
                .map(|cell| world.cell(cell))
        };
        assert_eq!(cells(&world), [1, 0, 41, 0], "{mode:?}: it took the NAPI");
        world.set_cell(offset::FIRED, 42);
        world.interrupt();
        assert_eq!(cells(&world), [2, 1, 42, 42], "{mode:?}: it found it owned");
        assert_eq!(world.shared.stats.get(Stat::RxIrqs), 2);
        assert_eq!(world.shared.stats.get(Stat::RxIrqsOwned), 1);
    }
}

#[test]
fn irq_owned_is_never_the_number_of_an_interrupt_that_took_the_napi() {
    let world = World::with_page(IrqMode::V4_10);
    world.softirq();
    world.publish(1);
    for fired in [0, 7] {
        // Owned, then (a duplicate, or the same number of another device) taken.
        world.set_cell(offset::FIRED, fired);
        world.napi.store(SCHED, Ordering::SeqCst);
        world.interrupt();
        assert_eq!(world.cell(offset::IRQ_OWNED), fired);
        world.napi.store(0, Ordering::SeqCst);
        world.interrupt();
        assert_eq!(world.cell(offset::IRQ_SEEN), fired);
        assert_ne!(world.cell(offset::IRQ_OWNED), fired);
        world.softirq();
        world.publish(1);
    }
}

#[test]
fn without_a_page_no_cell_is_written() {
    let world = World::new(IrqMode::V4_11, ALL);
    world.open();
    world.publish(1);
    world.set_cell(offset::FIRED, 9);
    world.interrupt();
    world.softirq();
    assert_eq!(world.cell(offset::IRQ_SEEN), 0);
    assert_eq!(world.cell(offset::CI), 0);
    assert_eq!(world.cell(offset::ARM), 0);
    assert_eq!(world.tags(), [1], "but the packet was received");
}

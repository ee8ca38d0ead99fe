// SPDX-License-Identifier: GPL-2.0-only
//! A device that lies: each lie costs a frame, is counted, and nothing else happens.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use tsnic_abi::offset;

use super::fake::{RX_RING, SCHED, World, frame_of};
use crate::mode::IrqMode;
use crate::rx::{BUFFER_LEN, FRAME_MAX};
use crate::stats::Stat;

fn world() -> World {
    let world = World::with_page(IrqMode::V4_11);
    world.softirq();
    world.napi.store(SCHED, Ordering::SeqCst);
    world
}

/// Polls and gives the number of frames dropped for `stat`; whatever happened, no buffer is lost
/// and an honest frame is received.
fn dropped(world: &World, stat: Stat) -> u64 {
    world.poll(64);
    let before = world.rx.borrow().delivered.len();
    world.napi.store(SCHED, Ordering::SeqCst);
    world.publish(77);
    world.poll(64);
    assert_eq!(world.tags()[before..], [77], "the next frame is received");
    assert_eq!(world.live.get(), RX_RING, "every buffer is in the ring");
    world.shared.stats.get(stat)
}

#[test]
fn a_length_no_frame_can_have_is_a_counted_drop() {
    for claimed in [0, 1, 11, 12, 25, BUFFER_LEN as u32 + 1, 65_535, u32::MAX] {
        let world = world();
        world.use_buffer(&frame_of(1), claimed);
        assert_eq!(dropped(&world, Stat::RxBadLength), 1, "{claimed}");
        assert_eq!(world.shared.stats.rx_dropped(), 1);
    }
}

#[test]
fn the_least_and_the_greatest_length_are_received() {
    for claimed in [26, BUFFER_LEN as u32] {
        let world = world();
        world.use_buffer(&frame_of(1), claimed);
        assert_eq!(dropped(&world, Stat::RxBadLength), 0, "{claimed}");
        assert_eq!(world.rx.borrow().delivered.len(), 2);
    }
}

#[test]
fn no_buffers_at_all_is_a_counted_drop() {
    let world = world();
    let mut frame = frame_of(1);
    frame[10] = 0;
    world.use_buffer(&frame, frame.len() as u32);
    assert_eq!(dropped(&world, Stat::RxBadBuffers), 1);
}

#[test]
fn more_buffers_than_were_used_is_a_counted_drop() {
    let world = world();
    let mut frame = frame_of(1);
    frame[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    world.use_buffer(&frame, frame.len() as u32);
    world.use_buffer(&[0; 9], 9);
    assert_eq!(dropped(&world, Stat::RxBadBuffers), 1);
}

#[test]
fn a_bad_length_in_a_later_buffer_drops_the_whole_frame() {
    for claimed in [0, BUFFER_LEN as u32 + 1, u32::MAX] {
        let world = world();
        let mut frame = frame_of(1);
        frame[10] = 3;
        world.use_buffer(&frame, frame.len() as u32);
        world.use_buffer(&[0; 9], claimed);
        world.use_buffer(&[0; 9], 9);
        assert_eq!(dropped(&world, Stat::RxBadLength), 1, "{claimed}");
    }
}

#[test]
fn more_bytes_than_the_largest_frame_are_a_counted_drop() {
    let world = World::with_ring(IrqMode::V4_11, 64);
    world.softirq();
    world.napi.store(SCHED, Ordering::SeqCst);
    let buffers = FRAME_MAX / BUFFER_LEN + 1;
    for (count, dropped) in [(buffers, 1), (buffers - 1, 0)] {
        let mut frame = frame_of(1);
        frame[10] = count as u8;
        for _ in 0..count {
            world.use_buffer(&frame, BUFFER_LEN as u32);
        }
        let before = world.shared.stats.get(Stat::RxBadLength);
        world.napi.store(SCHED, Ordering::SeqCst);
        world.poll(64);
        assert_eq!(world.shared.stats.get(Stat::RxBadLength) - before, dropped, "{count} buffers");
    }
}

#[test]
fn an_offload_that_was_not_negotiated_is_a_counted_drop() {
    let world = world();
    let mut frame = frame_of(1);
    frame[1] = 1;
    world.use_buffer(&frame, frame.len() as u32);
    assert_eq!(dropped(&world, Stat::RxBadHeader), 1);
}

#[test]
fn a_checksum_outside_of_the_frame_is_a_counted_drop() {
    let world = world();
    let mut frame = frame_of(1);
    frame[0] = 1;
    frame[6..10].fill(0xff);
    world.use_buffer(&frame, frame.len() as u32);
    assert_eq!(dropped(&world, Stat::RxBadHeader), 1);
}

proptest! {
    #[test]
    fn whatever_the_device_writes_every_buffer_is_accounted_for(
        buffers in prop::collection::vec((prop::collection::vec(any::<u8>(), 12..80), any::<u32>(), 0u8..4), 1..200),
        cells in prop::collection::vec((0usize..8192, any::<u32>()), 0..50),
    ) {
        let world = world();
        for chunk in buffers.chunks(RX_RING) {
            for (bytes, claimed, kind) in chunk {
                let mut bytes = bytes.clone();
                if *kind > 0 {
                    // Often enough something that is nearly right.
                    bytes[0] &= 3;
                    bytes[1] = 0;
                    bytes[10] &= 3;
                    bytes[11] = 0;
                }
                let claimed = if *kind > 1 { bytes.len() as u32 } else { *claimed };
                world.use_buffer(&bytes, claimed);
            }
            for (cell, value) in &cells {
                // The doorbell cells are the driver's; what the device writes there is its own
                // loss.
                if *cell != offset::CI / 4 {
                    world.set_cell(cell * 4, *value);
                }
            }
            let ci = world.shared.rx_ci();
            world.interrupt();
            world.napi.store(SCHED, Ordering::SeqCst);
            world.queued.set(0);
            world.poll(64);
            prop_assert_eq!(world.shared.rx_ci().since(ci), chunk.len() as u32);
            prop_assert_eq!(world.live.get(), RX_RING);
            prop_assert_eq!(world.rx.borrow().posted.len(), RX_RING);
        }
    }
}

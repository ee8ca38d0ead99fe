// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packet policies: what a guest and the port see of each other's frames, with the real worker's
//! loop on a virtual clock. That a received frame is stamped at the end of the wire, the world
//! itself checks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tsnic_abi::record_flags;
use tsnic_core::policy::spec::Span;
use tsnic_core::wire::spec::PacketSpec;
use vm_memory::{Bytes as _, GuestAddress};

use super::client::Client;
use super::guest::{Mode, Owner};
use super::ports::stamp;
use super::world::World;

/// Where a frame to send is.
const FRAME: u64 = 0x8_0000;

const ALL: u16 = 1000;

fn world(specs: [Vec<PacketSpec>; 2]) -> World {
    let mut world = World::new(Mode::V4_11, Owner::Nobody, 1);
    world.set_packets(1, specs);
    world
}

fn late(us: u32) -> PacketSpec {
    PacketSpec::Delay(Span { from_us: us, to_us: us })
}

/// The guest sends a frame that begins with `tag`.
fn transmit(world: &mut World, tag: u8) {
    world.rings.memory.write_slice(&[tag; 88], GuestAddress(FRAME + 12)).expect("it is memory");
    world.rings.post_transmit(FRAME, 100);
    world.poke();
}

/// Frames that the port was given: the tag of each.
fn sent(world: &World) -> Vec<u8> {
    world.pair.port().sent.iter().map(|frame| frame.bytes[20]).collect()
}

/// Requests that the guest got, in their order.
fn receive(world: &mut World, requests: u64) -> Vec<u64> {
    for request in 1..=requests {
        world.send([Some(request)]);
        world.poke();
        world.run_for(Duration::from_micros(30));
    }
    world.run_for(Duration::from_millis(50));
    world.received.clone()
}

#[test]
fn what_is_lost_reaches_nobody_and_is_counted() {
    let loss = || vec![PacketSpec::Loss { per_mille: ALL }];
    let mut world = world([loss(), loss()]);
    assert_eq!(receive(&mut world, 5), [0; 0]);
    transmit(&mut world, 1);
    assert_eq!(sent(&world), [0; 0]);
    let counters = world.counters();
    // The device has sent it; it does not know more.
    assert_eq!((counters.rx_frames, counters.tx_frames, counters.tx_port_errors), (0, 1, 0));
    assert_eq!(counters.frames_dropped_by_policy, 6);
}

#[test]
fn a_copy_comes_right_before_its_frame() {
    let copy = || vec![PacketSpec::Duplicate { per_mille: ALL, copies: 2 }];
    let mut world = world([copy(), copy()]);
    assert_eq!(receive(&mut world, 2), [1, 1, 1, 2, 2, 2]);
    transmit(&mut world, 7);
    assert_eq!(sent(&world), [7, 7, 7]);
    let counters = world.counters();
    assert_eq!((counters.rx_frames, counters.tx_frames, counters.frames_duplicated), (6, 1, 6));
}

#[test]
fn a_frame_that_is_late_comes_when_it_is_due_though_nothing_else_happens() {
    let mut world = world([vec![late(300)], vec![late(700)]]);
    let start = world.now;
    world.send([Some(1)]);
    transmit(&mut world, 9);
    assert_eq!(sent(&world), [0; 0]);
    world.run_for(Duration::from_micros(699));
    assert_eq!(world.received, [1]);
    assert_eq!(world.published, [start.plus(Duration::from_micros(300))]);
    assert_eq!(sent(&world), [0; 0]);
    world.run_for(Duration::from_micros(1));
    assert_eq!(sent(&world), [9]);
    assert_eq!(world.counters().frames_delayed, 2);
}

#[test]
fn frames_that_are_overtaken_all_arrive() {
    let spec = || vec![PacketSpec::Reorder { per_mille: 300, frames: 4, latest_us: 400 }];
    let mut world = world([spec(), spec()]);
    let mut received = receive(&mut world, 100);
    for tag in 1..=100 {
        transmit(&mut world, tag);
    }
    world.run_for(Duration::from_millis(1));
    let mut sent = sent(&world);
    assert!(!received.is_sorted() && !sent.is_sorted());
    received.sort_unstable();
    sent.sort_unstable();
    assert!(received.into_iter().eq(1..=100) && sent.into_iter().eq(1..=100));
    assert!(world.counters().frames_reordered > 20, "{:?}", world.counters());
}

#[test]
fn the_n_th_frame_meets_the_same_fate_with_the_same_seed() {
    let run = |seed| {
        let mut world = World::new(Mode::V4_11, Owner::Nobody, 1);
        let specs = || {
            vec![
                PacketSpec::Loss { per_mille: 200 },
                PacketSpec::Duplicate { per_mille: 200, copies: 1 },
            ]
        };
        world.set_packets(seed, [specs(), specs()]);
        for tag in 1..=100 {
            transmit(&mut world, tag);
        }
        (receive(&mut world, 100), sent(&world))
    };
    let (received, sent) = run(3);
    assert_eq!(run(3), (received.clone(), sent.clone()));
    assert_ne!(run(4), (received.clone(), sent.clone()), "the seed decides");
    assert!(sent.into_iter().map(u64::from).ne(received), "each direction has one of its own");
}

#[test]
fn a_client_has_every_request_answered_over_a_bad_wire() {
    let mut world = world([
        vec![
            PacketSpec::Loss { per_mille: 30 },
            PacketSpec::Duplicate { per_mille: 50, copies: 2 },
            PacketSpec::Corrupt { per_mille: 30 },
            PacketSpec::Delay(Span { from_us: 0, to_us: 80 }),
            PacketSpec::Reorder { per_mille: 100, frames: 3, latest_us: 500 },
        ],
        vec![],
    ]);
    world.client = Some(Client::new(400));
    let done = |world: &World| world.client.as_ref().is_some_and(Client::is_done);
    assert!(world.run_until(Duration::from_secs(60), done), "{:?}", world.client);
    let client = world.client.as_ref().expect("it is there");
    assert!(client.retransmissions > 5, "{client:?}");
    let counters = world.counters();
    for (name, count) in tsnic_protocol::Counters::from(&counters).by_name() {
        let policy = name.starts_with("frames_") && name != "frames_not_held";
        assert!(!policy || count > 0, "{name}: {counters:?}");
    }
    assert_eq!((counters.lost, counters.lost_to_drops, counters.frames_not_held), (0, 0, 0));
}

#[test]
fn what_is_on_the_wire_comes_to_its_end_when_there_are_other_policies() {
    let mut world = world([vec![late(5_000_000)], vec![late(5_000_000)]]);
    world.send([Some(1)]);
    transmit(&mut world, 2);
    assert_eq!((world.received.len(), sent(&world).len()), (0, 0));
    let wire = world.pair.status().wire.expect("it has policies");
    assert!(wire.iter().all(|direction| direction.frames == 1), "{wire:?}");
    assert_eq!(wire[0].policies, ["delay"]);
    world.set_packets(1, Default::default());
    assert_eq!((&world.received[..], &sent(&world)[..]), (&[1][..], &[2][..]));
    assert_eq!(world.pair.status().wire, None);
}

#[test]
fn what_the_guest_has_sent_is_not_held_back_when_its_front_end_goes() {
    let mut world = world([vec![], vec![late(5_000_000)]]);
    transmit(&mut world, 2);
    assert_eq!(sent(&world), [0; 0]);
    world.pair.disconnected(&world.rings.memory);
    assert_eq!(sent(&world), [2]);
}

#[test]
fn a_frame_for_which_there_are_no_buffers_waits_at_the_end_of_the_wire() {
    let mut world = world([vec![late(100)], vec![late(300)]]);
    world.send([Some(1), Some(2)]);
    transmit(&mut world, 5);
    assert_eq!(world.waiting(), 0, "they are on the wire");
    world.buffers = 0;
    // It goes on sending, and does not go round and round for a frame that is due.
    world.run_for(Duration::from_millis(1));
    assert_eq!((&world.received[..], &sent(&world)[..]), (&[][..], &[5][..]));
    world.buffers = 8;
    world.poke();
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.received, [1, 2]);
    assert_eq!(world.counters().rx_no_buffers, 0);
}

#[test]
fn the_record_of_a_late_frame_says_when_it_left_the_device() {
    let mut world = world([vec![], vec![late(700)]]);
    let at = world.now;
    transmit(&mut world, 5);
    let (_, flags, stamped) = world.rings.transmit_record();
    assert_eq!((flags, stamped), (record_flags::TIMESTAMP, stamp(at)));
    world.run_for(Duration::from_millis(1));
    assert_eq!(sent(&world), [5]);
    world.pair.port().refuses.store(true, Ordering::Relaxed);
    transmit(&mut world, 6);
    let (_, flags, _) = world.rings.transmit_record();
    assert_eq!(flags, record_flags::TIMESTAMP, "the wire takes every frame");
    world.run_for(Duration::from_millis(1));
    assert_eq!((sent(&world).len(), world.counters().tx_port_errors), (1, 1));
}

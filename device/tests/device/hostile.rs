// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A hostile guest never crashes, hangs or escapes: its queue is broken, counted, and made whole by
//! a reset.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use tsnic::frame::NetHeader;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, GuestAddress};

use crate::support::{BUFFERS, Device, Guest, Options, eventually, frame};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Breaks one queue in some way, sees that it is broken, and that a reset makes everything well
/// again.
fn breaks(queue: usize, what: &str, wreck: &dyn Fn(&mut Guest)) {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.send(NetHeader::default(), &frame(1, 64));
    device.host.receive();
    wreck(&mut guest);
    if queue == 0 {
        guest.rx.kick();
        device.host.send(&frame(2, 64));
    } else {
        guest.tx.kick();
    }
    eventually(what, || (device.counter("queues_broken") == 1).then_some(()));
    // It is left alone: further kicks change nothing. (The question after the state is served by
    // the worker, after the kicks.)
    guest.rx.kick();
    guest.tx.kick();
    assert_eq!(device.counter("queues_broken"), 1, "{what}");
    guest.stop_queues();
    guest.reset_rings();
    guest.start_queues(0, 0);
    guest.post(64, 2048);
    device.running();
    guest.send(NetHeader::default(), &frame(3, 64));
    assert_eq!(device.host.receive().1, frame(3, 64), "{what}");
    device.host.send(&frame(4, 64));
    assert_eq!(guest.receive().frame, frame(4, 64), "{what}");
    guest.leave();
}

fn wreck_tx(descriptors: &[(u16, u64, u32, u16, u16)]) -> impl Fn(&mut Guest) {
    let descriptors = descriptors.to_vec();
    move |guest| {
        for &(index, address, len, flags, next) in &descriptors {
            guest.tx.write_descriptor(
                guest.tx.descriptors,
                index,
                Descriptor::new(address, len, flags, next),
            );
        }
        guest.tx.make_available(descriptors[0].0);
    }
}

#[test]
fn every_kind_of_broken_ring_is_found() {
    breaks(
        1,
        "chain runs in a circle",
        &wreck_tx(&[(0, BUFFERS, 64, NEXT, 1), (1, BUFFERS, 64, NEXT, 0)]),
    );
    breaks(1, "chain points at itself", &wreck_tx(&[(5, BUFFERS, 64, NEXT, 5)]));
    breaks(1, "next is outside of the table", &wreck_tx(&[(0, BUFFERS, 64, NEXT, 64)]));
    breaks(
        1,
        "readable after writable",
        &wreck_tx(&[(0, BUFFERS, 64, NEXT | WRITE, 1), (1, BUFFERS, 64, 0, 0)]),
    );
    breaks(
        1,
        "indirect with a successor",
        &wreck_tx(&[(0, BUFFERS, 64, INDIRECT | NEXT, 1), (1, BUFFERS, 64, 0, 0)]),
    );
    breaks(1, "indirect table of no entries", &wreck_tx(&[(0, BUFFERS, 0, INDIRECT, 0)]));
    breaks(1, "indirect table of broken entries", &wreck_tx(&[(0, BUFFERS, 17, INDIRECT, 0)]));
    breaks(1, "indirect table too long", &wreck_tx(&[(0, BUFFERS, 1025 * 16, INDIRECT, 0)]));
    breaks(1, "indirect in indirect", &|guest| {
        guest.tx.write_descriptor(BUFFERS, 0, Descriptor::new(BUFFERS, 16, INDIRECT, 0));
        wreck_tx(&[(0, BUFFERS, 16, INDIRECT, 0)])(guest);
    });
    breaks(1, "indirect table runs in a circle", &|guest| {
        guest.tx.write_descriptor(BUFFERS, 0, Descriptor::new(BUFFERS, 16, NEXT, 0));
        wreck_tx(&[(0, BUFFERS, 16, INDIRECT, 0)])(guest);
    });
    breaks(1, "head is outside of the table", &|guest| guest.tx.make_available(64));
    breaks(1, "available index jumps", &|guest| {
        let index = guest.tx.next_avail.wrapping_add(65);
        guest.tx.store(guest.tx.available + 2, index);
    });
    breaks(0, "available index goes back", &|guest| guest.rx.store(guest.rx.available + 2, 0xffff));
    breaks(0, "receive buffer that can only be read", &|guest| {
        for index in 0..64 {
            guest.rx.write_descriptor(
                guest.rx.descriptors,
                index,
                Descriptor::new(BUFFERS, 2048, 0, 0),
            );
        }
    });
    breaks(0, "receive buffer too small for the header", &|guest| {
        for index in 0..64 {
            guest.rx.write_descriptor(
                guest.rx.descriptors,
                index,
                Descriptor::new(BUFFERS, 11, WRITE, 0),
            );
        }
    });
}

#[test]
fn a_buffer_in_memory_that_is_not_shared_costs_its_frame_and_not_the_queue() {
    // A DIMM that was plugged in later, say, is not shared; so much for the guest's memory having
    // it.
    for (what, address, len) in
        [("elsewhere", 1 << 50, 64), ("it wraps", u64::MAX - 8, 64), ("huge", BUFFERS, u32::MAX)]
    {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options::default());
        let head = guest.tx.add(&[(address, len, false)]);
        guest.tx.kick();
        assert_eq!(eventually("the chain comes back", || guest.tx.take()), (head, 0), "{what}");
        assert_eq!((device.counter("tx_unshared"), device.counter("tx_frames")), (1, 0), "{what}");
        guest.send(NetHeader::default(), &frame(1, 64));
        assert_eq!(device.host.receive().1, frame(1, 64), "{what}");

        // The second of the buffers posted for a frame, where it takes several.
        for index in 1..64 {
            guest.rx.write_descriptor(
                guest.rx.descriptors,
                index,
                Descriptor::new(address, len, WRITE, 0),
            );
        }
        device.host.send(&frame(2, 4000));
        eventually("it is counted", || (device.counter("rx_unshared") == 1).then_some(()));
        assert_eq!(
            (device.counter("rx_frames"), device.counter("queues_broken")),
            (0, 0),
            "{what}"
        );
        for index in 1..64 {
            guest.rx.write_descriptor(
                guest.rx.descriptors,
                index,
                Descriptor::new(BUFFERS, 2048, WRITE, 0),
            );
        }
        let empty: Vec<_> = std::iter::from_fn(|| guest.rx.take()).collect();
        assert!(!empty.is_empty() && empty.iter().all(|&(_, len)| len == 0), "{what}: {empty:?}");
        device.host.send(&frame(3, 100));
        eventually("the queue goes on", || (device.counter("rx_frames") == 1).then_some(()));
        guest.leave();
    }
}

#[test]
fn queues_in_impossible_places_are_broken_and_nothing_else_is() {
    for queue in [0, 1] {
        for (descriptors, available, used) in [
            (8, 0x4000, 0x5000),
            (0, 0x4001, 0x5000),
            (0, 0x4000, 0x5002),
            (1, 0x4001, 0x5001),
            (0, 0x4000, 0x7e_fffc),
            (0x7f_0000, 0x4000, 0x5000),
            (0, 1 << 40, 0x5000),
            (0, 0x4000, 0x1000_0000),
        ] {
            let device = Device::new();
            let mut guest = Guest::negotiate(&device, Options::default());
            guest.share_memory();
            // The last four of these end beyond the memory, three begin there.
            let ring = if queue == 0 { &mut guest.rx } else { &mut guest.tx };
            let base = if used < 0x8000 { ring.descriptors } else { 0x1_0000 };
            (ring.descriptors, ring.available, ring.used) =
                (base + descriptors, base + available, base + used);
            guest.start_queues(0, 0);
            eventually("the queue is broken", || {
                (device.counter("queues_broken") == 1).then_some(())
            });
            if queue == 0 {
                guest.send(NetHeader::default(), &frame(1, 64));
            } else {
                guest.post(64, 2048);
                device.host.send(&frame(1, 64));
                guest.receive();
            }
            assert!(
                guest.connection.as_ref().unwrap().ended().read().is_err(),
                "the connection has ended"
            );
            expect_broken_until_reset(&device, guest);
        }
    }
}

#[test]
fn a_queue_of_an_impossible_size_is_broken_not_served() {
    for size in [3, 33, 1023] {
        let device = Device::new();
        let mut guest = Guest::negotiate(&device, Options::default());
        guest.share_memory();
        guest.rx.size = size;
        guest.start_queues(0, 0);
        expect_broken_until_reset(&device, guest);
    }
}

/// A queue has been started in an impossible way.
fn expect_broken_until_reset(device: &Device, mut guest: Guest) {
    eventually("the queue is broken", || (device.counter("queues_broken") == 1).then_some(()));
    guest.rx.kick();
    device.host.send(&frame(1, 64));
    assert!(!device.status().running);
    guest.stop_queues();
    assert_eq!(device.counter("queues_broken"), 1);
    guest.rx.size = 64;
    guest.reset_rings();
    guest.start_queues(0, 0);
    guest.post(64, 2048);
    device.running();
    device.host.send(&frame(2, 64));
    assert_eq!(guest.receive().frame, frame(2, 64));
    guest.leave();
}

/// Descriptor tables that look nearly right, which get further than noise does.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![8 => BUFFERS..BUFFERS + 0x1000, 1 => (1u64 << 23)..=u64::MAX, 1 => 0x7f_f000u64..0x80_1000];
    let len = prop_oneof![8 => 0u32..4096, 1 => any::<u32>(), 1 => Just(32768u32)];
    let flags = prop_oneof![8 => 0u16..8, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0u16..16, 1 => any::<u16>()];
    (address, len, flags, next)
}

proptest! {
    /// Whatever a guest writes into its rings, the device answers the next question in no time, and
    /// memory outside of the buffers it was given stays as it was.
    #[test]
    fn noise_in_the_rings_does_no_harm(
        table in vec(descriptor(), 16),
        indirect in vec(descriptor(), 16),
        heads in vec(prop_oneof![8 => 0u16..16, 1 => any::<u16>()], 16),
        index in prop_oneof![8 => 0u16..=16, 1 => any::<u16>()],
        frames in 0u32..4,
    ) {
        let device = Device::new();
        let mut guest = Guest::negotiate(&device, Options { size: 16, ..Options::default() });
        guest.share_memory();
        for queue in [&guest.rx, &guest.tx] {
            for (number, &(address, len, flags, next)) in table.iter().enumerate() {
                queue.write_descriptor(queue.descriptors, number as u16, Descriptor::new(address, len, flags, next));
            }
            for (number, &(address, len, flags, next)) in indirect.iter().enumerate() {
                queue.write_descriptor(BUFFERS, number as u16, Descriptor::new(address, len, flags, next));
            }
            for (slot, &head) in heads.iter().enumerate() {
                queue.memory.write_obj(head, GuestAddress(queue.available + 4 + 2 * slot as u64)).unwrap();
            }
            queue.store(queue.available + 2, index);
        }
        // Nothing above points here.
        guest.write(0x40_0000, &[0x5a; 4096]);
        guest.start_queues(0, 0);
        for tag in 0..frames {
            device.host.send(&frame(tag, 500));
        }
        guest.tx.kick();
        guest.rx.kick();
        let asked = Instant::now();
        device.status();
        prop_assert!(asked.elapsed() < Duration::from_secs(1));
        prop_assert!(guest.read(0x40_0000, 4096).iter().all(|&byte| byte == 0x5a));
        guest.leave();
    }
}

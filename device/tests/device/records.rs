// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the device says of frames in records and counters is true: what has not left has no time of
//! leaving, what is counted is there, and what is no longer the device's memory is not written.

use std::thread::sleep;

use tsnic::frame::NetHeader;
use tsnic_abi::{Counter, record_flags};
use virtio_queue::desc::split::Descriptor;

use crate::support::{A_WHILE, BUFFERS, Device, Guest, Options, eventually, frame};

#[test]
fn a_frame_that_the_port_refuses_has_no_time_of_leaving() {
    let mut device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    guest.send(NetHeader::default(), &frame(1, 64));
    device.host.receive();
    device.unplug();
    guest.send(NetHeader::default(), &frame(2, 64));
    assert_eq!(device.counter("tx_port_errors"), 1);
    // Completion 0 is the registration.
    let flags = [1, 2].map(|number| guest.tx_record(Counter(number)).flags);
    assert_eq!(flags, [record_flags::TIMESTAMP, 0]);
    guest.leave();
}

#[test]
fn frames_that_were_staged_when_the_ring_broke_are_counted_and_there() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    // The third buffer is none that a frame can be received into.
    let third = guest.rx.load(guest.rx.available + 4 + 2 * 2);
    guest.rx.write_descriptor(guest.rx.descriptors, third, Descriptor::new(BUFFERS, 2048, 0, 0));
    device.host.meanwhile({
        let wake = device.host.another();
        // All three are there before the device looks for the second, so they are staged together.
        move || {
            wake(&frame(2, 100));
            wake(&frame(3, 100));
        }
    });
    device.host.send(&frame(1, 100));
    eventually("the ring breaks", || (device.counter("queues_broken") == 1).then_some(()));
    let mut received = Vec::new();
    while let Some(frame) = guest.try_receive() {
        received.push(frame.frame);
    }
    assert_eq!(received, [frame(1, 100), frame(2, 100)]);
    assert_eq!(device.counter("rx_frames"), 2);
    guest.leave();
}

#[test]
fn nothing_is_written_after_both_queues_have_been_stopped() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    let header = guest.register();
    guest.stop_queues();
    let memory = guest.memory.clone();
    let before = guest.read(0, 8 << 20);
    guest.leave();
    device.backend.serve_alone();
    sleep(A_WHILE);
    let mut after = vec![0; 8 << 20];
    vm_memory::Bytes::read_slice(&memory, &mut after, vm_memory::GuestAddress(0)).unwrap();
    assert!(before == after, "the generation, say");
    assert_ne!(header.generation.get(), 0);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several queue pairs: each has a port's queue, rings, interrupts, counters and a worker of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use tsnic::clock::HostClock;
use tsnic::control::channel::{Answer, Command, ControlEnd, control_channel};
use tsnic::control::convert;
use tsnic::frame::NetHeader;
use tsnic::net::pair::{InterruptConfig, Pair};
use tsnic::port::Port as _;
use tsnic::vhost::Backend;
use tsnic_protocol::Status;
use vhost::VhostBackend as _;
use vhost::vhost_user::VhostUserFrontend as _;
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::IntoBytes as _;

use crate::support::{
    BUFFERS, Device, DriverQueue, EVENT_IDX, Guest, Host, Options, cable, eventually, frame,
};

/// `VIRTIO_NET_F_MQ`.
const MQ: u64 = 1 << 22;
/// The second pair's queues, as vhost-user numbers them.
const QUEUES: [usize; 2] = [2, 3];
/// Where its rings and its buffers are.
const RINGS: [u64; 2] = [0x3_0000, 0x4_0000];
const RECEIVE: u64 = BUFFERS + 0x20_0000;
const SEND: u64 = BUFFERS + 0x28_0000;
/// Bytes of a buffer, and of the header before a frame.
const BUFFER: u32 = 2048;
const HEADER: u64 = 12;

/// A device with two pairs.
struct Two {
    /// The device, as the first pair shows it.
    device: Device,
    host: Host,
    control: ControlEnd,
}

impl Two {
    fn new() -> Self {
        let [(first, second), (mut other, host)] = [cable(), cable()];
        // As a port with several queues opens all but the first.
        other.set_active(false).unwrap();
        let [(control, worker), (control_1, worker_1)] =
            [control_channel().unwrap(), control_channel().unwrap()];
        let clock = HostClock::default();
        let pairs = [(0, first, worker), (1, other, worker_1)].map(|(number, port, worker)| {
            Pair::new(
                number,
                Box::new(port) as _,
                clock.clone(),
                worker,
                &InterruptConfig::default(),
            )
        });
        let backend = Arc::new(Backend::new(pairs.into(), Duration::ZERO).unwrap());
        let device = Device { backend, host: second, control };
        Self { device, host, control: control_1 }
    }

    /// The second pair's.
    fn status(&self) -> Status {
        assert!(self.control.send(Command::Status));
        match eventually("the device answers", || self.control.try_recv()) {
            Answer::Status(status) => convert::status(&status),
            answer => panic!("{answer:?}"),
        }
    }
}

/// The second pair of a guest whose first one runs.
struct Second {
    rx: DriverQueue,
    tx: DriverQueue,
}

impl Second {
    /// Set up, with its receive buffers posted, and not enabled.
    fn set_up(guest: &Guest) -> Self {
        let event_idx = guest.features & EVENT_IDX != 0;
        let [mut rx, tx] =
            RINGS.map(|base| DriverQueue::new(&guest.memory, base, 64, event_idx, 0));
        for (index, queue) in QUEUES.into_iter().zip([&rx, &tx]) {
            guest.set_up(index, queue, 0, || ());
            guest.frontend.set_vring_call(index, &queue.call).unwrap();
        }
        for buffer in 0..16 {
            rx.add(&[(RECEIVE + u64::from(BUFFER * buffer), BUFFER, true)]);
        }
        rx.kick();
        Self { rx, tx }
    }

    fn enable(guest: &mut Guest, on: bool) {
        for index in QUEUES {
            guest.frontend.set_vring_enable(index, on).unwrap();
        }
    }

    fn receive(&mut self, guest: &Guest) -> Vec<u8> {
        let (_, len) = eventually("a frame on the second pair", || self.rx.take());
        // Buffers come back in the order in which they were posted.
        let taken = u64::from(self.rx.next_used.wrapping_sub(1));
        let mut bytes = vec![0; len as usize];
        guest
            .memory
            .read_slice(&mut bytes, GuestAddress(RECEIVE + u64::from(BUFFER) * taken))
            .unwrap();
        bytes.split_off(HEADER as usize)
    }

    fn send(&mut self, guest: &Guest, frame: &[u8]) {
        guest.write(SEND, NetHeader::default().as_bytes());
        guest.write(SEND + HEADER, frame);
        self.tx.add(&[(SEND, HEADER as u32 + frame.len() as u32, false)]);
        self.tx.kick();
        eventually("the frame is completed", || self.tx.take());
    }
}

#[test]
fn each_pair_has_frames_and_interrupts_of_its_own() {
    let two = Two::new();
    let mut guest = Guest::start(&two.device, Options::default());
    assert_ne!(guest.features & MQ, 0, "offered");
    assert_eq!(guest.frontend.get_queue_num().unwrap(), 4);
    let mut second = Second::set_up(&guest);
    Second::enable(&mut guest, true);
    eventually("both pairs run", || two.status().running.then_some(()));
    second.rx.interrupts();
    guest.rx.interrupts();
    for tag in 0..8 {
        second.rx.set_used_event(second.rx.next_used);
        two.host.send(&frame(tag, 64));
        assert_eq!(second.receive(&guest), frame(tag, 64));
        eventually("its interrupt", || (second.rx.interrupts() == 1).then_some(()));
        second.send(&guest, &frame(100 + tag, 70));
        assert_eq!(two.host.receive().1, frame(100 + tag, 70));
    }
    assert_eq!(guest.rx.interrupts(), 0, "the first pair had nothing");
    let (first, other) = (two.device.status(), two.status());
    assert_eq!((first.pair, other.pair), (0, 1));
    assert_eq!((first.counters.rx_frames, first.counters.tx_frames), (0, 0));
    assert_eq!((other.counters.rx_frames, other.counters.tx_frames), (8, 8));
    two.device.host.send(&frame(1, 64));
    assert_eq!(guest.receive().frame, frame(1, 64));
    guest.leave();
}

#[test]
fn a_port_uses_the_queues_of_pairs_that_are_enabled() {
    let two = Two::new();
    let mut guest = Guest::start(&two.device, Options::default());
    let mut second = Second::set_up(&guest);
    assert!(two.device.host.is_active(), "the first one always");
    Second::enable(&mut guest, true);
    eventually("it is used", || two.host.is_active().then_some(()));
    two.host.send(&frame(1, 64));
    second.receive(&guest);
    Second::enable(&mut guest, false);
    // What comes before the device has seen it is lost, and counted.
    eventually("it is not used any more", || {
        two.host.send(&frame(2, 64));
        (!two.host.is_active()).then_some(())
    });
    assert_ne!(two.status().counters.rx_not_running, 0);
    Second::enable(&mut guest, true);
    second.rx.kick();
    eventually("it is used again", || two.host.is_active().then_some(()));
    two.host.send(&frame(3, 64));
    while second.receive(&guest) != frame(3, 64) {}
    guest.leave();
    assert!(!two.host.is_active() && two.device.host.is_active(), "nobody is there");
}

#[test]
fn a_broken_queue_is_one_pairs_own() {
    let two = Two::new();
    let mut guest = Guest::start(&two.device, Options::default());
    let second = Second::set_up(&guest);
    Second::enable(&mut guest, true);
    eventually("both pairs run", || two.status().running.then_some(()));
    // More entries than the ring has.
    second.tx.store(second.tx.available + 2, 1000);
    second.tx.kick();
    eventually("it is broken", || (two.status().counters.queues_broken == 1).then_some(()));
    assert!(!two.status().running);
    assert_eq!(two.device.status().counters.queues_broken, 0);
    two.device.host.send(&frame(1, 64));
    assert_eq!(guest.receive().frame, frame(1, 64));
    guest.send(NetHeader::default(), &frame(2, 64));
    assert_eq!(two.device.host.receive().1, frame(2, 64));
    guest.leave();
}

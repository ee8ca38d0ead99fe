// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generator port: when it sends, and what becomes of its frames.

use std::thread::sleep;

use tsnic::control::channel::{Answer, Command};
use tsnic::control::convert;
use tsnic::port::PortConfig;
use tsnic_protocol::Status;

use crate::support::{A_WHILE, Device, Guest, Options};

/// Bytes of headers before the payload of a generated datagram: Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

fn device(settings: &str) -> Device {
    let config: PortConfig = format!("generator:{settings}").parse().unwrap();
    Device::with_port(config.open(1, 1).unwrap().remove(0))
}

fn next_serial(guest: &mut Guest) -> u32 {
    let frame = guest.receive().frame;
    u32::from_le_bytes(frame[HEADERS..HEADERS + 4].try_into().unwrap())
}

/// The answer to a control command that comes while no front end is connected.
fn status_alone(device: &Device) -> Status {
    assert!(device.control.send(Command::Status));
    device.backend.serve_alone();
    let Answer::Status(status) = device.answer() else { panic!("no status") };
    convert::status(&status)
}

#[test]
fn the_first_frame_a_guest_gets_is_the_first_one_whatever_happened_before_its_driver_came() {
    let device = device("rate=1000,count=5");
    for _ in 0..3 {
        status_alone(&device);
        sleep(A_WHILE);
    }
    let mut guest = Guest::negotiate(&device, Options::default());
    guest.share_memory();
    device.status();
    sleep(A_WHILE);
    device.status();
    // A frame that comes between a queue's start and its buffers is gone.
    guest.post(64, 2048);
    guest.start_queues(0, 0);
    assert_eq!([0; 5].map(|_| next_serial(&mut guest)), [0, 1, 2, 3, 4]);
    assert_eq!(device.counter("rx_not_running"), 0);
    guest.leave();
}

#[test]
fn frames_that_were_not_sent_while_no_driver_was_there_are_sent_to_the_next_one() {
    let device = device("rate=1000");
    for _ in 0..2 {
        let counters = status_alone(&device).counters;
        let before = counters.rx_frames + counters.rx_no_buffers;
        let mut guest = Guest::negotiate(&device, Options::default());
        guest.share_memory();
        guest.post(64, 2048);
        guest.start_queues(0, 0);
        assert_eq!(u64::from(next_serial(&mut guest)), before);
        guest.stop_queues();
        guest.leave();
        status_alone(&device);
        sleep(A_WHILE);
    }
}

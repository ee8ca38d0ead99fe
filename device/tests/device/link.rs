// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ports link and pcap, with guests.

use std::fs;
use std::path::Path;

use tsnic::frame::NetHeader;
use tsnic::port::PortConfig;

use crate::support::{Device, Guest, Options, eventually, frame};

fn device(port: &str) -> Device {
    let config: PortConfig = port.parse().unwrap();
    Device::with_port(config.open(1, 1).unwrap().remove(0))
}

fn linked(path: &Path) -> Device {
    device(&format!("link:{}", path.display()))
}

fn attached(device: &Device) -> bool {
    device.status().port == tsnic_protocol::PortState::Attached
}

#[test]
fn two_guests_are_back_to_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let (one, two) = (linked(&path), linked(&path));
    let mut guests = [&one, &two].map(|device| Guest::start(device, Options::default()));
    for device in [&one, &two] {
        device.running();
        eventually("it is attached", || attached(device).then_some(()));
    }
    for tag in 0..300 {
        for from in 0..2 {
            let [first, second] = &mut guests;
            let (from, to) = if from == 0 { (first, second) } else { (second, first) };
            let sent = frame(tag, 60 + tag as usize);
            from.send(NetHeader::default(), &sent);
            assert_eq!(to.receive().frame, sent);
            to.post(1, 2048);
        }
    }
    for device in [&one, &two] {
        assert_eq!(device.counter("rx_frames"), 300);
        assert_eq!(device.counter("tx_port_errors"), 0);
    }
    guests.into_iter().for_each(Guest::leave);
}

#[test]
fn a_guest_whose_neighbour_is_gone_loses_frames_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let one = linked(&path);
    let mut guest = Guest::start(&one, Options::default());
    one.running();
    assert!(!attached(&one));
    guest.send(NetHeader::default(), &frame(1, 60));
    eventually("it is lost", || (one.counter("tx_port_errors") == 1).then_some(()));

    let two = linked(&path);
    let mut neighbour = Guest::start(&two, Options::default());
    two.running();
    eventually("it is attached", || attached(&one).then_some(()));
    guest.send(NetHeader::default(), &frame(2, 60));
    assert_eq!(neighbour.receive().frame, frame(2, 60));
    neighbour.leave();
    drop(two);
    eventually("it is alone", || (!attached(&one)).then_some(()));
    assert_eq!((one.counter("port_detached"), one.counter("port_reattached")), (2, 1));
    guest.leave();
}

/// A capture of three frames, a millisecond apart, as `tcpdump -w` writes it.
fn capture() -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for tag in 0..3 {
        for word in [9, 1_000 * tag, 60, 60_u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame(tag, 60));
    }
    file
}

#[test]
fn a_capture_is_replayed_from_the_guests_first_buffer_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture.pcap");
    fs::write(&path, capture()).unwrap();
    let device = device(&format!("pcap:{}", path.display()));
    let mut guest = Guest::start_with(&device, Options::default(), 0, 2048);
    device.running();
    // As often as anybody looks, without buffers nothing begins.
    for _ in 0..20 {
        assert_eq!(device.counter("rx_no_buffers"), 0);
    }
    guest.post(8, 2048);
    for tag in 0..3 {
        assert_eq!(guest.receive().frame, frame(tag, 60));
    }
    assert_eq!((device.counter("rx_frames"), device.counter("rx_not_running")), (3, 0));
    guest.leave();
}

#[test]
fn frames_of_a_capture_do_not_wait_but_those_at_full_speed_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture.pcap");
    fs::write(&path, capture()).unwrap();
    for (setting, lost) in [("", 2), (",speed=max", 0)] {
        let device = device(&format!("pcap:{}{setting}", path.display()));
        let mut guest = Guest::start_with(&device, Options::default(), 1, 2048);
        assert_eq!(guest.receive().frame, frame(0, 60));
        eventually("they are lost", || (device.counter("rx_no_buffers") == lost).then_some(()));
        guest.post(4, 2048);
        if lost == 0 {
            assert_eq!([1, 2].map(|_| guest.receive().frame), [1, 2].map(|tag| frame(tag, 60)));
        }
        guest.leave();
    }
}

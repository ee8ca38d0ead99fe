// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ports reflect and null.

use tsnic::frame::NetHeader;
use tsnic::port::PortConfig;
use tsnic::port::reflect::WAITING_MAX;

use crate::support::{Device, Guest, Options, eventually, frame};

fn device(port: &str) -> Device {
    let config: PortConfig = port.parse().unwrap();
    assert_eq!(config.to_string(), port);
    Device::with_port(config.open(1, 1).unwrap().remove(0))
}

/// The frame as it comes back.
fn reflected(frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..]].concat()
}

#[test]
fn a_frame_comes_back_with_its_addresses_exchanged() {
    for options in Options::ring_variants() {
        let device = device("reflect");
        let mut guest = Guest::start(&device, options);
        for tag in 0..200 {
            let sent = frame(tag, 60 + tag as usize);
            guest.send(NetHeader::default(), &sent);
            assert_eq!(guest.receive().frame, reflected(&sent), "{options:?}");
            guest.post(1, 2048);
        }
        guest.leave();
    }
}

#[test]
fn an_open_checksum_is_completed_for_a_guest_that_takes_none() {
    const GUEST_CSUM: u64 = 1 << 1;
    let mut sent = vec![0; 60];
    sent[40..].copy_from_slice(&[7; 20]);
    let mut header = NetHeader { flags: 1, ..NetHeader::default() };
    (header.csum_start, header.csum_offset) = (14.into(), 6.into());
    let mut complete = sent.clone();
    // It clears what it completes.
    let mut cleared = header;
    cleared.complete_checksum(&mut complete).unwrap();
    for (without, expected) in [(0, &sent), (GUEST_CSUM, &complete)] {
        let device = device("reflect");
        let mut guest = Guest::start(&device, Options { without, ..Options::default() });
        guest.send(header, &sent);
        let came = guest.receive();
        assert_eq!(came.frame, reflected(expected));
        assert_eq!(came.header.needs_csum(), without == 0);
        guest.leave();
    }
}

#[test]
fn a_guest_without_buffers_fills_the_port_and_no_more() {
    let device = device("reflect");
    let mut guest = Guest::start_with(&device, Options::default(), 0, 2048);
    // One is in the device's hands, waiting for a buffer.
    for tag in 0..2 * WAITING_MAX as u32 {
        guest.send(NetHeader::default(), &frame(tag, 64));
    }
    let refused = device.counter("tx_port_errors");
    let kept = 2 * WAITING_MAX as u64 - refused;
    assert!((WAITING_MAX as u64..=WAITING_MAX as u64 + 1).contains(&kept), "{kept} are kept");
    // The first ones are the ones that wait.
    for tag in 0..32 {
        guest.post(1, 2048);
        assert_eq!(guest.receive().frame, reflected(&frame(tag, 64)));
    }
    guest.leave();
}

#[test]
fn null_takes_everything_and_gives_nothing() {
    let device = device("null");
    let mut guest = Guest::start(&device, Options::default());
    for tag in 0..100 {
        guest.send(NetHeader::default(), &frame(tag, 64));
    }
    eventually("they are sent", || (device.counter("tx_frames") == 100).then_some(()));
    assert_eq!((device.counter("tx_port_errors"), device.counter("rx_frames")), (0, 0));
    guest.leave();
}

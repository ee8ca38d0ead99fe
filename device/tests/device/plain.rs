// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any virtio-net driver works (docs/interface.md, "Plain virtio-net").

use std::thread::sleep;
use std::time::Duration;

use tsnic::frame::NetHeader;

use crate::support::{A_WHILE, BUFFERS, Device, Guest, Options, eventually, frame};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

#[test]
fn frames_go_both_ways_in_order_with_every_ring_feature() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        for tag in 0..300u32 {
            let sent = frame(tag, 60 + tag as usize % 1400);
            device.host.send(&sent);
            let received = guest.receive();
            assert_eq!(received.frame, sent);
            assert_eq!(received.header.num_buffers.get(), 1);
            guest.post(1, 2048);
            guest.send(NetHeader::default(), &sent);
            assert_eq!(device.host.receive().1, sent);
        }
        assert_eq!(device.counter("rx_frames"), 300);
        assert_eq!(device.counter("tx_frames"), 300);
        guest.leave();
    }
}

#[test]
fn indices_wrap() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options { start: 0xfff0, ..options });
        for tag in 0..64 {
            device.host.send(&frame(tag, 64));
            assert_eq!(guest.receive().frame, frame(tag, 64));
            eventually("an interrupt", || (guest.rx.interrupts() > 0).then_some(()));
            guest.rx.set_used_event(guest.rx.next_used);
            guest.post(1, 2048);
            guest.send(NetHeader::default(), &frame(tag, 64));
            assert_eq!(device.host.receive().1, frame(tag, 64));
        }
        assert_eq!(guest.rx.next_used, 0xfff0u16.wrapping_add(64));
        guest.leave();
    }
}

#[test]
fn a_large_frame_takes_several_buffers() {
    let device = Device::new();
    let mut guest = Guest::start_with(&device, Options::default(), 20, 256);
    let sent = frame(1, 1500);
    device.host.send(&sent);
    let received = guest.receive();
    assert_eq!(received.frame, sent);
    assert_eq!(received.header.num_buffers.get(), (1512u16).div_ceil(256));
    assert_eq!(device.counter("rx_completions"), 6);
    guest.leave();
}

#[test]
fn a_frame_no_buffer_can_hold_is_dropped_and_counted() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::without_mergeable());
    device.host.send(&frame(1, 3000));
    device.host.send(&frame(2, 100));
    assert_eq!(guest.receive().frame, frame(2, 100));
    assert_eq!(device.counter("rx_too_big"), 1);
    guest.leave();
}

#[test]
fn frames_wait_on_the_wire_until_there_are_buffers() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start_with(&device, options, 0, 0);
        device.host.send(&frame(1, 1000));
        device.host.send(&frame(2, 1000));
        sleep(A_WHILE);
        // 256 bytes are not enough for the first one; three more are.
        guest.post(1, 256);
        sleep(A_WHILE);
        assert!(guest.try_receive().is_none());
        assert!(guest.rx.wants_kick(), "{options:?}");
        guest.post(5, 1100);
        assert_eq!(guest.receive().frame, frame(1, 1000));
        assert_eq!(guest.receive().frame, frame(2, 1000));
        guest.leave();
    }
}

#[test]
fn interrupts_are_raised_only_when_wanted() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        device.host.send(&frame(0, 64));
        guest.receive();
        eventually("the first interrupt", || (guest.rx.interrupts() > 0).then_some(()));
        // None until three more have come.
        if guest.rx.event_idx {
            guest.rx.set_used_event(guest.rx.next_used.wrapping_add(2));
        } else {
            guest.rx.set_available_flags(1);
        }
        for tag in 1..3 {
            device.host.send(&frame(tag, 64));
            guest.receive();
        }
        sleep(A_WHILE);
        assert_eq!(guest.rx.interrupts(), 0, "{options:?}");
        guest.rx.set_available_flags(0);
        device.host.send(&frame(3, 64));
        guest.receive();
        eventually("an interrupt", || (guest.rx.interrupts() > 0).then_some(()));
        guest.leave();
    }
}

#[test]
fn the_transmit_queue_asks_for_kicks_whenever_it_is_empty() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        for tag in 0..100 {
            guest.send(NetHeader::default(), &frame(tag, 64));
            device.host.receive();
            eventually("kicks are wanted", || guest.tx.wants_kick().then_some(()));
        }
        guest.leave();
    }
}

#[test]
fn open_checksums_pass_when_negotiated_and_are_completed_when_not() {
    let open = NetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34.into(),
        csum_offset: 6.into(),
        ..NetHeader::default()
    };
    let bytes = frame(9, 80);

    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    device.host.send_with(open, &bytes);
    let received = guest.receive();
    assert_eq!((received.header.flags, received.header.csum_start.get()), (NEEDS_CSUM, 34));
    assert_eq!(received.frame, bytes);
    device.host.send_with(NetHeader { flags: DATA_VALID, ..NetHeader::default() }, &bytes);
    assert_eq!(guest.receive().header.flags, DATA_VALID);
    guest.send(open, &bytes);
    assert_eq!(device.host.receive(), (open, bytes.clone()));
    guest.leave();

    let without_checksums = 1 << 0 | 1 << 1;
    let mut guest =
        Guest::start(&device, Options { without: without_checksums, ..Options::default() });
    device.host.send_with(open, &bytes);
    let received = guest.receive();
    assert_eq!(received.header.flags, 0);
    assert_eq!(received.frame[..40], bytes[..40]);
    // Virtio 1.x, 5.1.6.2: the field held a partial sum (of a pseudo header, as a rule) and now
    // holds the complement of it and of everything else from csum_start on. So all words and the
    // partial sum together are 0 in ones' complement.
    let word = |word: &[u8]| u32::from(u16::from_be_bytes([word[0], word[1]]));
    let sum = word(&bytes[40..42]) + received.frame[34..].chunks(2).map(word).sum::<u32>();
    assert_eq!(sum % 0xffff, 0, "sum {sum:#x}");
    assert_ne!(received.frame[40..42], bytes[40..42]);
    assert_eq!(received.frame[42..], bytes[42..]);
    guest.leave();
}

#[test]
fn chains_that_are_no_frames_are_dropped_and_counted() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.tx.add(&[(crate::support::BUFFERS, 20, false)]);
    guest.tx.kick();
    eventually("the short chain comes back", || guest.tx.take());
    let segmented = NetHeader { gso_type: 1, gso_size: 1400.into(), ..NetHeader::default() };
    guest.send(segmented, &frame(1, 100));
    guest.send(NetHeader::default(), &frame(2, 100));
    assert_eq!(device.host.receive().1, frame(2, 100));
    assert_eq!(device.counter("tx_malformed"), 2);
    guest.leave();
}

#[test]
fn a_frame_the_wire_wants_cut_into_segments_is_dropped_and_counted() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    device.host.send_with(
        NetHeader { gso_type: 1, gso_size: 1400.into(), ..NetHeader::default() },
        &frame(1, 100),
    );
    device.host.send(&frame(2, 100));
    assert_eq!(guest.receive().frame, frame(2, 100));
    assert_eq!(device.counter("rx_malformed"), 1);
    guest.leave();
}

#[test]
fn a_legacy_header_has_ten_bytes() {
    let device = Device::new();
    let without = 1 << 32 | 1 << 15;
    let mut guest = Guest::start(&device, Options { without, ..Options::default() });
    device.host.send(&frame(1, 100));
    assert_eq!(guest.receive().frame, frame(1, 100));
    guest.send(NetHeader::default(), &frame(2, 100));
    assert_eq!(device.host.receive().1, frame(2, 100));
    guest.leave();
}

#[test]
fn a_worker_that_polls_needs_no_kick() {
    for (poll, seen) in [(Duration::from_secs(1), true), (Duration::ZERO, false)] {
        let device = Device::with_poll(poll);
        let mut guest = Guest::start(&device, Options::default());
        guest.send(NetHeader::default(), &frame(1, 64));
        device.host.receive();
        guest.tx.add(&[(BUFFERS, 100, false)]);
        if seen {
            eventually("it is taken", || guest.tx.take());
            device.host.receive();
            device.host.send(&frame(2, 64));
            assert_eq!(guest.receive().frame, frame(2, 64));
        } else {
            sleep(A_WHILE);
            assert_eq!(guest.tx.take(), None);
        }
        guest.leave();
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::is_request;

fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
        .tcp(40_000, port, 1, 1000)
        .ack(1)
        .write(&mut frame, payload)
        .expect("a frame");
    frame
}

#[test]
fn a_tcp_segment_with_payload_to_the_port_is_a_request() {
    assert!(is_request(&tcp(80, b"x"), 80));
    assert!(!is_request(&tcp(81, b"x"), 80), "another port");
    assert!(!is_request(&tcp(80, b""), 80), "a bare acknowledgement");
}

#[test]
fn padding_of_a_short_frame_is_no_payload() {
    let mut frame = tcp(80, b"");
    frame.resize(60, 0);
    assert!(!is_request(&frame, 80));
}

#[test]
fn ipv6_counts_and_udp_does_not() {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    ethernet.ipv6([1; 16], [2; 16], 64).tcp(1, 80, 1, 1).write(&mut frame, b"x").expect("a frame");
    assert!(is_request(&frame, 80));
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    ethernet.ipv4([1; 4], [2; 4], 64).udp(1, 80).write(&mut frame, b"x").expect("a frame");
    assert!(!is_request(&frame, 80));
}

#[test]
fn a_frame_cut_short_is_no_request() {
    let frame = tcp(80, b"");
    for end in 0..frame.len() {
        assert!(!is_request(&frame[..end], 80));
    }
}

proptest! {
    #[test]
    fn no_bytes_break_it(mut bytes in prop::collection::vec(any::<u8>(), 0..120), tcp_at_front in any::<bool>()) {
        if tcp_at_front {
            bytes.splice(0..0, tcp(80, b""));
        }
        let _ = is_request(&bytes, 80);
    }
}

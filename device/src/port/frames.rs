// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames the device makes up.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use tsnic_core::spec::Flow;

use crate::frame::Frame;
use crate::frame::NetHeader;

const TIME_TO_LIVE: u8 = 64;
const TCP_WINDOW: u16 = 512;

/// Bytes of payload of a frame made up by [`gro_held`].
const SEGMENT_LEN: u32 = 64;

/// A UDP datagram from the flow's peer to the guest. The payload begins with `serial`,
/// little-endian, and has `len` bytes, at least 4 and at most 65,000 of them.
///
/// # Panics
/// Never: every such datagram fits into a frame.
#[must_use]
pub fn udp(flow: &Flow, serial: u32, len: u16) -> Frame {
    let payload = payload(serial, len.clamp(4, 65_000).into());
    let builder = PacketBuilder::ethernet2(flow.peer_mac, flow.guest_mac)
        .ipv4(flow.peer_ip.octets(), flow.guest_ip.octets(), TIME_TO_LIVE)
        .udp(flow.peer_port, flow.guest_port);
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write_to_vec(&mut bytes, &payload).expect("a datagram of at most 65,000 bytes fits");
    Frame { header: NetHeader::checked(), bytes }
}

/// A TCP segment that GRO holds back (ACK only, payload, DF, right checksums) to an address that is
/// not the guest's, so that the stack drops it once GRO lets go of it.
///
/// # Panics
/// Never: every such segment fits into a frame.
#[must_use]
pub fn gro_held(flow: &Flow, serial: u32) -> Frame {
    segment(flow, serial, false)
}

/// The segment after [`gro_held`] of the same `serial`, with PSH: GRO lets go of both at once.
///
/// # Panics
/// Never: every such segment fits into a frame.
#[must_use]
pub fn gro_end(flow: &Flow, serial: u32) -> Frame {
    segment(flow, serial.wrapping_add(1), true)
}

fn segment(flow: &Flow, number: u32, push: bool) -> Frame {
    let payload = payload(number, SEGMENT_LEN as usize);
    let mut builder = PacketBuilder::ethernet2(flow.peer_mac, flow.guest_mac)
        .ipv4(flow.peer_ip.octets(), nobody(flow.guest_ip).octets(), TIME_TO_LIVE)
        .tcp(flow.peer_port, flow.guest_port, number.wrapping_mul(SEGMENT_LEN), TCP_WINDOW)
        .ack(1);
    if push {
        builder = builder.psh();
    }
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write_to_vec(&mut bytes, &payload).expect("a segment of 64 bytes fits");
    Frame { header: NetHeader::checked(), bytes }
}

fn payload(serial: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[..4].copy_from_slice(&serial.to_le_bytes());
    payload
}

/// An address of the range kept for documentation (RFC 5737) that is not the guest's.
fn nobody(guest: Ipv4Addr) -> Ipv4Addr {
    let (one, other) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
    if guest == one { other } else { one }
}

#[cfg(test)]
pub(crate) mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    pub(crate) const FLOW: Flow = Flow {
        guest_mac: [0x52, 0x54, 0, 0, 0, 1],
        guest_ip: Ipv4Addr::new(10, 0, 0, 2),
        guest_port: 9000,
        peer_mac: [0x52, 0x54, 0, 0, 0, 2],
        peer_ip: Ipv4Addr::new(10, 0, 0, 1),
        peer_port: 9001,
    };

    #[test]
    fn a_datagram_is_whole_and_its_checksums_are_right() {
        let frame = udp(&FLOW, 7, 32);
        let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
            (packet.net, packet.transport)
        else {
            panic!("no UDP datagram")
        };
        let ip = ip.header().to_header();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(ip.destination, FLOW.guest_ip.octets());
        assert_eq!(udp.destination_port(), FLOW.guest_port);
        assert_eq!(udp.payload()[..4], 7u32.to_le_bytes());
        assert_eq!(udp.payload().len(), 32);
        let sum = udp.to_header().calc_checksum_ipv4(&ip, udp.payload()).unwrap();
        assert_eq!(udp.checksum(), sum);
        assert!(frame.header.data_valid() && !frame.header.needs_csum());
    }

    #[test]
    fn a_segment_for_gro_has_everything_gro_asks_for_and_goes_to_nobody() {
        let frame = gro_held(&FLOW, 3);
        let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) =
            (packet.net, packet.transport)
        else {
            panic!("no TCP segment")
        };
        let ip = ip.header().to_header();
        assert!(ip.dont_fragment && ip.header_checksum == ip.calc_header_checksum());
        assert_ne!(ip.destination, FLOW.guest_ip.octets());
        assert!(tcp.ack() && !tcp.psh() && !tcp.syn() && !tcp.fin() && !tcp.rst());
        assert_eq!(tcp.sequence_number(), 3 * SEGMENT_LEN);
        let sum = tcp.to_header().calc_checksum_ipv4(&ip, tcp.payload()).unwrap();
        assert_eq!(tcp.checksum(), sum);
        assert_ne!(gro_held(&FLOW, 4).bytes, frame.bytes);
    }

    #[test]
    fn the_segment_that_ends_what_gro_holds_follows_it_and_is_pushed() {
        let [held, end] = [gro_held(&FLOW, 3), gro_end(&FLOW, 3)].map(|frame| {
            let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
            (tcp.to_header(), tcp.payload().len() as u32)
        });
        assert_eq!(end.0.sequence_number, held.0.sequence_number + held.1);
        assert!(end.0.psh && end.0.ack && end.1 == held.1);
        assert_eq!(
            (end.0.source_port, end.0.destination_port, end.0.acknowledgment_number),
            (held.0.source_port, held.0.destination_port, held.0.acknowledgment_number)
        );
    }

    #[test]
    fn the_address_of_nobody_is_never_the_guests() {
        for guest in [FLOW.guest_ip, Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)] {
            assert_ne!(nobody(guest), guest);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A closed-loop TCP client on the other end of the cable, and its frames.

use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpSlice, TransportSlice};
use tsnic_core::time::Instant;

use super::guest::Received;

/// The port it sends requests to.
pub const PORT: u16 = 80;

/// The next request goes out when the reply is there, the same one again after 200 ms.
#[derive(Debug)]
pub struct Client {
    pub requests: u64,
    pub think: Duration,
    sent: u64,
    next_at: Option<Instant>,
    again_at: Option<Instant>,
    pub retransmissions: u32,
    /// Sends a bare acknowledgement so long after each reply.
    pub ack_after: Option<Duration>,
    ack_at: Option<Instant>,
}

impl Client {
    pub fn new(requests: u64) -> Self {
        Self {
            requests,
            think: Duration::from_micros(20),
            sent: 0,
            next_at: Some(Instant::default()),
            again_at: None,
            retransmissions: 0,
            ack_after: None,
            ack_at: None,
        }
    }

    pub fn is_done(&self) -> bool {
        self.sent == self.requests && self.again_at.is_none()
    }

    pub fn next_event(&self) -> Option<Instant> {
        [self.next_at, self.again_at, self.ack_at].into_iter().flatten().min()
    }

    /// What it sends by `now`: see [`frame`].
    pub fn run(&mut self, now: Instant) -> Vec<Option<u64>> {
        let mut sent = Vec::new();
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            sent.push(None);
        }
        if self.next_at.is_some_and(|at| at <= now) {
            self.next_at = None;
            if self.sent < self.requests {
                self.sent += 1;
                sent.push(Some(self.sent));
                self.again_at = Some(now.plus(Duration::from_millis(200)));
            }
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.retransmissions += 1;
            sent.push(Some(self.sent));
            self.again_at = Some(now.plus(Duration::from_millis(400)));
        }
        sent
    }

    pub fn reply(&mut self, now: Instant, request: u64) {
        if request == self.sent {
            self.again_at = None;
            self.next_at = Some(now.plus(self.think));
            self.ack_at = self.ack_after.map(|after| now.plus(after));
        }
    }
}

/// A segment with the number of a request, or a bare acknowledgement.
pub fn frame(request: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = request.map(u64::to_le_bytes);
    PacketBuilder::ethernet2([4; 6], [2; 6])
        .ipv4([10, 0, 0, 3], [10, 0, 0, 1], 64)
        .tcp(40_000, PORT, 1, 1000)
        .ack(1)
        .write(&mut bytes, payload.as_ref().map_or(&[][..], |payload| &payload[..]))
        .unwrap();
    bytes
}

/// What a frame is to the guest. A segment that is not to [`PORT`] is one of the device's own.
pub fn received(frame: &[u8]) -> Received {
    // A bit of it may have been flipped on the wire.
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Received::Other };
    match packet.transport {
        Some(TransportSlice::Tcp(tcp)) if !is_whole(packet.net.as_ref(), &tcp) => Received::Other,
        Some(TransportSlice::Tcp(tcp)) if tcp.destination_port() == PORT => {
            let number = tcp.payload().try_into().map(u64::from_le_bytes);
            number.map_or(Received::Other, Received::Request)
        }
        Some(TransportSlice::Tcp(tcp)) if tcp.psh() => Received::Pushed,
        Some(TransportSlice::Tcp(_)) => Received::Held,
        _ => Received::Other,
    }
}

fn is_whole(net: Option<&NetSlice<'_>>, tcp: &TcpSlice<'_>) -> bool {
    let Some(NetSlice::Ipv4(ip)) = net else { return false };
    let ip = ip.header().to_header();
    let sum = tcp.to_header().calc_checksum_ipv4(&ip, tcp.payload());
    ip.header_checksum == ip.calc_header_checksum() && sum == Ok(tcp.checksum())
}

/// The frame is one of [`frame`], and not made up by the device.
pub fn is_from_client(frame: &[u8]) -> bool {
    frame[6..12] == [4; 6]
}

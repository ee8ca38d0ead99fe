// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What counts as a request on the wire.

use etherparse::{SlicedPacket, TransportSlice};

#[cfg(test)]
mod tests;

/// True when `frame` (from the Ethernet header on) is a TCP segment to `port` that carries payload.
#[must_use]
pub fn is_request(frame: &[u8], port: u16) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    matches!(packet.transport, Some(TransportSlice::Tcp(tcp)) if tcp.destination_port() == port && !tcp.payload().is_empty())
}

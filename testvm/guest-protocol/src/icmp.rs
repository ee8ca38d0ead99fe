// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ICMP echo: `ping`, for either side.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes behind the ICMP header.
const PAYLOAD: [u8; 56] = [0x5a; 56];

/// Sends `count` echo requests to `to`, one after another; how many were answered. Needs
/// `CAP_NET_RAW`.
///
/// # Errors
/// The kernel's, when a request cannot be sent.
pub fn ping(to: Ipv4Addr, count: u16) -> io::Result<u64> {
    let socket =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    let id = std::process::id() as u16;
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    let mut answered = 0;
    for seq in 0..count {
        let icmp_type = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq });
        let mut packet = Icmpv4Header::with_checksum(icmp_type, &PAYLOAD).to_bytes().to_vec();
        packet.extend_from_slice(&PAYLOAD);
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left =
                deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let left = TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(i64::MAX));
            setsockopt(&socket, sockopt::ReceiveTimeout, &left)?;
            let mut answer = [0; 2048];
            match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Ok(len) if answers(&answer[..len], id, seq) => {
                    answered += 1;
                    break;
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
    }
    Ok(answered)
}

/// The IPv4 packet is the answer to this request, with a right checksum and all of its payload.
fn answers(packet: &[u8], id: u16, seq: u16) -> bool {
    let Ok((_, rest)) = etherparse::Ipv4Header::from_slice(packet) else { return false };
    let Ok((header, payload)) = Icmpv4Header::from_slice(rest) else { return false };
    header.icmp_type == Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq })
        && header.checksum == header.icmp_type.calc_checksum(payload)
        && payload == PAYLOAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_that_of_the_request_and_unharmed() {
        let packet = |icmp_type: Icmpv4Type| {
            let mut packet = Vec::new();
            let builder =
                etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4(icmp_type);
            builder.write(&mut packet, &PAYLOAD).unwrap();
            packet
        };
        let good = packet(Icmpv4Type::EchoReply(IcmpEchoHeader { id: 7, seq: 3 }));
        assert!(answers(&good, 7, 3));
        assert!(!answers(&good, 7, 4) && !answers(&good, 8, 3));
        assert!(!answers(&packet(Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 7, seq: 3 })), 7, 3));
        let mut harmed = good.clone();
        *harmed.last_mut().unwrap() ^= 1;
        assert!(!answers(&harmed, 7, 3));
        assert!(!answers(&good[..30], 7, 3));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ICMP echo: `ping`, for either side.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::{Deserialize, Serialize};

/// Time for one answer, usually.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// So many unanswered requests in a row end it: nobody is there.
const GIVE_UP: u16 = 3;

/// Bytes behind the ICMP header.
const PAYLOAD: [u8; 56] = [0x5a; 56];

/// What became of echo requests that were sent one after another, by the order of the answers and
/// not by time: none overtakes another, so what a later answer has left behind will not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pings {
    /// Answered, and no later one before.
    pub answered: u16,
    /// Not answered before a later one was.
    pub lost: u16,
    /// Behind the last answer: not answered yet, for which slowness is reason enough.
    pub late: u16,
}

impl Pings {
    /// The next request was sent.
    fn sent(&mut self) {
        self.late += 1;
    }

    /// The answer to request number `seq`, from 0, has come. One that comes twice or after a later
    /// one changes nothing.
    fn heard(&mut self, seq: u16) {
        let Some(skipped) = seq.checked_sub(self.next()).filter(|skipped| *skipped < self.late)
        else {
            return;
        };
        self.lost += skipped;
        self.late -= skipped + 1;
        self.answered += 1;
    }

    /// The first request behind the last answer.
    const fn next(self) -> u16 {
        self.answered + self.lost
    }
}

/// Sends up to `count` echo requests to `to`, each when the one before was answered or `patience`
/// is over, and says what became of them. Needs `CAP_NET_RAW`.
///
/// # Errors
/// The kernel's, when a request cannot be sent.
pub fn ping(to: Ipv4Addr, count: u16, patience: Duration) -> io::Result<Pings> {
    let socket =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    let id = std::process::id() as u16;
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    let mut pings = Pings::default();
    for seq in 0..count {
        let icmp_type = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq });
        let mut packet = Icmpv4Header::with_checksum(icmp_type, &PAYLOAD).to_bytes().to_vec();
        packet.extend_from_slice(&PAYLOAD);
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        pings.sent();
        let deadline = Instant::now() + patience;
        while pings.late != 0
            && let Some(left) = deadline.checked_duration_since(Instant::now())
        {
            if let Some(seq) = hear(&socket, id, left)? {
                pings.heard(seq);
            }
        }
        if pings.late == GIVE_UP {
            break;
        }
    }
    Ok(pings)
}

/// The number of the next answer, if that is what comes next, and within `limit`.
fn hear(socket: &OwnedFd, id: u16, limit: Duration) -> io::Result<Option<u16>> {
    // 0 would be no limit.
    let limit = limit.as_micros().max(1_000);
    let limit = TimeVal::microseconds(i64::try_from(limit).unwrap_or(i64::MAX));
    setsockopt(socket, sockopt::ReceiveTimeout, &limit)?;
    let mut packet = [0; 2048];
    match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
        Ok(len) => Ok(answer(&packet[..len], id)),
        Err(nix::Error::EINTR | nix::Error::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The number of the request to which the IPv4 packet is the answer, with a right checksum and all
/// of its payload.
fn answer(packet: &[u8], id: u16) -> Option<u16> {
    let (_, rest) = etherparse::Ipv4Header::from_slice(packet).ok()?;
    let (header, payload) = Icmpv4Header::from_slice(rest).ok()?;
    let Icmpv4Type::EchoReply(echo) = header.icmp_type else { return None };
    let unharmed = header.checksum == header.icmp_type.calc_checksum(payload) && payload == PAYLOAD;
    (echo.id == id && unharmed).then_some(echo.seq)
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
        assert_eq!(answer(&good, 7), Some(3));
        assert_eq!(answer(&good, 8), None);
        let request = packet(Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 7, seq: 3 }));
        assert_eq!(answer(&request, 7), None);
        let mut harmed = good.clone();
        *harmed.last_mut().unwrap() ^= 1;
        assert_eq!(answer(&harmed, 7), None);
        assert_eq!(answer(&good[..30], 7), None);
    }

    /// So many requests, with these answers.
    fn pings(sent: u16, answers: &[u16]) -> Pings {
        let mut pings = Pings::default();
        for _ in 0..sent {
            pings.sent();
        }
        for &seq in answers {
            pings.heard(seq);
        }
        pings
    }

    #[test]
    fn a_request_is_lost_when_a_later_one_was_answered_and_it_was_not() {
        for (answers, answered, lost, late) in [
            (&[0, 1, 2, 3][..], 4, 0, 0),
            (&[0, 2, 3], 3, 1, 0),
            (&[3], 1, 3, 0),
            // Nothing is known of what is behind the last answer.
            (&[], 0, 0, 4),
            (&[0, 1], 2, 0, 2),
            (&[1], 1, 1, 2),
        ] {
            assert_eq!(pings(4, answers), Pings { answered, lost, late }, "{answers:?}");
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_or_comes_twice_is_none() {
        assert_eq!(pings(3, &[1, 0, 2]), Pings { answered: 2, lost: 1, late: 0 });
        assert_eq!(pings(3, &[0, 0, 0]), Pings { answered: 1, lost: 0, late: 2 });
        assert_eq!(pings(3, &[3, u16::MAX]), Pings { answered: 0, lost: 0, late: 3 }, "not sent");
    }

    #[test]
    fn the_host_answers_itself() -> io::Result<()> {
        match ping(Ipv4Addr::LOCALHOST, 5, Duration::from_secs(20)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED: no raw sockets here");
                return Ok(());
            }
            heard => assert_eq!(heard?, Pings { answered: 5, lost: 0, late: 0 }),
        }
        Ok(())
    }
}

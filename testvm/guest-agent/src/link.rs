// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Network links, by rtnetlink.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::net::if_::if_nametoindex;

use crate::error::Error;
use crate::{files, limit};

/// A virtual link has its carrier in milliseconds.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);
const CARRIER_LOOK: Duration = Duration::from_millis(2);

/// Gives an interface its address, raises it, waits for its carrier, then enters neighbours that
/// need no ARP.
///
/// IPv6 is turned off on it first, where the kernel has it: router solicitations would be traffic
/// nobody asked for.
///
/// # Errors
/// The kernel's; no carrier in time (usually 5 s).
pub fn up(
    name: &str,
    ip: Ipv4Addr,
    prefix_len: u8,
    neighbours: &[(Ipv4Addr, [u8; 6])],
) -> Result<(), Error> {
    let index = index_of(name)?;
    let no_ipv6 = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    if std::path::Path::new(&no_ipv6).exists() {
        files::write(&no_ipv6, "1")?;
    }
    let mut netlink = Netlink::open()?;
    netlink.ask(
        &format!("add address {ip}/{prefix_len} to {name}"),
        NLM_F_CREATE | NLM_F_REPLACE,
        RouteNetlinkMessage::NewAddress(address(index, ip, prefix_len)),
    )?;
    netlink.ask(
        &format!("raise {name}"),
        0,
        RouteNetlinkMessage::SetLink(flags(index, LinkFlags::Up)),
    )?;
    wait_for_carrier(name)?;
    // Not before: a link that goes down loses its neighbours.
    for &(neighbour_ip, mac) in neighbours {
        netlink.ask(
            &format!("add neighbour {neighbour_ip} on {name}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewNeighbour(neighbour(index, neighbour_ip, mac)),
        )?;
    }
    Ok(())
}

/// Takes an interface down.
///
/// # Errors
/// The kernel's.
pub fn down(name: &str) -> Result<(), Error> {
    let index = index_of(name)?;
    Netlink::open()?.ask(
        &format!("take {name} down"),
        0,
        RouteNetlinkMessage::SetLink(flags(index, LinkFlags::empty())),
    )
}

fn index_of(name: &str) -> Result<u32, Error> {
    if_nametoindex(name).map_err(Error::call(format!("No interface {name}")))
}

fn wait_for_carrier(name: &str) -> Result<(), Error> {
    let path = format!("/sys/class/net/{name}/carrier");
    let (begin, limit) = (Instant::now(), limit::scaled(CARRIER_LIMIT));
    while files::read(&path)? != "1" {
        if begin.elapsed() > limit {
            return Err(Error::TimeLimit {
                what: format!("No carrier on {name}"),
                limit_ms: limit.as_millis(),
            });
        }
        std::thread::sleep(CARRIER_LOOK);
    }
    Ok(())
}

fn flags(index: u32, wanted: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = wanted;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn address(index: u32, ip: Ipv4Addr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix_len;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(ip)), AddressAttribute::Address(IpAddr::V4(ip))];
    message
}

fn neighbour(index: u32, ip: Ipv4Addr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> Result<Self, Error> {
        let what = "Cannot open a netlink socket";
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::call(what))?;
        socket.bind_auto().map_err(Error::call(what))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::call(what))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    fn ask(
        &mut self,
        what: &str,
        more_flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(), Error> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | more_flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(Error::call(format!("Cannot {what}")))?;
        let (answer, _) =
            self.socket.recv_from_full().map_err(Error::call(format!("Cannot {what}")))?;
        let unexpected = |answer: String| Error::Netlink { what: what.to_owned(), answer };
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|e| unexpected(e.to_string()))?;
        match answer.payload {
            NetlinkPayload::Error(error) if answer.header.sequence_number == self.sequence => {
                match error.code {
                    None => Ok(()),
                    Some(_) => Err(Error::call(format!("Cannot {what}"))(error.to_io())),
                }
            }
            other => Err(unexpected(format!("{other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_named() {
        let message =
            up("no-such-if", Ipv4Addr::LOCALHOST, 8, &[]).map_err(|e| e.chain()).unwrap_err();
        assert!(message.starts_with("No interface no-such-if: "), "{message}");
        assert!(down("no-such-if").is_err());
    }

    #[test]
    fn the_kernels_refusal_is_an_error_with_its_code() {
        let mut netlink = Netlink::open().expect("netlink socket");
        // Interface numbers are positive: nobody, root or not, can raise this one.
        let message = RouteNetlinkMessage::SetLink(flags(i32::MAX.cast_unsigned(), LinkFlags::Up));
        let text = netlink.ask("raise nothing", 0, message).map_err(|e| e.chain()).unwrap_err();
        assert!(text.starts_with("Cannot raise nothing: "), "{text}");
        assert!(text.contains("os error"), "{text}");
    }
}

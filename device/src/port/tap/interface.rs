// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says of a network interface: its name, its kind, and the settings of a TUN/TAP
//! interface (rtnetlink).

use std::fmt;
use std::io;
use std::str::FromStr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use thiserror::Error;

/// The name of a network interface: 1 to 15 bytes, no white space, no slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapName(String);

/// An impossible interface name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no interface name: 1 to 15 characters, no white space, no slash, no colon, no percent sign"
)]
pub struct NameError(String);

impl FromStr for TapName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        // A percent sign would make the kernel choose a number.
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':' | b'%');
        if name.is_empty()
            || name.len() >= libc::IFNAMSIZ
            || name == "."
            || name == ".."
            || name.bytes().any(odd)
        {
            return Err(NameError(name.into()));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TapName {
    /// As `struct ifreq` holds it: shorter than the array, so that it ends in a zero.
    pub(super) fn as_ifr_name(&self) -> [libc::c_char; libc::IFNAMSIZ] {
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (target, byte) in ifr_name.iter_mut().zip(self.0.bytes()) {
            *target = byte.cast_signed();
        }
        ifr_name
    }

    /// An interface of this name exists in the network namespace of this thread.
    pub(super) fn exists(&self) -> bool {
        nix::net::if_::if_nametoindex(self.0.as_str()).is_ok()
    }
}

/// An interface that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// What the kernel calls its kind, such as `bridge`; a physical one has none.
    pub kind: Option<String>,
    /// Settings of one of kind `tun`.
    pub tun: Tun,
}

/// Settings of a TUN/TAP interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tun {
    /// It carries Ethernet frames, not IP packets.
    pub tap: bool,
    /// It was made with `multi_queue`.
    pub multi_queue: bool,
    /// The only user that may attach to it without `CAP_NET_ADMIN`.
    pub owner: Option<u32>,
    /// The only group whose members may.
    pub group: Option<u32>,
}

/// `IFLA_TUN_*` of `linux/if_link.h`.
mod attribute {
    pub const OWNER: u16 = 1;
    pub const GROUP: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const MULTI_QUEUE: u16 = 7;
}

impl Interface {
    /// Asks the kernel for the interface of this name; `None` when there is none. Takes no
    /// privilege and does not block for longer than the kernel needs to answer.
    ///
    /// # Errors
    /// When the kernel cannot be asked or answers something else.
    pub fn look_up(name: &TapName) -> io::Result<Option<Self>> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.0.clone()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
        request.header.flags = NLM_F_REQUEST;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket.send(&bytes, 0)?;
        let (answer, _) = socket.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| io::Error::other(error.to_string()))?;
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                Ok(Some(Self::from_link(&link)))
            }
            NetlinkPayload::Error(error) if error.to_io().raw_os_error() == Some(libc::ENODEV) => {
                Ok(None)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            other => Err(io::Error::other(format!("unexpected netlink answer {other:?}"))),
        }
    }

    fn from_link(link: &LinkMessage) -> Self {
        let mut interface = Self::default();
        let infos = link.attributes.iter().filter_map(|it| {
            if let LinkAttribute::LinkInfo(info) = it { Some(info) } else { None }
        });
        for info in infos.flatten() {
            match info {
                LinkInfo::Kind(kind) => interface.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::Tun(settings)) => {
                    for setting in settings {
                        let mut value = vec![0; setting.value_len()];
                        setting.emit_value(&mut value);
                        interface.tun.set(setting.kind(), &value);
                    }
                }
                _ => {}
            }
        }
        interface
    }
}

impl Tun {
    fn set(&mut self, attribute: u16, value: &[u8]) {
        let word = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let byte = value.first().copied();
        match attribute {
            attribute::OWNER => self.owner = word,
            attribute::GROUP => self.group = word,
            attribute::TYPE => self.tap = byte.map(libc::c_int::from) == Some(libc::IFF_TAP),
            attribute::MULTI_QUEUE => self.multi_queue = byte.is_some_and(|on| on != 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_names_are_refused() {
        for name in ["", "a b", "a/b", "tap%d", "..", "exactly16bytes..", "x\u{e9}", "a:1"] {
            assert_eq!(name.parse::<TapName>(), Err(NameError(name.into())));
        }
        assert_eq!("fifteen-bytes.0".parse::<TapName>().unwrap().to_string(), "fifteen-bytes.0");
    }

    #[test]
    fn the_loopback_interface_exists_and_is_of_no_kind() {
        let name: TapName = "lo".parse().unwrap();
        assert!(name.exists());
        assert_eq!(Interface::look_up(&name).unwrap(), Some(Interface::default()));
    }

    #[test]
    fn an_interface_that_does_not_exist_is_none() {
        let name: TapName = "no-such-if".parse().unwrap();
        assert!(!name.exists());
        assert_eq!(Interface::look_up(&name).unwrap(), None);
    }
}

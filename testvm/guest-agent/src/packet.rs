// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames of one's own making, by a packet socket.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::Error;

/// Sends `frame`, which begins with its destination address, out of an interface.
///
/// # Errors
/// No such interface, it is down, or the frame is shorter than an Ethernet header or longer than
/// the interface allows.
pub fn send(name: &str, frame: &[u8]) -> Result<(), Error> {
    let what = || format!("Cannot send a frame of {} bytes on {name}", frame.len());
    let index = if_nametoindex(name).map_err(Error::call(what()))?;
    // Protocol 0: it receives nothing.
    let packets = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::call(what()))?;
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY:
    // - `packets` is an open socket for the whole call.
    // - The buffer pointer and length are those of `frame`, which is borrowed for the whole call
    //   and only read by it.
    // - The address pointer is to `to`, which is a whole `sockaddr_ll`, lives until the call has
    //   returned, and whose size is the length given.
    let sent = unsafe {
        libc::sendto(
            packets.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    // A packet socket takes a frame whole or not at all.
    Errno::result(sent).map(drop).map_err(Error::call(what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_named() {
        let message = send("no-such-if", &[0; 60]).map_err(|e| e.chain()).unwrap_err();
        assert!(
            message.starts_with("Cannot send a frame of 60 bytes on no-such-if: "),
            "{message}"
        );
    }
}

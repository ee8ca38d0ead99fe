// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hardware timestamps.

use std::ffi::c_char;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::error::Error;

const FILTER_ALL: i32 = libc::HWTSTAMP_FILTER_ALL.cast_signed();

/// Turns hardware receive timestamps of every packet on, transmit timestamps off.
///
/// # Errors
/// The interface does not exist or has no hardware timestamps, or its driver does not grant "all
/// packets".
pub fn enable(name: &str) -> Result<(), Error> {
    let what = || format!("Cannot turn hardware timestamps of {name} on");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(Error::call(what()))?;
    let mut config = libc::hwtstamp_config {
        flags: 0,
        tx_type: libc::HWTSTAMP_TX_OFF.cast_signed(),
        rx_filter: FILTER_ALL,
    };
    let request = libc::ifreq {
        ifr_name: ifname(name).ok_or(Errno::ENAMETOOLONG).map_err(Error::call(what()))?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut config).cast::<c_char>() },
    };
    // SAFETY:
    // - `request` is a valid `ifreq` that outlives the call; its name is NUL-terminated (`ifname`).
    // - SIOCSHWTSTAMP reads and writes one `hwtstamp_config` at `ifru_data`, which points to
    //   `config`: that is alive, exclusively borrowed here and not touched through its name until
    //   the call has returned.
    // - The descriptor is open for the whole call, because `socket` is.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSHWTSTAMP, &raw const request) };
    Errno::result(result).map_err(Error::call(what()))?;
    if config.rx_filter == FILTER_ALL {
        Ok(())
    } else {
        Err(Error::TimestampFilter {
            name: name.to_owned(),
            asked: FILTER_ALL,
            granted: config.rx_filter,
        })
    }
}

/// The name as the kernel wants it, if it fits with its NUL.
fn ifname(name: &str) -> Option<[c_char; libc::IFNAMSIZ]> {
    let mut field = [0; libc::IFNAMSIZ];
    if name.len() >= field.len() || name.contains('\0') {
        return None;
    }
    for (cell, byte) in field.iter_mut().zip(name.bytes()) {
        *cell = byte.cast_signed();
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_room_for_their_nul() {
        assert!(
            ifname("eth0").is_some_and(|field| field[3] == b'0'.cast_signed() && field[4] == 0)
        );
        assert!(ifname("fifteen-letters").is_some());
        assert!(ifname("sixteen-letters-").is_none());
        assert!(ifname("a\0b").is_none());
    }

    #[test]
    fn the_loopback_has_no_hardware_clock() {
        let message = enable("lo").map_err(|e| e.chain()).unwrap_err();
        assert!(message.starts_with("Cannot turn hardware timestamps of lo on: "), "{message}");
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket ioctls on a network interface, by name.

use std::ffi::c_char;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// Carries out `request` on the interface of this name, with `data` behind `ifr_data`.
///
/// # Errors
/// The kernel's; `ENAMETOOLONG` for what cannot be a name.
///
/// # Safety
/// What `request` reads and writes at `ifr_data` is a `T`.
pub unsafe fn ioctl<T>(name: &str, request: u64, data: &mut T) -> Result<(), Errno> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|_| Errno::last())?;
    let ifreq = libc::ifreq {
        ifr_name: ifname(name).ok_or(Errno::ENAMETOOLONG)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut *data).cast::<c_char>() },
    };
    // SAFETY:
    // - `ifreq` is a valid `ifreq` that outlives the call; its name is NUL-terminated (`ifname`).
    // - What is read and written at `ifru_data` is `data`, by the caller's promise: that is alive,
    //   exclusively borrowed, and not touched through its name until the call has returned.
    // - The descriptor is open for the whole call, because `socket` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw const ifreq) };
    Errno::result(result).map(drop)
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
}

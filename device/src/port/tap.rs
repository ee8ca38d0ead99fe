// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A TAP interface of the host as the wire.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr;

use thiserror::Error;
use tsnic_core::time::Instant;
use zerocopy::IntoBytes as _;

use super::Port;
use crate::frame::Frame;
use crate::frame::{HEADER_LEN, NetHeader};
use crate::frame::{MAX_FRAME_LEN, MIN_FRAME_LEN};

const DEVICE: &str = "/dev/net/tun";

/// The name of a network interface: 1 to 15 bytes, no white space, no slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapName(String);

/// An impossible interface name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no interface name: 1 to 15 characters, no white space, no slash, no colon, no percent sign")]
pub struct NameError(String);

impl FromStr for TapName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        // A percent sign would make the kernel choose a number.
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':' | b'%');
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name == "." || name == ".." || name.bytes().any(odd) {
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

/// Why a TAP interface could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The device node.
    #[error("Cannot open {DEVICE}: {}", open_advice(.0))]
    Device(#[source] io::Error),
    /// The interface.
    #[error("Cannot attach to TAP interface {name}: {}", attach_advice(source))]
    Attach {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A setting of the interface.
    #[error("Cannot set {what} of TAP interface {name}")]
    Set {
        /// Which setting.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

fn open_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "the host has no TUN/TAP driver, or this container no device node"
        }
        Some(libc::EACCES | libc::EPERM) => "this user may not use it",
        _ => "the host refused",
    }
}

fn attach_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "it does not exist or belongs to another user, and this one may not make it (CAP_NET_ADMIN)"
        }
        Some(libc::EBUSY) => "another process uses it",
        Some(libc::EINVAL) => "an interface of this name exists and is no TAP, or was made with other flags",
        _ => "the host refused",
    }
}

nix::ioctl_write_ptr_bad!(
    /// Attaches the open file to an interface.
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);
nix::ioctl_write_ptr_bad!(
    /// Length of the header before each frame.
    tun_set_vnet_hdr_sz,
    libc::TUNSETVNETHDRSZ,
    libc::c_int
);
nix::ioctl_write_ptr_bad!(
    /// Byte order of that header.
    tun_set_vnet_le,
    libc::TUNSETVNETLE,
    libc::c_int
);
nix::ioctl_write_int_bad!(
    /// What frames handed to this process may leave open.
    tun_set_offload,
    libc::TUNSETOFFLOAD
);

/// An open TAP interface. It ends with the process unless it was made persistent by somebody else.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: TapName,
    /// Where a frame of unknown length is read to: zeroed once, not for each of them.
    buffer: Box<[u8]>,
    /// Frames may be waiting.
    readable: bool,
}

impl Tap {
    /// Attaches to the interface, which is made when it does not exist. Setting it up is left to the caller.
    ///
    /// # Errors
    /// When the host refuses, with advice.
    pub fn open(name: &TapName) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(OpenError::Device)?;
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (target, byte) in ifr_name.iter_mut().zip(name.0.bytes()) {
            *target = byte.cast_signed();
        }
        let ifr_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        let request = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: ifr_flags } };
        let fd = file.as_raw_fd();
        // SAFETY: `fd` is an open TUN file, whose TUNSETIFF reads one `ifreq` and writes nothing beyond it; `request` is
        // one, fully initialised, with a name that ends in a zero because it is shorter than IFNAMSIZ.
        unsafe { tun_set_iff(fd, &raw const request) }
            .map_err(|error| OpenError::Attach { name: name.0.clone(), source: error.into() })?;
        let set = |what| move |error: nix::Error| OpenError::Set { what, name: name.0.clone(), source: error.into() };
        // SAFETY: TUNSETVNETHDRSZ reads one int from the pointer, which is to one that lives until the call returns.
        unsafe { tun_set_vnet_hdr_sz(fd, &raw const HEADER_SIZE) }.map_err(set("the header length"))?;
        // SAFETY: TUNSETVNETLE reads one int from the pointer, which is to one that lives until the call returns.
        unsafe { tun_set_vnet_le(fd, &raw const ONE) }.map_err(set("the header's byte order"))?;
        let buffer = vec![0; MAX_FRAME_LEN].into_boxed_slice();
        let mut tap = Self { file, name: name.clone(), buffer, readable: true };
        // A persistent interface remembers what the process before this one allowed, segmentation perhaps.
        tap.allow_open_checksums(false).map_err(|source| OpenError::Set {
            what: "the offloads",
            name: name.0.clone(),
            source,
        })?;
        Ok(tap)
    }
}

static ONE: libc::c_int = 1;

static HEADER_SIZE: libc::c_int = 12;

const _: () = assert!(HEADER_LEN == 12);

impl Port for Tap {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn readable(&mut self) {
        self.readable = true;
    }

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> io::Result<bool> {
        while self.readable {
            let mut parts = [IoSliceMut::new(frame.header.as_mut_bytes()), IoSliceMut::new(&mut self.buffer)];
            match self.file.read_vectored(&mut parts) {
                Ok(len) => {
                    let len = len.saturating_sub(HEADER_LEN);
                    // The host makes no such frame; what is shorter than its header is nothing.
                    if len >= MIN_FRAME_LEN {
                        frame.bytes.clear();
                        frame.bytes.extend_from_slice(&self.buffer[..len]);
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.readable = false;
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.file.write_vectored(&[IoSlice::new(header.as_bytes()), IoSlice::new(frame)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A TAP takes a frame whole or not at all.
                result => return result.map(|_| ()),
            }
        }
    }

    fn allow_open_checksums(&mut self, allow: bool) -> io::Result<()> {
        let offload = if allow { libc::TUN_F_CSUM.cast_signed() } else { 0 };
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        unsafe { tun_set_offload(self.file.as_raw_fd(), offload) }
            .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", self.name)))?;
        Ok(())
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
    fn a_missing_or_forbidden_device_is_explained() {
        let missing = OpenError::Device(io::Error::from_raw_os_error(libc::ENOENT)).to_string();
        assert!(missing.contains(DEVICE) && missing.contains("no TUN/TAP driver"), "{missing}");
        let busy = OpenError::Attach { name: "t0".into(), source: io::Error::from_raw_os_error(libc::EBUSY) };
        assert_eq!(busy.to_string(), "Cannot attach to TAP interface t0: another process uses it");
    }
}

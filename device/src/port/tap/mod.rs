// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A TAP interface of the host as the port.
//!
//! The interface may be deleted while the device uses it. Its name is then looked for from time to
//! time, and the interface attached to again when it is back; what the guest sends meanwhile is
//! lost, and counted.

mod error;
mod interface;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use zerocopy::IntoBytes as _;

pub use error::{Obstacle, OpenError};
pub use interface::{NameError, TapName};

use self::interface::Interface;
use super::Port;
use crate::frame::{Frame, HEADER_LEN, MAX_FRAME_LEN, MIN_FRAME_LEN, NetHeader};
use tsnic_core::time::Instant;

const DEVICE: &str = "/dev/net/tun";

/// Between two looks for an interface that was deleted.
const RETRY: Duration = Duration::from_millis(200);

nix::ioctl_write_ptr_bad!(
    /// Attaches the open file to an interface.
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);
nix::ioctl_read_bad!(
    /// Tells which interface the open file is attached to.
    tun_get_iff,
    libc::TUNGETIFF,
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
nix::ioctl_write_ptr_bad!(
    /// Whether the queue of the open file takes part.
    tun_set_queue,
    libc::TUNSETQUEUE,
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// What frames handed to this process may leave open.
    tun_set_offload,
    libc::TUNSETOFFLOAD
);

/// An open TAP interface. It ends with the process unless it was made persistent by somebody else.
#[derive(Debug)]
pub struct Tap {
    name: TapName,
    queues: Queues,
    file: File,
    /// Readable when the file is. The file is another after each attachment, this is what outlives
    /// it.
    event: Epoll,
    /// The interface is gone.
    detached: Option<Detached>,
    /// Where a frame of unknown length is read to: zeroed once, not for each of them.
    buffer: Box<[u8]>,
    /// Frames may be waiting.
    readable: bool,
    /// Received frames may have open checksums.
    open_checksums: bool,
}

/// Whether it is a queue among several, and takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queues {
    One,
    Several { active: bool },
}

#[derive(Debug)]
struct Detached {
    reason: String,
    /// When the interface is looked for. The start of the clock: at once.
    retry_at: Instant,
}

impl Tap {
    /// Attaches to the interface, which is made when it does not exist. Setting it up is left to
    /// the caller.
    ///
    /// # Errors
    /// When the host refuses, with advice.
    pub fn open(name: &TapName) -> Result<Self, OpenError> {
        Self::open_queue(name, Queues::One)
    }

    /// The same with `count` queues, of which the first takes part from the start, and the others
    /// when they are told to.
    ///
    /// # Errors
    /// When the host refuses, with advice.
    pub fn open_queues(name: &TapName, count: u16) -> Result<Vec<Self>, OpenError> {
        (0..count)
            .map(|queue| Self::open_queue(name, Queues::Several { active: queue == 0 }))
            .collect()
    }

    fn open_queue(name: &TapName, queues: Queues) -> Result<Self, OpenError> {
        let event = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| OpenError::Watch(error.into()))?;
        // A persistent interface remembers what the process before this one allowed, segmentation
        // perhaps.
        let open_checksums = false;
        let file = attach(name, queues, &event, open_checksums)?;
        let buffer = vec![0; MAX_FRAME_LEN].into_boxed_slice();
        Ok(Self {
            name: name.clone(),
            queues,
            file,
            event,
            detached: None,
            buffer,
            readable: true,
            open_checksums,
        })
    }

    /// The file is attached to no interface any more.
    fn detach(&mut self) {
        self.readable = false;
        self.detached =
            Some(Detached { reason: deleted(&self.name), retry_at: Instant::default() });
    }

    /// An answer of the kernel that says that the interface is gone: EBADFD, and EFAULT to a read
    /// that was under way.
    fn is_gone(&self, error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EFAULT))
            && !is_attached(&self.file)
    }

    fn try_to_attach(&mut self, now: Instant) {
        let Some(detached) = &mut self.detached else { return };
        detached.retry_at = now.plus(RETRY);
        // Making an interface that somebody has deleted is not for the device to do.
        if !self.name.exists() {
            detached.reason = deleted(&self.name);
            return;
        }
        match attach(&self.name, self.queues, &self.event, self.open_checksums) {
            Ok(file) => {
                self.file = file;
                self.detached = None;
                self.readable = true;
            }
            Err(error) => detached.reason = error.to_string(),
        }
    }
}

fn deleted(name: &TapName) -> String {
    format!("TAP interface {name} was deleted")
}

/// Opens a file, attaches it to the interface, and adds it to `event`, which it leaves when it is
/// closed.
fn attach(
    name: &TapName,
    queues: Queues,
    event: &Epoll,
    open_checksums: bool,
) -> Result<File, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)
        .map_err(OpenError::Device)?;
    let multi_queue = queues != Queues::One;
    let several = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several;
    let request = ifreq(name.as_ifr_name(), flags);
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNSETIFF reads and writes one `ifreq` there and nothing beyond it; the pointer is to one
    //    that lives until the call returns. It is written to a copy of nobody's, for it is not used
    //    afterwards.
    // 3. The name in it ends in a zero, as `as_ifr_name` promises.
    unsafe { tun_set_iff(file.as_raw_fd(), &raw const request) }.map_err(|error| {
        let source = io::Error::from(error);
        // What cannot be looked up stays unknown: the kernel's answer is shown in any case.
        let obstacle = Interface::look_up(name).map_or(Obstacle::Unknown, |interface| {
            Obstacle::of(&source, interface.as_ref(), multi_queue)
        });
        OpenError::Attach { name: name.clone(), obstacle, source }
    })?;
    let set = |what| {
        move |error: nix::Error| OpenError::Set { what, name: name.clone(), source: error.into() }
    };
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNSETVNETHDRSZ reads one int from the pointer, which is to a static one.
    unsafe { tun_set_vnet_hdr_sz(file.as_raw_fd(), &raw const HEADER_SIZE) }
        .map_err(set("the header length"))?;
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNSETVNETLE reads one int from the pointer, which is to a static one.
    unsafe { tun_set_vnet_le(file.as_raw_fd(), &raw const ONE) }
        .map_err(set("the header's byte order"))?;
    set_offloads(&file, open_checksums).map_err(set("the offloads"))?;
    if queues == (Queues::Several { active: false }) {
        set_active(&file, false).map_err(set("the queue"))?;
    }
    event
        .add(&file, EpollEvent::new(EpollFlags::EPOLLIN, 0))
        .map_err(|error| OpenError::Watch(error.into()))?;
    Ok(file)
}

fn set_offloads(file: &File, open_checksums: bool) -> nix::Result<()> {
    let offload = if open_checksums { libc::TUN_F_CSUM.cast_signed() } else { 0 };
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNSETOFFLOAD takes its argument by value.
    unsafe { tun_set_offload(file.as_raw_fd(), offload) }.map(|_| ())
}

/// Lets the queue of the file take part, or not: the kernel then chooses among the others, and
/// discards what waits in this one.
fn set_active(file: &File, active: bool) -> nix::Result<()> {
    let flags = if active { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    let request = ifreq([0; libc::IFNAMSIZ], flags);
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNSETQUEUE reads one `ifreq` from the pointer, which is to one that lives until the call
    //    returns.
    unsafe { tun_set_queue(file.as_raw_fd(), &raw const request) }.map(|_| ())
}

const fn ifreq(ifr_name: [libc::c_char; libc::IFNAMSIZ], flags: libc::c_int) -> libc::ifreq {
    let ifru_flags = flags as libc::c_short;
    libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags } }
}

fn is_attached(file: &File) -> bool {
    let mut answer = ifreq([0; libc::IFNAMSIZ], 0);
    // SAFETY:
    // 1. The descriptor is that of an open TUN file.
    // 2. TUNGETIFF writes one `ifreq` there; the pointer is to one, which nothing else refers to
    //    during the call.
    unsafe { tun_get_iff(file.as_raw_fd(), &raw mut answer) }.is_ok()
}

static ONE: libc::c_int = 1;

static HEADER_SIZE: libc::c_int = 12;

const _: () = assert!(HEADER_LEN == 12);

impl Port for Tap {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event.0.as_fd())
    }

    fn readable(&mut self) {
        self.readable = true;
    }

    fn poll(&mut self, now: Instant) {
        match &self.detached {
            None if !is_attached(&self.file) => self.detach(),
            None => return,
            Some(_) => {}
        }
        if self.due().is_some_and(|due| due <= now) {
            self.try_to_attach(now);
        }
    }

    fn detached(&self) -> Option<&str> {
        self.detached.as_ref().map(|detached| detached.reason.as_str())
    }

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        while self.readable && self.detached.is_none() {
            let mut parts =
                [IoSliceMut::new(frame.header.as_mut_bytes()), IoSliceMut::new(&mut self.buffer)];
            match self.file.read_vectored(&mut parts) {
                Ok(len) => {
                    let len = len.saturating_sub(HEADER_LEN);
                    // The host makes no such frame; what is shorter than its header is nothing.
                    if len >= MIN_FRAME_LEN {
                        frame.bytes.clear();
                        frame.bytes.extend_from_slice(&self.buffer[..len]);
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.is_gone(&error) => self.detach(),
                // EAGAIN, or what the kernel says of one frame: the next event tells of more.
                Err(_) => self.readable = false,
            }
        }
        false
    }

    fn due(&self) -> Option<Instant> {
        self.detached.as_ref().map(|detached| detached.retry_at)
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.file.write_vectored(&[IoSlice::new(header.as_bytes()), IoSlice::new(frame)])
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A TAP takes a frame whole or not at all.
                Ok(_) => return Ok(()),
                Err(error) => {
                    if self.detached.is_none() && self.is_gone(&error) {
                        self.detach();
                    }
                    return Err(error);
                }
            }
        }
    }

    fn set_active(&mut self, on: bool) -> io::Result<()> {
        let Queues::Several { active } = &mut self.queues else { return Ok(()) };
        if std::mem::replace(active, on) == on || self.detached.is_some() {
            return Ok(());
        }
        set_active(&self.file, on).map_err(io::Error::from)
    }

    fn allow_open_checksums(&mut self, allow: bool) -> io::Result<()> {
        self.open_checksums = allow;
        if self.detached.is_some() {
            return Ok(());
        }
        set_offloads(&self.file, allow).map_err(|error| {
            io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", self.name))
        })
    }
}

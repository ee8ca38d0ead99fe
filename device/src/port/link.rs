// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cable to another device: a Unix socket on which each frame is a message, offload header first.
//!
//! Both devices name the same path. The first one listens there, the second one connects, and so it
//! stays while they live: whichever is started again finds the other. What is sent while nobody is
//! at the other end, or faster than it takes it, is lost, and counted.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{SockType, setsockopt, sockopt};
use thiserror::Error;
use tsnic_core::time::Instant;
use zerocopy::IntoBytes as _;

use super::Port;
use crate::frame::{Frame, HEADER_LEN, MAX_FRAME_LEN, MIN_FRAME_LEN, NetHeader};
use crate::socket::{ListeningSocket, SocketError, connect_to};

#[cfg(test)]
mod tests;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes on their way, bookkeeping included: some hundred frames, as a NIC's own buffer has.
const BUFFER: usize = 4 << 20;

/// Attempts to be the first or the second one, when both are started at the same time.
const OPEN_TRIES: u32 = 3;

/// Why a link could not be opened.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Its socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// It cannot be connected to, and not be listened on.
    #[error("Cannot connect to link {}", .path.display())]
    Connect {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its events.
    #[error("Cannot watch for frames")]
    Watch(#[source] io::Error),
}

/// One end of the cable.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    /// `None` for the one that connects.
    listener: Option<ListeningSocket>,
    peer: Option<UnixStream>,
    /// Readable when the peer, or the listener, is.
    event: Epoll,
    /// Why nobody is at the other end.
    detached: Option<String>,
    /// When the one that connects tries it again.
    retry_at: Instant,
    buffer: Box<[u8]>,
    /// Frames, or a peer, may be waiting.
    readable: bool,
}

impl Link {
    /// The end of pair `pair` of a device: pairs other than the first one have `.N` behind the path.
    ///
    /// # Errors
    /// When the path is too long, something else is there, or the host refuses.
    pub fn open(path: &Path, pair: u16) -> Result<Self, LinkError> {
        let mut path = path.to_owned();
        if pair != 0 {
            path.as_mut_os_string().push(format!(".{pair}"));
        }
        let event = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| LinkError::Watch(error.into()))?;
        let buffer = vec![0; MAX_FRAME_LEN].into_boxed_slice();
        let mut link = Self {
            path,
            listener: None,
            peer: None,
            event,
            detached: None,
            retry_at: Instant::default(),
            buffer,
            readable: true,
        };
        for _ in 0..OPEN_TRIES {
            match connect_to(&link.path, SockType::SeqPacket) {
                Ok(peer) => {
                    link.attach(peer).map_err(LinkError::Watch)?;
                    return Ok(link);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                    ) => {}
                Err(source) => return Err(LinkError::Connect { path: link.path, source }),
            }
            match ListeningSocket::bind_as(&link.path, SockType::SeqPacket) {
                Ok(listener) => {
                    link.watch(listener.listener()).map_err(LinkError::Watch)?;
                    link.listener = Some(listener);
                    link.detach(None);
                    return Ok(link);
                }
                // The other one was quicker.
                Err(SocketError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(SocketError::Busy { path: link.path }.into())
    }

    fn watch(&self, socket: impl std::os::fd::AsFd) -> io::Result<()> {
        Ok(self.event.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?)
    }

    fn attach(&mut self, peer: UnixStream) -> io::Result<()> {
        peer.set_nonblocking(true)?;
        // The host may allow less.
        let _ = setsockopt(&peer, sockopt::SndBuf, &BUFFER);
        self.watch(&peer)?;
        self.peer = Some(peer);
        (self.detached, self.readable) = (None, true);
        Ok(())
    }

    /// Nobody is at the other end. A socket leaves the events when it is closed.
    fn detach(&mut self, error: Option<&io::Error>) {
        let hung_up = self.peer.take().is_some();
        let path = self.path.display();
        let why = match (error, hung_up) {
            (Some(error), _) => format!("link {path}: {error}"),
            (None, true) => format!("the device at the other end of link {path} has left"),
            (None, false) => format!("no other device has connected to link {path} yet"),
        };
        self.detached = Some(why);
    }

    /// Lets another device in, or hangs up on one that is too many. Whether there was one.
    fn accept(&mut self) -> bool {
        let Some(Ok((peer, _))) = self.listener.as_ref().map(|it| it.listener().accept()) else {
            return false;
        };
        if self.peer.is_none()
            && let Err(error) = self.attach(peer)
        {
            self.detach(Some(&error));
        }
        true
    }

    fn try_to_connect(&mut self, now: Instant) {
        if self.listener.is_some() || self.peer.is_some() || now < self.retry_at {
            return;
        }
        self.retry_at = now.plus(RETRY);
        let peer = connect_to(&self.path, SockType::SeqPacket);
        if let Err(error) = peer.and_then(|peer| self.attach(peer)) {
            self.detach(Some(&error));
        }
    }

    /// The next message. `None` when none waits, or nobody is there.
    fn read(&mut self, header: &mut NetHeader) -> Option<usize> {
        loop {
            let mut parts =
                [IoSliceMut::new(header.as_mut_bytes()), IoSliceMut::new(&mut self.buffer)];
            match self.peer.as_mut()?.read_vectored(&mut parts) {
                Ok(0) => self.detach(None),
                Ok(len) => return Some(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => self.detach(Some(&error)),
            }
        }
    }
}

impl Port for Link {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.event.0))
    }

    fn readable(&mut self) {
        self.readable = true;
    }

    fn poll(&mut self, now: Instant) {
        while self.accept() {}
        self.try_to_connect(now);
    }

    fn detached(&self) -> Option<&str> {
        self.detached.as_deref()
    }

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        while self.readable {
            match self.read(&mut frame.header).map(|len| len.saturating_sub(HEADER_LEN)) {
                Some(len) if len >= MIN_FRAME_LEN => {
                    frame.bytes.clear();
                    frame.bytes.extend_from_slice(&self.buffer[..len]);
                    return true;
                }
                // Not a device's; there may be more.
                Some(_) => {}
                None => self.readable = self.accept(),
            }
        }
        false
    }

    fn due(&self) -> Option<Instant> {
        (self.peer.is_none() && self.listener.is_none()).then_some(self.retry_at)
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        loop {
            let Some(peer) = &mut self.peer else { return Err(io::ErrorKind::NotConnected.into()) };
            match peer.write_vectored(&[IoSlice::new(header.as_bytes()), IoSlice::new(frame)]) {
                // A message is taken whole or not at all.
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) {
                        self.detach(None);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        // The device completes those that its guest does not take.
        Ok(())
    }
}

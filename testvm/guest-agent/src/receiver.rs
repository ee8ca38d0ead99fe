// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A UDP receiver that does nothing but receive.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::socket::{Shutdown, setsockopt, shutdown};

use crate::error::Error;
use crate::sockopt::BusyPoll;
use crate::system;

/// The socket blocks with no time limit, and its thread makes no other system call between two
/// `recv`s: with `SO_BUSY_POLL` every `recv` polls the device queue, so any other wake-up (a
/// receive time limit, a signal) would find, and so hide, a lost packet.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    stopping: AtomicBool,
    received: AtomicU64,
}

impl Receiver {
    /// Starts to receive what `peer` sends to `local`, on one CPU.
    ///
    /// `busy_poll_us`: `SO_BUSY_POLL` in microseconds, 0: not set.
    ///
    /// # Errors
    /// An address is not ours or in use, no such CPU, no right to busy-poll.
    pub fn start(
        local: (Ipv4Addr, u16),
        peer: (Ipv4Addr, u16),
        busy_poll_us: u32,
        cpu: usize,
    ) -> Result<Self, Error> {
        let socket = UdpSocket::bind(local)
            .map_err(Error::call(format!("Cannot bind UDP port {}:{}", local.0, local.1)))?;
        // Connected, so that the socket learns its NAPI from the flow's packets and only from
        // those.
        socket
            .connect(peer)
            .map_err(Error::call(format!("Cannot connect to {}:{}", peer.0, peer.1)))?;
        set_busy_poll(&socket, busy_poll_us)?;
        let shared = Arc::new(Shared {
            socket,
            stopping: AtomicBool::new(false),
            received: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let thread = system::spawn_pinned("receiver", cpu, move || for_thread.run())?;
        Ok(Self { shared, thread })
    }

    /// Datagrams received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// Stops and says how many datagrams came. Needs no packet to come.
    ///
    /// # Errors
    /// The receiver had ended before.
    pub fn stop(self) -> Result<u64, Error> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the blocked recv, which then returns 0. Fails only if the socket is unusable, which
        // recv then tells.
        let _ = shutdown(self.shared.socket.as_raw_fd(), Shutdown::Both);
        let result = self.thread.join();
        let count = self.shared.received.load(Ordering::SeqCst);
        system::flatten(result).map(|()| count).map_err(|source| Error::Ended {
            who: "UDP receiver",
            count,
            source,
        })
    }
}

impl Shared {
    fn run(&self) -> io::Result<()> {
        let mut datagram = [0; 2048];
        loop {
            match self.socket.recv(&mut datagram) {
                // An empty datagram looks like the end of the stream; only `stopping` tells them
                // apart.
                Ok(_) if self.stopping.load(Ordering::SeqCst) => return Ok(()),
                Ok(_) => {
                    self.received.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.stopping.load(Ordering::SeqCst) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sets `SO_BUSY_POLL`, microseconds; 0 leaves the socket as it is.
pub(crate) fn set_busy_poll(
    socket: &impl std::os::fd::AsFd,
    busy_poll_us: u32,
) -> Result<(), Error> {
    if busy_poll_us == 0 {
        return Ok(());
    }
    let value = i32::try_from(busy_poll_us).unwrap_or(i32::MAX);
    setsockopt(socket, BusyPoll, &value)
        .map_err(Error::call(format!("Cannot set SO_BUSY_POLL to {value} us")))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RPC server: answers each request with the times at which it was seen.

use std::io::{self, ErrorKind, IoSliceMut, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use guest_protocol::clock::{monotonic_ns, timespec_ns};
use guest_protocol::frame::{REQUEST_LEN, ReplyFrame, RequestFrame};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, Timestamps, recvmsg,
    setsockopt, sockopt,
};
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::receiver::set_busy_poll;
use crate::system;

/// A server on its own thread: one connection after another, one request after another. A
/// connection that breaks ends only itself.
#[derive(Debug)]
pub struct RpcServer {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: TcpListener,
    busy_poll_us: u32,
    current: Mutex<Current>,
    served: AtomicU64,
}

/// Under one lock, so that a connection accepted while the server is being stopped cannot be
/// missed.
#[derive(Debug, Default)]
struct Current {
    stopping: bool,
    connection: Option<TcpStream>,
}

impl RpcServer {
    /// Listens on `local` and serves on one CPU.
    ///
    /// `busy_poll_us`: `SO_BUSY_POLL` of each connection in microseconds, 0: not set.
    ///
    /// # Errors
    /// The address is not ours or in use, no such CPU.
    pub fn start(local: (Ipv4Addr, u16), busy_poll_us: u32, cpu: usize) -> Result<Self, Error> {
        let listener = TcpListener::bind(local)
            .map_err(Error::call(format!("Cannot listen on TCP port {}:{}", local.0, local.1)))?;
        let shared = Arc::new(Shared {
            listener,
            busy_poll_us,
            current: Mutex::default(),
            served: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let thread = system::spawn_pinned("rpc-server", cpu, move || for_thread.run())?;
        Ok(Self { shared, thread })
    }

    /// The port, if `start` was given port 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.shared.listener.local_addr()?.port())
    }

    /// Stops, even in the middle of a connection, and says how many requests were answered.
    ///
    /// # Errors
    /// The server had ended before.
    pub fn stop(self) -> Result<u64, Error> {
        {
            let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.stopping = true;
            if let Some(connection) = &current.connection {
                // It may be closed already by the client: as good.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        // Makes a blocked accept return EINVAL. The thread ends by itself if it is not blocked
        // there.
        let _ = nix::sys::socket::shutdown(
            self.shared.listener.as_raw_fd(),
            nix::sys::socket::Shutdown::Both,
        );
        let result = self.thread.join();
        let count = self.shared.served.load(Ordering::SeqCst);
        system::flatten(result).map(|()| count).map_err(|source| Error::Ended {
            who: "RPC server",
            count,
            source,
        })
    }
}

impl Shared {
    fn run(&self) -> io::Result<()> {
        loop {
            let connection = match self.listener.accept() {
                Ok((connection, _)) => connection,
                Err(_) if self.is_stopping() => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                if current.stopping {
                    return Ok(());
                }
                current.connection = Some(connection.try_clone()?);
            }
            if let Err(error) = self.serve(&connection)
                && !self.is_stopping()
            {
                system::log(&format!("RPC connection: {error}"));
            }
            self.current.lock().unwrap_or_else(PoisonError::into_inner).connection = None;
        }
    }

    fn is_stopping(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).stopping
    }

    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let wanted = TimestampingFlag::SOF_TIMESTAMPING_RX_HARDWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RAW_HARDWARE;
        setsockopt(&connection, sockopt::Timestamping, &wanted)?;
        set_busy_poll(connection, self.busy_poll_us)
            .map_err(|error| io::Error::other(error.chain()))?;
        while let Some((request, hardware_ns)) = receive(connection)? {
            let received_ns = monotonic_ns();
            let request = RequestFrame::parse(request)
                .map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
            let reply = ReplyFrame::new(request.seq(), hardware_ns, received_ns, monotonic_ns());
            connection.write_all(reply.as_bytes())?;
            self.served.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Waits for a whole request; gives its bytes and its hardware timestamp, ns (0: none). `None` at
/// the end of the stream. The timestamp is that of the packet which made the request complete.
fn receive(connection: &TcpStream) -> io::Result<Option<([u8; REQUEST_LEN], u64)>> {
    let mut request = [0; REQUEST_LEN];
    let mut filled = 0;
    let mut hardware_ns = 0;
    let mut control = nix::cmsg_space!(Timestamps);
    while filled < request.len() {
        let mut parts = [IoSliceMut::new(&mut request[filled..])];
        let message = match recvmsg::<SockaddrStorage>(
            connection.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        ) {
            Ok(message) => message,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if message.bytes == 0 {
            return if filled == 0 { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        for item in message.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampsns(stamps) = item {
                hardware_ns = timespec_ns(stamps.hw_raw.tv_sec(), stamps.hw_raw.tv_nsec());
            }
        }
        filled += message.bytes;
    }
    Ok(Some((request, hardware_ns)))
}

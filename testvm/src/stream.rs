// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A long TCP stream between host and guest, each byte compared where it arrives.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guest_protocol::{Reply, Request, transfer};
use nix::sys::socket::{Shutdown, shutdown};
use thiserror::Error;

use crate::late::ran_out;
use crate::vm::{self, Vm};

/// Time for the agent to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// Time for the end of a stream that the agent has sent to its end, and for each part before.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// For an attempt to connect when the time is over.
const SHORTEST: Duration = Duration::from_millis(1);

/// The stream did not get through.
#[derive(Debug, Error)]
pub enum Error {
    /// The guest.
    #[error(transparent)]
    Vm(#[from] vm::Error),
    /// The host's end.
    #[error("The host's end of the transfer failed")]
    Host(#[from] io::Error),
    /// The agent said something else.
    #[error("The agent answered a transfer by {0}")]
    Reply(String),
}

impl Error {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match self {
            Self::Vm(error) => error.is_late(),
            Self::Host(error) => ran_out(error),
            Self::Reply(_) => false,
        }
    }
}

/// Sends the first `bytes` of [`transfer`]'s stream to the agent's `port`, by what `pace` makes of
/// the connection; how many came, all of which were right.
///
/// # Errors
/// The stream broke, a byte was wrong, or there was no more of it in time: within `limit` for all
/// of it, and within the agent's own limit for each part.
pub fn inwards<W: Write>(
    vm: &mut Vm,
    port: u16,
    bytes: u64,
    limit: Duration,
    pace: impl FnOnce(TcpStream) -> W + Send + 'static,
) -> Result<u64, Error> {
    let guest = vm.link().guest_ip;
    let listen_limit = vm.limit(LISTEN_LIMIT);
    let sender = spawn("sender", move || {
        let deadline = Instant::now() + listen_limit;
        let stream = loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST);
            // The agent listens as soon as it has the request.
            match TcpStream::connect_timeout(&(guest, port).into(), left) {
                Ok(stream) => break stream,
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error),
            }
        };
        transfer::send(&mut pace(stream), bytes)
    })?;
    let received = vm.ask_within(&Request::TransferReceive { local: (guest, port) }, limit)?;
    join(sender)?;
    match received {
        Reply::Count { count } => Ok(count),
        other => Err(Error::Reply(format!("{other:?}"))),
    }
}

/// The same in the other direction: the agent sends, to this `port` of the host; how many came, all
/// of which were right.
///
/// # Errors
/// As [`inwards`].
pub fn outwards(vm: &mut Vm, port: u16, bytes: u64, limit: Duration) -> Result<u64, Error> {
    let host = vm.link().host_ip;
    let listener = TcpListener::bind((host, port))?;
    let listening = listener.try_clone()?;
    let read_limit = vm.limit(READ_LIMIT);
    let receiver = spawn("receiver", move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(read_limit))?;
        transfer::receive(&mut stream)
    })?;
    let sent = vm.ask_within(&Request::TransferSend { peer: (host, port), bytes }, limit);
    if sent.is_err() {
        // The receiver may have nobody to accept, and must not keep the port. Fails if it has gone.
        let _ = shutdown(listening.as_raw_fd(), Shutdown::Both);
    }
    sent?;
    Ok(join(receiver)?)
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn join<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

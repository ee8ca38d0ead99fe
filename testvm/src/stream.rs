// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A long TCP stream between host and guest, each byte compared where it arrives.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guest_protocol::{Reply, Request, transfer};
use thiserror::Error;

use crate::vm::{self, Vm};

/// Time for the agent to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

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

/// Sends the first `bytes` of [`transfer`]'s stream to the agent's `port`, by what `pace` makes of
/// the connection; how many came, all of which were right.
///
/// # Errors
/// The stream broke, a byte was wrong, or `limit` passed.
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
            // The agent listens as soon as it has the request.
            match TcpStream::connect((guest, port)) {
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
    let receiver = spawn("receiver", move || transfer::receive(&mut listener.accept()?.0))?;
    vm.ask_within(&Request::TransferSend { peer: (host, port), bytes }, limit)?;
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

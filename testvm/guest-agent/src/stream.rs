// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Long TCP streams. A peer that does not come, or does not go on, is waited for as long as
//! [`crate::limit`] says, and not for ever: the agent has to answer the next request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use guest_protocol::transfer;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::error::Error;
use crate::limit;

/// For the peer: to connect, and to send or to take more. Less than testvm waits for the agent.
const LIMIT: Duration = Duration::from_secs(20);

/// Accepts one connection and reads [`transfer`]'s stream to its end; the number of its bytes.
///
/// # Errors
/// The address is not ours or in use, a byte is wrong, or the peer does not come or go on.
pub fn receive(local: (Ipv4Addr, u16)) -> Result<u64, Error> {
    let what = format!("Cannot listen on TCP port {}:{}", local.0, local.1);
    let listener = TcpListener::bind(local).map_err(Error::call(what))?;
    receive_within(&listener, local, limit::scaled(LIMIT))
}

fn receive_within(
    listener: &TcpListener,
    (ip, port): (Ipv4Addr, u16),
    limit: Duration,
) -> Result<u64, Error> {
    let what = |what: &str| format!("{what} TCP port {ip}:{port}");
    let micros = TimeVal::microseconds(limit.as_micros().try_into().unwrap_or(i64::MAX));
    // That of accept, too.
    setsockopt(listener, sockopt::ReceiveTimeout, &micros)
        .map_err(Error::call(what("Cannot set a time limit on")))?;
    let (mut stream, _) = listener.accept().map_err(failed(what("No connection to"), limit))?;
    stream
        .set_read_timeout(Some(limit))
        .map_err(Error::call(what("Cannot set a time limit on")))?;
    transfer::receive(&mut stream).map_err(failed(what("Nothing more received on"), limit))
}

/// Connects and sends the first `bytes` of [`transfer`]'s stream.
///
/// # Errors
/// Nobody listens, the connection breaks, or the peer does not answer or go on.
pub fn send(peer: (Ipv4Addr, u16), bytes: u64) -> Result<(), Error> {
    send_within(peer, bytes, limit::scaled(LIMIT))
}

fn send_within(peer: (Ipv4Addr, u16), bytes: u64, limit: Duration) -> Result<(), Error> {
    let what = |what: &str| format!("{what} TCP port {}:{}", peer.0, peer.1);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(peer), limit)
        .map_err(failed(what("No connection to"), limit))?;
    stream
        .set_write_timeout(Some(limit))
        .map_err(Error::call(what("Cannot set a time limit on")))?;
    transfer::send(&mut stream, bytes).map_err(failed(what("Nothing more taken by"), limit))
}

/// For `map_err` on what waits for the peer.
fn failed(what: String, limit: Duration) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        // What Linux calls a time limit of a socket that has passed, and what Rust and TCP do.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::TimeLimit { what, limit_ms: limit.as_millis() }
        }
        _ => Error::Call { what, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_late_is_told_from_a_connection_that_broke() {
        let limit = Duration::from_secs(2);
        let told = |kind: io::ErrorKind| failed("Nothing came".into(), limit)(kind.into());
        for late in [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut] {
            let error = told(late);
            assert!(error.is_late(), "{late:?}");
            assert_eq!(error.chain(), "Nothing came within 2000 ms");
        }
        for broken in [io::ErrorKind::ConnectionReset, io::ErrorKind::InvalidData] {
            assert!(!told(broken).is_late(), "{broken:?}");
        }
    }

    #[test]
    fn nobody_is_waited_for_for_ever() -> io::Result<()> {
        let limit = Duration::from_millis(50);
        let late = |error: Error| {
            assert!(error.is_late(), "{error:?}");
            error.chain()
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let here = (Ipv4Addr::LOCALHOST, listener.local_addr()?.port());
        let receive = || receive_within(&listener, here, limit).expect_err("nothing is sent");
        let text = late(receive());
        assert_eq!(text, format!("No connection to TCP port 127.0.0.1:{} within 50 ms", here.1));
        let silent = TcpStream::connect(here)?;
        let text = late(receive());
        assert!(text.starts_with("Nothing more received on TCP port 127.0.0.1:"), "{text}");
        drop(silent);
        // More than the sockets hold.
        let text = late(send_within(here, 1 << 30, limit).expect_err("nobody reads"));
        assert!(text.starts_with("Nothing more taken by TCP port 127.0.0.1:"), "{text}");
        drop(listener);
        let refused = send_within(here, 1, limit).expect_err("nobody listens");
        assert!(!refused.is_late(), "{refused:?}");
        Ok(())
    }
}

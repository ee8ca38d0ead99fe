// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--metrics`: the state of the device for Prometheus, over HTTP.
//!
//! A thread of its own answers one reader at a time. It learns the state as any client of the
//! control socket does, so it takes nothing of the data path but what such a client takes.

mod encode;
mod http;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, warn};
use tsnic_protocol::{PairRequest, Reply, Request, Status};

use crate::ask::{AskError, Device};
use crate::socket::{ListeningSocket, SocketError};

/// How long a reader may take for its request, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that could not be accepted is not tried again before this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where readers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of this host.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is none of PORT, ADDRESS:PORT and a path with a slash")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    /// A port alone is one of the loopback interface: who wants others to read says so.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        port.or_else(|_| text.parse()).map(Self::Tcp).map_err(|_| AddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}/metrics"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The Unix socket.
    #[error("Cannot serve metrics")]
    Socket(#[from] SocketError),
    /// The address.
    #[error("Cannot serve metrics on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The host refused something else.
    #[error("Cannot serve metrics")]
    Host(#[from] io::Error),
}

enum Listener {
    Tcp(TcpListener),
    /// Its file is removed by whoever has the socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A listener that is bound, and not served yet.
pub struct Metrics {
    listener: Listener,
    address: Address,
    socket: Option<ListeningSocket>,
}

impl Metrics {
    /// Listens.
    ///
    /// # Errors
    /// When the address is in use, or the host refuses.
    pub fn listen(address: &Address) -> Result<Self, MetricsError> {
        match address {
            Address::Tcp(wanted) => {
                let listen = || {
                    let listener = TcpListener::bind(wanted)?;
                    // Port 0 is one that the host chooses.
                    let address = Address::Tcp(listener.local_addr()?);
                    Ok(Self { listener: Listener::Tcp(listener), address, socket: None })
                };
                listen().map_err(|source| MetricsError::Listen { address: *wanted, source })
            }
            Address::Unix(path) => {
                let socket = ListeningSocket::bind(path)?;
                let listener = socket.listener().try_clone()?;
                listener.set_nonblocking(false)?;
                let listener = Listener::Unix(listener);
                Ok(Self { listener, address: address.clone(), socket: Some(socket) })
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Serves readers, in a thread, until the process ends. `control` is the other end of a client
    /// of the control server, and `pairs` how many queue pairs there are. What is returned removes
    /// the Unix socket's file, if there is one.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn serve(
        self,
        control: UnixStream,
        pairs: u16,
    ) -> Result<Option<ListeningSocket>, MetricsError> {
        let source = Source { control: Device::from(control), pairs };
        let listener = self.listener;
        let run = move || match listener {
            Listener::Tcp(listener) => serve(source, || {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            }),
            Listener::Unix(listener) => serve(source, || {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            }),
        };
        thread::Builder::new().name("metrics".into()).spawn(run)?;
        Ok(self.socket)
    }
}

fn serve<S: Read + Write>(mut source: Source, mut accept: impl FnMut() -> io::Result<S>) {
    let mut refused = false;
    loop {
        match accept() {
            Ok(mut stream) => {
                refused = false;
                if let Err(error) = http::answer(&mut stream, PATIENCE, || source.text()) {
                    debug!("A reader of metrics is gone: {error}");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    warn!("Cannot accept a reader of metrics: {error}");
                }
                thread::sleep(ACCEPT_AGAIN);
            }
        }
    }
}

/// The device, as a client of its own control server.
struct Source {
    control: Device,
    pairs: u16,
}

impl Source {
    fn text(&mut self) -> Result<String, AskError> {
        let statuses: Result<Vec<_>, _> = (0..self.pairs).map(|pair| self.status(pair)).collect();
        Ok(encode::text(&statuses?))
    }

    fn status(&mut self, pair: u16) -> Result<Status, AskError> {
        match self.control.ask(&PairRequest { pair, request: Request::Status })? {
            Reply::Status(status) => Ok(*status),
            _ => Err(io::Error::other("it is no status").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_the_loopback_interface() {
        for (text, expected) in [
            ("9100", Some("http://127.0.0.1:9100/metrics")),
            ("0.0.0.0:9100", Some("http://0.0.0.0:9100/metrics")),
            ("[::1]:9100", Some("http://[::1]:9100/metrics")),
            ("./m.sock", Some("./m.sock")),
            ("70000", None),
            ("host:9100", None),
            ("m.sock", None),
        ] {
            let address = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(address.as_deref().ok(), expected, "{text}");
        }
    }
}

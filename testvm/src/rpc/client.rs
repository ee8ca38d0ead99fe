// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The client: one connection, one request after another, and never for ever.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use guest_protocol::clock::monotonic_ns;
use guest_protocol::frame::{FrameError, REPLY_LEN, ReplyFrame, RequestFrame};
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use zerocopy::IntoBytes;

use super::time::{Exchange, GuestNs, HostNs};
use crate::late::ran_out;

/// As much of `struct tcp_info` as Linux has had since 4.6 (`include/uapi/linux/tcp.h`). libc's is
/// that of the newest kernel, and nix wants all of a structure filled, which an older kernel does
/// not do; a newer one leaves out what there is no room for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    _state_and_options: [u8; 8],
    _rto_to_rcv_space: [u32; 23],
    total_retrans: u32,
    _rates_and_bytes: [u64; 4],
    _segments: [u32; 4],
    data_segs_in: u32,
    _data_segs_out: u32,
}

sockopt_impl!(
    /// `TCP_INFO`: what the kernel knows about a connection.
    TcpInfoOption,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfo
);

/// A run of requests.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The server in the guest.
    pub server: SocketAddrV4,
    /// Requests.
    pub requests: u32,
    /// Seed of the think times.
    pub seed: u64,
    /// Time between a reply and the next request: uniform between these, microseconds.
    pub think_us: (u32, u32),
    /// For the whole run. A dead guest is an error when this is over, not a hang.
    pub limit: Duration,
}

/// Why a run of requests ended early.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("Cannot connect to the RPC server {server}")]
    Connect {
        /// Its address.
        server: SocketAddrV4,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("Request {seq} of {total}: the connection broke")]
    Broken {
        /// The request, from 0.
        seq: u32,
        /// Requests asked for.
        total: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The time limit passed.
    #[error("Request {seq} of {total}: no reply, and the {} s for all requests are over", limit.as_secs_f64())]
    TimeLimit {
        /// The request, from 0.
        seq: u32,
        /// Requests asked for.
        total: u32,
        /// The limit.
        limit: Duration,
    },
    /// The reply is no reply.
    #[error("Request {seq}: the reply is not one")]
    Frame {
        /// The request, from 0.
        seq: u32,
        /// What came.
        #[source]
        source: FrameError,
    },
    /// The reply is that of another request.
    #[error("Request {seq}: the reply is that of request {got}")]
    WrongReply {
        /// The request, from 0.
        seq: u32,
        /// The number in the reply.
        got: u32,
    },
}

impl ClientError {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match self {
            Self::TimeLimit { .. } => true,
            Self::Connect { source, .. } => ran_out(source),
            _ => false,
        }
    }
}

/// Sends all requests, each after the reply to the one before; tells `progress` how many replies
/// have come.
///
/// # Errors
/// The first request that got no proper reply. Nothing is tried again: TCP has done that already.
pub fn run(
    config: &ClientConfig,
    mut progress: impl FnMut(u32),
) -> Result<Vec<Exchange>, ClientError> {
    let mut exchanges = Vec::new();
    converse(config, |exchange| {
        exchanges.push(exchange);
        progress(exchange.seq + 1);
        ControlFlow::Continue(())
    })?;
    Ok(exchanges)
}

/// The same, until `each` has heard enough.
///
/// # Errors
/// As [`run`].
pub fn converse(
    config: &ClientConfig,
    mut each: impl FnMut(Exchange) -> ControlFlow<()>,
) -> Result<(), ClientError> {
    let ClientConfig { server, requests: total, think_us: (think_min, think_max), limit, .. } =
        *config;
    let deadline = Instant::now() + limit;
    let connect = |source| ClientError::Connect { server, source };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(server), limit).map_err(connect)?;
    stream.set_nodelay(true).map_err(connect)?;
    let mut random = Pcg64Mcg::seed_from_u64(config.seed);
    let mut info = getsockopt(&stream, TcpInfoOption).map_err(|errno| connect(errno.into()))?;
    for seq in 0..total {
        let think = random.random_range(think_min..=think_max.max(think_min));
        std::thread::sleep(Duration::from_micros(u64::from(think)));
        let late = || ClientError::TimeLimit { seq, total, limit };
        let left = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(late)?;
        let (sent, reply, returned) = ask(&mut stream, seq, left).map_err(|source| {
            if ran_out(&source) { late() } else { ClientError::Broken { seq, total, source } }
        })?;
        let reply =
            ReplyFrame::parse(reply).map_err(|source| ClientError::Frame { seq, source })?;
        if reply.seq() != seq {
            return Err(ClientError::WrongReply { seq, got: reply.seq() });
        }
        let before = info;
        info = getsockopt(&stream, TcpInfoOption).map_err(|errno| ClientError::Broken {
            seq,
            total,
            source: errno.into(),
        })?;
        let exchange = Exchange {
            seq,
            retransmitted: info.total_retrans != before.total_retrans,
            // One segment is the reply itself.
            reply_repeated: info.data_segs_in.wrapping_sub(before.data_segs_in) > 1,
            sent,
            arrived: reply.hardware_ns().map(HostNs),
            received: GuestNs(reply.received_ns()),
            replied: GuestNs(reply.sending_ns()),
            returned,
        };
        if each(exchange).is_break() {
            break;
        }
    }
    Ok(())
}

/// One request and its reply, with the times just before the one and just after the other.
fn ask(
    stream: &mut TcpStream,
    seq: u32,
    left: Duration,
) -> io::Result<(HostNs, [u8; REPLY_LEN], HostNs)> {
    stream.set_read_timeout(Some(left))?;
    let mut reply = [0; REPLY_LEN];
    let sent = HostNs(monotonic_ns());
    stream.write_all(RequestFrame::new(seq).as_bytes())?;
    stream.read_exact(&mut reply)?;
    Ok((sent, reply, HostNs(monotonic_ns())))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use guest_protocol::frame::REQUEST_LEN;

    use super::*;

    /// A server that answers request number n with what `answer` makes of n, and stops answering at
    /// `None`.
    fn server(
        answer: impl Fn(u32) -> Option<ReplyFrame> + Send + 'static,
    ) -> io::Result<SocketAddrV4> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut request = [0; REQUEST_LEN];
            while stream.read_exact(&mut request).is_ok() {
                let seq = RequestFrame::parse(request).map_err(io::Error::other)?.seq();
                if let Some(reply) = answer(seq) {
                    stream.write_all(reply.as_bytes())?;
                }
            }
            Ok(())
        });
        Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    fn config(server: SocketAddrV4, requests: u32) -> ClientConfig {
        ClientConfig {
            server,
            requests,
            seed: 1,
            think_us: (0, 50),
            limit: Duration::from_secs(20),
        }
    }

    #[test]
    fn each_request_has_its_times() -> Result<(), Box<dyn std::error::Error>> {
        let server =
            server(|seq| Some(ReplyFrame::new(seq, monotonic_ns(), 100 + u64::from(seq), 200)))?;
        let mut seen = 0;
        let exchanges = run(&config(server, 25), |done| seen = done)?;
        assert_eq!((exchanges.len(), seen), (25, 25));
        for (seq, exchange) in (0..).zip(&exchanges) {
            assert_eq!((exchange.seq, exchange.received), (seq, GuestNs(100 + u64::from(seq))));
            assert!(
                !exchange.retransmitted && !exchange.reply_repeated,
                "loopback loses nothing: {exchange:?}"
            );
            let arrived = exchange.arrived.ok_or("no timestamp")?;
            assert!(exchange.sent <= arrived && arrived <= exchange.returned, "{exchange:?}");
        }
        Ok(())
    }

    #[test]
    fn a_conversation_ends_when_enough_was_heard() -> Result<(), Box<dyn std::error::Error>> {
        let server = server(|seq| Some(ReplyFrame::new(seq, 1, 1, 1)))?;
        let mut heard = 0;
        converse(&config(server, 25), |exchange| {
            heard += 1;
            if exchange.seq == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert_eq!(heard, 4);
        Ok(())
    }

    #[test]
    fn no_timestamp_is_none_not_zero() -> Result<(), Box<dyn std::error::Error>> {
        let server = server(|seq| Some(ReplyFrame::new(seq, 0, 1, 2)))?;
        assert!(run(&config(server, 2), |_| {})?.iter().all(|exchange| exchange.arrived.is_none()));
        Ok(())
    }

    #[test]
    fn a_server_that_falls_silent_is_an_error_in_time() -> Result<(), Box<dyn std::error::Error>> {
        let server = server(|seq| (seq < 3).then(|| ReplyFrame::new(seq, 1, 1, 1)))?;
        let begin = Instant::now();
        let limit = Duration::from_millis(300);
        let result = run(&ClientConfig { limit, ..config(server, 10) }, |_| {});
        let error = result.expect_err("no reply");
        assert!(matches!(error, ClientError::TimeLimit { seq: 3, total: 10, .. }), "{error:?}");
        assert!(error.is_late());
        assert!(begin.elapsed() < Duration::from_secs(10));
        Ok(())
    }

    #[test]
    fn the_limit_holds_for_all_requests_together() -> Result<(), Box<dyn std::error::Error>> {
        let server = server(|seq| {
            thread::sleep(Duration::from_millis(100));
            Some(ReplyFrame::new(seq, 1, 1, 1))
        })?;
        let result = run(
            &ClientConfig { limit: Duration::from_millis(450), ..config(server, 1000) },
            |_| {},
        );
        assert!(matches!(result, Err(ClientError::TimeLimit { seq: 1..=4, .. })), "{result:?}");
        Ok(())
    }

    #[test]
    fn wrong_replies_are_named() -> Result<(), Box<dyn std::error::Error>> {
        let result = run(&config(server(|_| Some(ReplyFrame::new(7, 1, 1, 1)))?, 1), |_| {});
        assert!(matches!(result, Err(ClientError::WrongReply { seq: 0, got: 7 })), "{result:?}");
        Ok(())
    }

    #[test]
    fn nobody_listening_is_named() -> Result<(), Box<dyn std::error::Error>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let result = run(&config(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), 1), |_| {});
        let error = result.expect_err("a refusal");
        assert!(matches!(error, ClientError::Connect { .. }) && !error.is_late(), "{error:?}");
        Ok(())
    }

    #[test]
    fn the_client_understands_the_real_server() -> Result<(), Box<dyn std::error::Error>> {
        // Which CPU does not matter, but it must be one this process may run on.
        let here = (Ipv4Addr::LOCALHOST, 0);
        let server = (0..1024)
            .find_map(|cpu| guest_agent::rpc::RpcServer::start(here, 0, cpu).ok())
            .ok_or("no CPU")?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port()?);
        let exchanges = run(&config(address, 50), |_| {})?;
        assert_eq!(server.stop()?, 50);
        // Host and guest are the same machine here, so all four times are of one clock.
        for Exchange { sent, received, replied, returned, .. } in exchanges {
            assert!(sent.0 <= received.0 && received <= replied && replied.0 <= returned.0);
        }
        Ok(())
    }
}

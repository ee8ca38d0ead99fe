// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's side of the traffic that goes on during a check: RPCs over one TCP connection, one
//! after another, and UDP datagrams that nobody in the guest wants.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::failure::Failure;
use crate::isolate::Link;
use crate::rpc::{ClientConfig, ClientError, Exchange, converse};
use crate::scenario::guest::RPC_PORT;
use crate::vm::Vm;

/// RPCs that must have been answered long before this is over.
const CONVERSATION_LIMIT: Duration = Duration::from_secs(60);
/// Time between a reply and the next request, microseconds.
const THINK_US: (u32, u32) = (0, 500);
/// Pause between two datagrams of the flood.
const FLOOD_GAP: Duration = Duration::from_micros(300);
/// A port on which nobody listens: the guest answers now and then that it is unreachable.
const FLOOD_PORT: u16 = 9;
/// The flood's datagrams, bytes: alternately a small and a full frame.
const FLOOD_SIZES: [usize; 2] = [18, 1472];

/// RPCs, with or without a flood, that go on until they are ended. When this is dropped instead,
/// nobody waits for the thread: after a failure it may have nobody to talk to until its limit.
#[derive(Debug)]
pub struct Traffic {
    counts: Arc<Counts>,
    rpcs: JoinHandle<Result<(), ClientError>>,
    stop: Stop,
    flood: Option<Flood>,
}

#[derive(Debug, Default)]
struct Counts {
    stamped: AtomicU64,
    plain: AtomicU64,
    /// The RPCs have ended because their time was over.
    late: AtomicBool,
}

impl Counts {
    fn replies(&self) -> Replies {
        Replies {
            stamped: self.stamped.load(Ordering::SeqCst),
            plain: self.plain.load(Ordering::SeqCst),
        }
    }
}

/// Tells a thread to stop, at the latest when it is dropped.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Replies so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// To requests that the guest saw with a hardware timestamp.
    pub stamped: u64,
    /// To the others.
    pub plain: u64,
}

impl Replies {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.stamped + self.plain
    }
}

impl Traffic {
    /// Begins with RPCs and the flood.
    pub fn start(vm: &Vm) -> Result<Self, Failure> {
        Ok(Self { flood: Some(Flood::start(vm.link())?), ..Self::rpcs(vm)? })
    }

    /// Connects to the RPC server of the guest and begins with RPCs only.
    pub fn rpcs(vm: &Vm) -> Result<Self, Failure> {
        let server = SocketAddrV4::new(vm.link().guest_ip, RPC_PORT);
        Self::with_server(server, vm.limit(CONVERSATION_LIMIT))
    }

    fn with_server(server: SocketAddrV4, limit: Duration) -> Result<Self, Failure> {
        let (counts, stop) = (Arc::new(Counts::default()), Stop::default());
        let config =
            ClientConfig { server, requests: u32::MAX, seed: 1, think_us: THINK_US, limit };
        let (counting, stopping) = (Arc::clone(&counts), Arc::clone(&stop.0));
        let each = move |exchange: Exchange| {
            let counter =
                if exchange.arrived.is_some() { &counting.stamped } else { &counting.plain };
            counter.fetch_add(1, Ordering::SeqCst);
            if stopping.load(Ordering::SeqCst) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let ending = Arc::clone(&counts);
        let rpcs = std::thread::Builder::new().name("rpcs".into()).spawn(move || {
            converse(&config, each)
                .inspect_err(|error| ending.late.store(error.is_late(), Ordering::SeqCst))
        })?;
        Ok(Self { counts, rpcs, stop, flood: None })
    }

    /// How many replies have come.
    pub fn replies(&self) -> Replies {
        self.counts.replies()
    }

    /// The RPCs go on.
    ///
    /// # Errors
    /// They have ended though nobody wanted it; [`Self::end`] would tell more.
    pub fn goes_on(&self) -> Result<(), Failure> {
        if !self.rpcs.is_finished() {
            return Ok(());
        }
        Err(if self.counts.late.load(Ordering::SeqCst) {
            Failure::Late("The time for all RPCs of one connection is over".into())
        } else {
            Failure::Unmet("The TCP connection of the RPCs broke".into())
        })
    }

    /// Ends it; every reply was in order and the connection lived to the end. Datagrams sent, and
    /// replies.
    pub fn end(self) -> Result<(u64, Replies), Failure> {
        drop(self.stop);
        self.rpcs.join().map_err(|_| Failure::Unmet("The RPC thread panicked".into()))??;
        Ok((self.flood.map_or(0, |flood| flood.sent()), self.counts.replies()))
    }
}

/// A connection is asked for where nobody listens. The guest's refusal is the last that it sends:
/// nothing answers it. Whether it comes within `limit`, nobody asks.
pub fn ask_in_vain(link: &Link, limit: Duration) {
    let _ = TcpStream::connect_timeout(&(link.guest_ip, FLOOD_PORT).into(), limit);
}

/// Datagrams that go on until this is dropped.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicU64>,
    _stop: Stop,
}

impl Flood {
    /// Begins.
    pub fn start(link: &Link) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((link.host_ip, 0))?;
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Stop::default());
        let (counting, stopping) = (Arc::clone(&sent), Arc::clone(&stop.0));
        let guest: Ipv4Addr = link.guest_ip;
        std::thread::Builder::new().name("flood".into()).spawn(move || {
            for size in FLOOD_SIZES.into_iter().cycle() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                // Fails while nobody holds the other end of the wire, which is part of some checks.
                if socket.send_to(&[0x55; FLOOD_SIZES[1]][..size], (guest, FLOOD_PORT)).is_ok() {
                    counting.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(FLOOD_GAP);
            }
        })?;
        Ok(Self { sent, _stop: stop })
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// What RPCs say that have ended by themselves.
    fn ended(server: &TcpListener, limit: Duration) -> Result<Failure, Failure> {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.local_addr()?.port());
        let traffic = Traffic::with_server(server, limit)?;
        let begin = Instant::now();
        loop {
            if let Err(failure) = traffic.goes_on() {
                return Ok(failure);
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn rpcs_whose_time_is_over_are_told_from_a_connection_that_broke() -> Result<(), Failure> {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let late = ended(&silent, Duration::from_millis(50))?;
        assert!(late.is_late(), "{late:?}");
        let closing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let accepting = closing.try_clone()?;
        let closer = std::thread::spawn(move || accepting.accept().map(drop));
        let broken = ended(&closing, Duration::from_secs(20))?;
        assert!(!broken.is_late(), "{broken:?}");
        assert!(closer.join().is_ok_and(|accepted| accepted.is_ok()));
        Ok(())
    }
}

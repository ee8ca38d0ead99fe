// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Serves front ends, one at a time: the part of the event loop that has the listening socket, the
//! signals, and, while nobody is connected, the data path's own events.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tracing::warn;
use tsnic_core::time::Instant;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::clock::monotonic;
use crate::log_limit::LogLimit;
use crate::socket::ListeningSocket;
use crate::vhost::{Backend, Connection, ConnectionError};

/// A front end that leaves within this time, without having set up a queue, has found something it
/// does not like.
const EARLY: Duration = Duration::from_secs(1);

/// The listener rests for so long after such a front end, or when no connection could be accepted:
/// whoever comes again at once comes twice a second, not as fast as both sides can.
const REST: Duration = Duration::from_millis(500);

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    /// Its process, as it was when it connected; 0 when it is not of this PID namespace.
    pid: i32,
    command: String,
}

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        let pid = getsockopt(stream, PeerCredentials).map_or(0, |credentials| credentials.pid());
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, command: command.trim_end().to_owned() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.command.as_str()) {
            (0, _) => f.write_str("a process of another container"),
            (pid, "") => write!(f, "process {pid}"),
            (pid, command) => write!(f, "process {pid} ({command})"),
        }
    }
}

/// How front ends arrive.
#[derive(Debug)]
pub struct Arrivals {
    /// Where they connect.
    pub socket: Option<ListeningSocket>,
    /// One that is connected already.
    pub given: Option<UnixStream>,
    /// The first one is the last. So is one that was given.
    pub once: bool,
}

/// The front end that is being served.
struct Serving {
    connection: Connection,
    peer: Peer,
    since: Instant,
}

/// Why nobody is served any more.
#[derive(Debug)]
pub enum End {
    /// A signal came, or, when asked for, the first front end has left.
    Asked,
    /// The first front end could not be served to its end.
    Connection(ConnectionError),
    /// The event loop cannot go on.
    Events(event_manager::Error),
}

/// What a front end can cause lines of the log by, by coming again and again.
#[derive(Debug, Default)]
struct Limited {
    failed: LogLimit,
    refused: LogLimit,
    early: LogLimit,
}

/// The subscriber.
pub struct FrontEnds {
    backend: Arc<Backend>,
    socket: Option<ListeningSocket>,
    signals: SignalFd,
    /// One a pair: readable when the control socket has a command for it, which the worker of a
    /// front end serves when there is one.
    commands: Vec<EventFd>,
    rest: TimerFd,
    resting: bool,
    /// Given, or accepted just before the listener was left alone: served at the start, or when that
    /// is over.
    waiting: Option<UnixStream>,
    once: bool,
    serving: Option<Serving>,
    limited: Limited,
    end: Option<End>,
}

impl FrontEnds {
    /// Nobody is served yet.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(
        backend: Arc<Backend>,
        arrivals: Arrivals,
        signals: SignalFd,
        commands: Vec<EventFd>,
    ) -> io::Result<Self> {
        let Arrivals { socket, given, once } = arrivals;
        let rest = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        let limited = Limited::default();
        Ok(Self {
            backend,
            socket,
            signals,
            commands,
            rest,
            resting: false,
            once: once || given.is_some(),
            waiting: given,
            serving: None,
            limited,
            end: None,
        })
    }

    /// Takes the end, when it has come.
    pub const fn end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// What is watched while nobody is connected, beside the listener.
    fn idle(&self) -> Vec<RawFd> {
        let timers = self.backend.timers().map(|timer| timer.as_raw_fd());
        timers.chain(self.commands.iter().map(AsRawFd::as_raw_fd)).collect()
    }

    fn watch(&mut self, ops: &mut EventOps, fds: impl IntoIterator<Item = RawFd>) {
        for fd in fds {
            if let Err(error) = ops.add(Events::new_raw(fd, EventSet::IN)) {
                self.end.get_or_insert(End::Events(error));
            }
        }
    }

    fn unwatch(&mut self, ops: &mut EventOps, fds: impl IntoIterator<Item = RawFd>) {
        for fd in fds {
            if let Err(error) = ops.remove(Events::empty_raw(fd)) {
                self.end.get_or_insert(End::Events(error));
            }
        }
    }

    /// None when the only front end was given.
    fn listener(&self) -> Option<&UnixListener> {
        self.socket.as_ref().map(ListeningSocket::listener)
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let Some(listener) = self.listener() else { return };
        let front = match listener.accept() {
            Ok((front, _)) => front,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                return;
            }
            Err(error) => {
                if let Some(line) = self.limited.failed.line(monotonic()) {
                    warn!(left_out = line.left_out, %error, "No front end can be accepted");
                }
                self.rest(ops);
                return;
            }
        };
        // One that connects again at once comes before the event that it has left.
        if self.serving.as_ref().is_some_and(|serving| serving.connection.is_over()) {
            self.finish(ops);
            if self.end.is_some() {
                return;
            }
            if self.resting {
                self.waiting = Some(front);
                return;
            }
        }
        self.serve(front, ops);
    }

    fn serve(&mut self, front: UnixStream, ops: &mut EventOps) {
        let peer = Peer::of(&front);
        if let Some(serving) = &self.serving {
            if let Some(line) = self.limited.refused.line(monotonic()) {
                let left_out = line.left_out;
                warn!(
                    left_out,
                    "A second front end, {peer}, is hung up on: {} is being served", serving.peer
                );
            }
            return;
        }
        self.unwatch_idle(ops);
        match Connection::start(&self.backend, front) {
            Ok(connection) => {
                self.watch(ops, [connection.ended().as_raw_fd()]);
                self.serving = Some(Serving { connection, peer, since: monotonic() });
            }
            Err(error) => {
                self.watch_idle(ops);
                self.failed(error, &peer);
                self.rest(ops);
            }
        }
    }

    fn watch_idle(&mut self, ops: &mut EventOps) {
        let idle = self.idle();
        self.watch(ops, idle);
    }

    fn unwatch_idle(&mut self, ops: &mut EventOps) {
        let idle = self.idle();
        self.unwatch(ops, idle);
    }

    /// The front end has left.
    fn finish(&mut self, ops: &mut EventOps) {
        let Some(Serving { connection, peer, since }) = self.serving.take() else { return };
        self.unwatch(ops, [connection.ended().as_raw_fd()]);
        let early = connection.set_nothing_up() && monotonic().since(since) < EARLY;
        let result = connection.finish();
        self.watch_idle(ops);
        // A command may have come between the worker's end and now.
        self.backend.serve_alone();
        match result {
            Err(error) => self.failed(error, &peer),
            Ok(()) if early => {
                if let Some(line) = self.limited.early.line(monotonic()) {
                    let pairs = self.backend.pairs();
                    warn!(
                        left_out = line.left_out,
                        "The front end, {peer}, left before it set up a queue. QEMU does so when it is asked for more queue \
                         pairs (queues=) than this device has: {pairs}"
                    );
                }
            }
            Ok(()) => {}
        }
        if self.once {
            self.end.get_or_insert(End::Asked);
        } else if early {
            self.rest(ops);
        }
    }

    fn failed(&mut self, error: ConnectionError, peer: &Peer) {
        if self.once {
            self.end.get_or_insert(End::Connection(error));
        } else if let Some(line) = self.limited.failed.line(monotonic()) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(left_out = line.left_out, cause, "{error} (the front end is {peer})");
        }
    }

    /// Leaves the listener alone for a while.
    fn rest(&mut self, ops: &mut EventOps) {
        if self.resting {
            return;
        }
        let listener = self.listener().map(AsRawFd::as_raw_fd);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(REST));
        if let Err(error) = self.rest.set(expiration, TimerSetTimeFlags::empty()) {
            warn!(%error, "The listener's timer cannot be set");
            return;
        }
        self.resting = true;
        self.unwatch(ops, listener);
    }

    fn rested(&mut self, ops: &mut EventOps) {
        // EAGAIN: it has not fired.
        let _ = self.rest.wait();
        self.resting = false;
        let listener = self.listener().map(AsRawFd::as_raw_fd);
        self.watch(ops, listener);
        if let Some(front) = self.waiting.take() {
            self.serve(front, ops);
        }
    }
}

impl MutEventSubscriber for FrontEnds {
    fn init(&mut self, ops: &mut EventOps) {
        let always = [self.signals.as_fd().as_raw_fd(), self.rest.as_fd().as_raw_fd()];
        let listener = self.listener().map(AsRawFd::as_raw_fd);
        self.watch(ops, always.into_iter().chain(listener));
        self.watch_idle(ops);
        if let Some(front) = self.waiting.take() {
            self.serve(front, ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let fd = events.fd();
        if fd == self.signals.as_fd().as_raw_fd() {
            self.serving = None;
            self.end.get_or_insert(End::Asked);
        } else if self.listener().is_some_and(|listener| fd == listener.as_raw_fd()) {
            self.accept(ops);
        } else if fd == self.rest.as_fd().as_raw_fd() {
            self.rested(ops);
        } else if self
            .serving
            .as_ref()
            .is_some_and(|serving| serving.connection.ended().as_raw_fd() == fd)
        {
            self.finish(ops);
        } else if self.serving.is_none() {
            self.backend.serve_alone();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control socket, between its clients and the data path.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tracing::{debug, warn};
use tsnic_protocol::{Event, PairRequest, Reply, Request};
use vmm_sys_util::epoll::EventSet;

use super::channel::ControlEnd;
use super::client::Client;
use super::convert;
use super::dispatcher::{ClientId, Dispatcher, error};
use crate::socket::{ListeningSocket, SocketError};

#[cfg(test)]
mod tests;

/// A connection there was no descriptor for is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Most connections at a time.
const CLIENTS_MAX: usize = 16;

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The path.
    #[error("Cannot open the control socket")]
    Socket(#[from] SocketError),
    /// The host refused something else.
    #[error("Cannot make a timer for the control socket")]
    Timer(#[from] nix::Error),
}

/// The control socket: a subscriber of the event loop. Its file is gone when it is dropped.
pub struct ControlServer {
    /// None: only clients of this process are served.
    socket: Option<ListeningSocket>,
    /// Clients that are connected already, until the event loop has them.
    given: Vec<UnixStream>,
    /// One a queue pair.
    data_paths: Vec<DataPath>,
    /// When a connection that could not be accepted is tried again.
    again: TimerFd,
    clients: HashMap<RawFd, (ClientId, Client)>,
    ids: HashMap<ClientId, RawFd>,
    next_id: ClientId,
    /// The listener is being watched. It is not while the process has no descriptor left for a
    /// connection.
    accepting: bool,
    /// The latest connection could not be accepted, which has been said.
    refused: bool,
}

/// A queue pair, and who wants what of it.
struct DataPath {
    end: ControlEnd,
    dispatcher: Dispatcher,
}

impl ControlServer {
    /// Listens on `path` for clients of these queue pairs, in their order, beside those that are
    /// given.
    ///
    /// # Errors
    /// When the path is in use or cannot be used, or the host has no descriptor left.
    pub fn new(
        path: Option<&Path>,
        given: Vec<UnixStream>,
        pairs: Vec<ControlEnd>,
    ) -> Result<Self, ControlError> {
        Ok(Self {
            socket: path.map(ListeningSocket::bind).transpose()?,
            given,
            data_paths: pairs
                .into_iter()
                .map(|end| DataPath { end, dispatcher: Dispatcher::default() })
                .collect(),
            again: TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
            )?,
            clients: HashMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            accepting: true,
            refused: false,
        })
    }
}

impl MutEventSubscriber for ControlServer {
    fn init(&mut self, ops: &mut EventOps) {
        let again = self.again.as_fd().as_raw_fd();
        let data_paths = self.data_paths.iter().map(|it| it.end.event().as_raw_fd());
        let listener = self.listener().map(AsRawFd::as_raw_fd);
        for fd in data_paths.chain([again]).chain(listener) {
            if let Err(error) = ops.add(Events::new_raw(fd, EventSet::IN)) {
                warn!("The control socket is not served: {error}");
            }
        }
        for stream in std::mem::take(&mut self.given) {
            match Client::new(stream) {
                Ok(client) => self.welcome(client, ops),
                Err(error) => warn!("A part of this process is not served: {error}"),
            }
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let fd = events.fd();
        if fd == self.again.as_fd().as_raw_fd() {
            // EAGAIN: it has not fired.
            let _ = self.again.wait();
            self.watch_listener(true, ops);
        } else if self.listener().is_some_and(|listener| fd == listener.as_raw_fd()) {
            self.accept(ops);
        } else if let Some(pair) =
            self.data_paths.iter().position(|it| it.end.event().as_raw_fd() == fd)
        {
            self.answers(pair, ops);
        } else {
            self.client_event(fd, events.event_set(), ops);
        }
    }
}

impl ControlServer {
    fn listener(&self) -> Option<&UnixListener> {
        self.socket.as_ref().map(ListeningSocket::listener)
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let Some(listener) = self.listener() else { return };
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    warn!("Cannot accept a control connection: {error}");
                }
                // To go on watching would be to be told of the same connection again and again.
                let expiration = Expiration::OneShot(TimeSpec::from_duration(ACCEPT_AGAIN));
                match self.again.set(expiration, TimerSetTimeFlags::empty()) {
                    Ok(()) => self.watch_listener(false, ops),
                    Err(error) => warn!("The control socket's timer cannot be set: {error}"),
                }
                return;
            }
        };
        self.refused = false;
        let result = Client::new(stream).and_then(|mut client| {
            if self.clients.len() >= CLIENTS_MAX {
                let message = format!("{CLIENTS_MAX} connections are open already");
                return client.reply(&error(message)).map(|()| None);
            }
            Ok(Some(client))
        });
        match result {
            Ok(Some(client)) => self.welcome(client, ops),
            Ok(None) => debug!("Turned a control connection away: {CLIENTS_MAX} are open"),
            Err(error) => debug!("A control connection is gone before it was served: {error}"),
        }
    }

    fn watch_listener(&mut self, watch: bool, ops: &mut EventOps) {
        let Some(listener) = self.listener() else { return };
        if watch != self.accepting {
            let events = if watch { EventSet::IN } else { EventSet::empty() };
            if let Err(error) = ops.modify(Events::new(listener, events)) {
                warn!("Cannot watch the control socket: {error}");
            }
            self.accepting = watch;
        }
    }

    fn welcome(&mut self, client: Client, ops: &mut EventOps) {
        let fd = client.as_raw_fd();
        if let Err(error) = ops.add(Events::new_raw(fd, client.interest())) {
            warn!("Cannot serve a control connection: {error}");
            return;
        }
        self.ids.insert(self.next_id, fd);
        self.clients.insert(fd, (self.next_id, client));
        self.next_id += 1;
    }

    fn client_event(&mut self, fd: RawFd, events: EventSet, ops: &mut EventOps) {
        let Some((id, client)) = self.clients.get_mut(&fd) else { return };
        let id = *id;
        let result = client.flush().and_then(|()| {
            if events.contains(EventSet::IN) { client.read() } else { Ok(Vec::new()) }
        });
        // The client has closed both directions: nobody is there to read a reply.
        let hung_up = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        match result {
            Ok(lines) if !hung_up => {
                for line in lines {
                    self.line(id, line, ops);
                }
                self.after(id, ops);
            }
            Ok(_) => self.part(id, ops),
            Err(error) => {
                debug!("A control connection broke: {error}");
                self.part(id, ops);
            }
        }
    }

    fn line(&mut self, id: ClientId, line: Result<PairRequest, String>, ops: &mut EventOps) {
        if let Err(message) = line.and_then(|request| self.request(id, request, ops)) {
            self.reply(id, &error(message), ops);
        }
    }

    fn request(
        &mut self,
        id: ClientId,
        asked: PairRequest,
        ops: &mut EventOps,
    ) -> Result<(), String> {
        let PairRequest { pair, request } = asked;
        if request == Request::Events {
            self.watch(id, ops);
            return Ok(());
        }
        let pairs = self.data_paths.len();
        let Some(DataPath { end, dispatcher }) = self.data_paths.get_mut(usize::from(pair)) else {
            return Err(format!("There is no queue pair {pair}: this device has {pairs}"));
        };
        let command = dispatcher.request(id, request)?;
        if end.send(command) { Ok(()) } else { Err("The data path has ended".into()) }
    }

    /// A client wants to be told of events.
    fn watch(&mut self, id: ClientId, ops: &mut EventOps) {
        if let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get_mut(fd)) {
            client.watch();
        }
        self.watch_data_paths();
        self.reply(id, &Reply::Done, ops);
    }

    /// Has the data paths tell of events as long as somebody wants to know.
    fn watch_data_paths(&self) {
        let wanted = self.clients.values().any(|(_, client)| client.watches());
        for DataPath { end, .. } in &self.data_paths {
            end.watch(wanted);
        }
    }

    /// Passes on what has happened to a pair.
    fn events(&mut self, pair: usize, ops: &mut EventOps) {
        while let Some((at, event)) = self.data_paths[pair].end.try_recv_event() {
            let missed = self.data_paths[pair].end.take_missed();
            let occurrence = convert::occurrence(event);
            let event = Event { pair: pair as u16, at_ns: at.as_ns(), missed: 0, occurrence };
            let watching = self.clients.values().filter(|(_, client)| client.watches());
            for id in watching.map(|(id, _)| *id).collect::<Vec<_>>() {
                let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get_mut(fd))
                else {
                    continue;
                };
                match client.event(&event, missed) {
                    Ok(()) => self.after(id, ops),
                    Err(error) => {
                        debug!("A control connection broke: {error}");
                        self.part(id, ops);
                    }
                }
            }
        }
    }

    fn answers(&mut self, pair: usize, ops: &mut EventOps) {
        self.data_paths[pair].end.clear();
        self.events(pair, ops);
        while let Some(answer) = self.data_paths[pair].end.try_recv() {
            if let Some((id, mut reply)) = self.data_paths[pair].dispatcher.answer(answer) {
                if let Reply::Status(status) = &mut reply {
                    status.pairs = self.data_paths.len() as u16;
                }
                self.reply(id, &reply, ops);
                self.after(id, ops);
            }
        }
    }

    fn reply(&mut self, id: ClientId, reply: &Reply, ops: &mut EventOps) {
        let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get_mut(fd)) else {
            return;
        };
        if let Err(error) = client.reply(reply) {
            debug!("A control connection broke: {error}");
            self.part(id, ops);
        }
    }

    /// Waits for what the client wants next, or parts from it when nothing is left to do.
    fn after(&mut self, id: ClientId, ops: &mut EventOps) {
        let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get(fd)) else {
            return;
        };
        if client.is_done() && !self.data_paths.iter().any(|it| it.dispatcher.owes(id)) {
            self.part(id, ops);
        } else if let Err(error) =
            ops.modify(Events::new_raw(client.as_raw_fd(), client.interest()))
        {
            warn!("Cannot serve a control connection any more: {error}");
            self.part(id, ops);
        }
    }

    fn part(&mut self, id: ClientId, ops: &mut EventOps) {
        let Some(fd) = self.ids.remove(&id) else { return };
        // Before the descriptor is closed: its number may be given to the next connection.
        if let Err(error) = ops.remove(Events::empty_raw(fd)) {
            warn!("Cannot stop watching a control connection: {error}");
        }
        self.clients.remove(&fd);
        self.watch_data_paths();
        for DataPath { end, dispatcher } in &mut self.data_paths {
            if let Some(cancel) = dispatcher.gone(id) {
                debug!("The client of a run has gone: the run is cancelled");
                // Nobody is left to be told when the data path has ended as well.
                let _ = end.send(cancel);
            }
        }
        self.watch_listener(true, ops);
    }
}

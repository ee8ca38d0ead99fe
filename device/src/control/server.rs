// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control socket: a thread of its own, between its clients and the data path.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use tracing::{debug, warn};
use tsnic_protocol::{Reply, Request};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::channel::{Command, ControlEnd};
use super::client::Client;
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
    #[error("Cannot start the control thread")]
    Start(#[from] io::Error),
    /// Its event loop.
    #[error("Cannot start the control thread's event loop")]
    Events(#[from] event_manager::Error),
}

/// The control socket and its thread; both end when it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens on `path` and serves it until it is dropped.
    ///
    /// # Errors
    /// When the path is in use or cannot be used, or the host has no thread or descriptor left.
    pub fn start(path: &Path, data_path: ControlEnd) -> Result<Self, ControlError> {
        let socket = ListeningSocket::bind(path)?;
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let server = Server {
            socket,
            data_path,
            stop: stop.try_clone()?,
            stopped: Arc::clone(&stopped),
            dispatcher: Dispatcher::default(),
            clients: HashMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            accepting: true,
            refused: false,
        };
        let mut manager = EventManager::new()?;
        manager.add_subscriber(server);
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = manager.run() {
                    warn!("The control socket is not served any more: {error}");
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("control".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("The control thread panicked");
        }
    }
}

struct Server {
    socket: ListeningSocket,
    data_path: ControlEnd,
    stop: EventFd,
    stopped: Arc<AtomicBool>,
    dispatcher: Dispatcher,
    clients: HashMap<RawFd, (ClientId, Client)>,
    ids: HashMap<ClientId, RawFd>,
    next_id: ClientId,
    /// The listener is being watched. It is not while the process has no descriptor left for a connection.
    accepting: bool,
    /// The latest connection could not be accepted, which has been said.
    refused: bool,
}

impl MutEventSubscriber for Server {
    fn init(&mut self, ops: &mut EventOps) {
        let fds = [self.listener().as_raw_fd(), self.data_path.event().as_raw_fd(), self.stop.as_raw_fd()];
        for fd in fds {
            if let Err(error) = ops.add(Events::new_raw(fd, EventSet::IN)) {
                warn!("The control socket is not served: {error}");
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let fd = events.fd();
        if fd == self.stop.as_raw_fd() {
            self.stopped.store(true, Ordering::Relaxed);
        } else if fd == self.listener().as_raw_fd() {
            self.accept(ops);
        } else if fd == self.data_path.event().as_raw_fd() {
            self.answers(ops);
        } else {
            self.client_event(fd, events.event_set(), ops);
        }
    }
}

impl Server {
    const fn listener(&self) -> &UnixListener {
        self.socket.listener()
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let stream = match self.listener().accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    warn!("Cannot accept a control connection: {error}");
                }
                // Waiting on would report the same connection again and again. The next client to leave makes room; when there is
                // none, somebody else in the process has to, and nobody here waits for anything else.
                if self.clients.is_empty() {
                    thread::sleep(ACCEPT_AGAIN);
                } else {
                    self.watch_listener(false, ops);
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
        if watch != self.accepting {
            let events = if watch { EventSet::IN } else { EventSet::empty() };
            if let Err(error) = ops.modify(Events::new(self.listener(), events)) {
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
        let result =
            client.flush().and_then(|()| if events.contains(EventSet::IN) { client.read() } else { Ok(Vec::new()) });
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

    fn line(&mut self, id: ClientId, line: Result<Request, String>, ops: &mut EventOps) {
        match line.and_then(|request| self.dispatcher.request(id, request)) {
            Ok(command) => self.send(id, command, ops),
            Err(message) => self.reply(id, &error(message), ops),
        }
    }

    fn send(&mut self, id: ClientId, command: Command, ops: &mut EventOps) {
        if !self.data_path.send(command) {
            self.reply(id, &error("The data path has ended".into()), ops);
        }
    }

    fn answers(&mut self, ops: &mut EventOps) {
        self.data_path.clear();
        while let Some(answer) = self.data_path.try_recv() {
            if let Some((id, reply)) = self.dispatcher.answer(answer) {
                self.reply(id, &reply, ops);
                self.after(id, ops);
            }
        }
    }

    fn reply(&mut self, id: ClientId, reply: &Reply, ops: &mut EventOps) {
        let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get_mut(fd)) else { return };
        if let Err(error) = client.reply(reply) {
            debug!("A control connection broke: {error}");
            self.part(id, ops);
        }
    }

    /// Waits for what the client wants next, or parts from it when nothing is left to do.
    fn after(&mut self, id: ClientId, ops: &mut EventOps) {
        let Some((_, client)) = self.ids.get(&id).and_then(|fd| self.clients.get(fd)) else { return };
        if client.is_done() && !self.dispatcher.owes(id) {
            self.part(id, ops);
        } else if let Err(error) = ops.modify(Events::new_raw(client.as_raw_fd(), client.interest())) {
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
        if let Some(cancel) = self.dispatcher.gone(id) {
            debug!("The client of a run has gone: the run is cancelled");
            // Nobody is left to be told when the data path has ended as well.
            let _ = self.data_path.send(cancel);
        }
        self.watch_listener(true, ops);
    }
}

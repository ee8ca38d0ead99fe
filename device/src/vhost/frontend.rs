// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One front end, from its connection to its leaving.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen,
    socket,
};
use thiserror::Error;
use tracing::{debug, info};
use vhost::vhost_user::{Error as VhostError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::{GuestAddressSpace as _, GuestMemoryBackend as _};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::Backend;
use super::shim::Shim;
use crate::clock::monotonic;

/// Private sockets that are made at most, should somebody else connect to them first.
const PRIVATE_TRIES: u32 = 16;

/// Why a front end could not be served, or not to the end.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The host refused something.
    #[error("Cannot {what}")]
    Host {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The daemon.
    #[error("Cannot serve the front end: {0}")]
    Daemon(DaemonError),
    /// The front end said something that cannot be served.
    #[error("The front end broke the vhost-user protocol: {0}")]
    Protocol(VhostError),
}

fn host(what: &'static str) -> impl FnOnce(io::Error) -> ConnectionError {
    move |source| ConnectionError::Host { what, source }
}

/// A front end that is being served.
pub struct Connection {
    backend: Arc<Backend>,
    daemon: Option<VhostUserDaemon<Arc<Backend>>>,
    shim: Option<Shim>,
    ended: Arc<EventFd>,
}

impl Connection {
    /// Starts to serve a front end.
    ///
    /// # Errors
    /// When a thread or a descriptor cannot be had.
    pub fn start(backend: &Arc<Backend>, front: UnixStream) -> Result<Self, ConnectionError> {
        let ended = EventFd::new(EFD_NONBLOCK).map_err(host("make an eventfd"))?;
        let mut connection =
            Self { backend: Arc::clone(backend), daemon: None, shim: None, ended: Arc::new(ended) };
        let daemon =
            VhostUserDaemon::new("vhost-user".into(), Arc::clone(backend), backend.memory())
                .map_err(ConnectionError::Daemon)?;
        let daemon = connection.daemon.insert(daemon);
        backend.connect(daemon).map_err(host("watch for events"))?;
        let (back, listener) = private_pair().map_err(host("make a private socket"))?;
        daemon.start(&mut Listener::from(listener)).map_err(ConnectionError::Daemon)?;
        let shim = Shim::start(front, back, &connection.ended, backend.cut_bits())
            .map_err(host("start the shim"))?;
        connection.shim = Some(shim);
        if let Some(line) = backend.lines().connected.line(monotonic()) {
            info!(left_out = line.left_out, "Front end connected");
        }
        Ok(connection)
    }

    /// Readable when the front end is gone.
    #[must_use]
    pub fn ended(&self) -> &EventFd {
        &self.ended
    }

    /// The front end is gone, though [`Self::ended`] may not be readable yet.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shim.as_ref().is_none_or(Shim::is_over)
    }

    /// The front end has negotiated, and sent no memory table: it has set up no queue.
    #[must_use]
    pub fn set_nothing_up(&self) -> bool {
        self.shim.as_ref().is_some_and(Shim::has_spoken)
            && self.backend.memory().memory().num_regions() == 0
    }

    /// Ends the connection, if it has not ended.
    ///
    /// # Errors
    /// When it ended because of something the front end said.
    pub fn finish(mut self) -> Result<(), ConnectionError> {
        drop(self.shim.take());
        let result = match self.daemon.as_mut().map(VhostUserDaemon::wait) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(DaemonError::HandleRequest(error))) => match error {
                // How a front end that leaves looks from here.
                VhostError::Disconnected
                | VhostError::PartialMessage
                | VhostError::SocketBroken(_)
                | VhostError::SocketError(_)
                | VhostError::SocketRetry(_) => Ok(()),
                error => Err(ConnectionError::Protocol(error)),
            },
            Some(Err(error)) => Err(ConnectionError::Daemon(error)),
        };
        debug!("Front end gone");
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.shim.take());
        // Ends the workers and waits for them.
        drop(self.daemon.take());
        self.backend.disconnect();
        self.backend.close_exit_events();
        if let Some(line) = self.backend.lines().disconnected.line(monotonic()) {
            info!(left_out = line.left_out, "Front end disconnected");
        }
    }
}

/// A socket that is connected already, and the listener that has it in its queue: the daemon
/// (vhost-user-backend 0.24) can only accept. It has an address of the abstract namespace that the
/// kernel chooses, so it depends on no directory.
///
/// Any process of this network namespace could connect to it. But a queue of length 0 holds one
/// connection, so when this one was made without waiting, it is the one that the daemon will
/// accept.
fn private_pair() -> io::Result<(UnixStream, UnixListener)> {
    let new = || {
        socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )
    };
    for _ in 0..PRIVATE_TRIES {
        let listener = new()?;
        bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
        listen(&listener, Backlog::new(0)?)?;
        let address: UnixAddr = getsockname(listener.as_raw_fd())?;
        let stream = new()?;
        match connect(stream.as_raw_fd(), &address) {
            Ok(()) => {}
            // Somebody else was first.
            Err(nix::Error::EAGAIN) => continue,
            Err(error) => return Err(error.into()),
        }
        let (stream, listener) = (UnixStream::from(stream), UnixListener::from(listener));
        stream.set_nonblocking(false)?;
        return Ok((stream, listener));
    }
    Err(io::Error::other("another process connects to each"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use vhost::vhost_user::Frontend;
    use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};

    use super::*;
    use crate::clock::HostClock;
    use crate::control::channel::control_channel;
    use crate::net::pair::{InterruptConfig, Pair};
    use crate::port::generator::{Generator, GeneratorConfig};

    /// `SET_VRING_ENABLE` of queue 0, then `GET_FEATURES`, which is answered by 20 bytes.
    const EARLY_ENABLE: [u8; 32] = [
        18, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0,
        0, 0,
    ];

    fn backend() -> Arc<Backend> {
        let (_, worker) = control_channel().unwrap();
        let port = Generator::new(&GeneratorConfig::default(), 0);
        Arc::new(
            Backend::new(
                vec![Pair::new(
                    0,
                    Box::new(port),
                    HostClock::default(),
                    worker,
                    &InterruptConfig::default(),
                )],
                Duration::ZERO,
            )
            .unwrap(),
        )
    }

    #[test]
    fn an_early_enable_needs_the_shim() {
        let backend = backend();
        let (mut vmm, listener) = private_pair().unwrap();
        let mut daemon =
            VhostUserDaemon::new("daemon".into(), Arc::clone(&backend), backend.memory()).unwrap();
        daemon.start(&mut Listener::from(listener)).unwrap();
        vmm.write_all(&EARLY_ENABLE).unwrap();
        assert!(
            vmm.read_exact(&mut [0; 20]).is_err(),
            "the daemon has learned it: the shim can go"
        );
        drop(daemon);
        backend.close_exit_events();

        let (front, mut vmm) = UnixStream::pair().unwrap();
        let connection = Connection::start(&backend, front).unwrap();
        vmm.write_all(&EARLY_ENABLE).unwrap();
        vmm.read_exact(&mut [0; 20]).unwrap();
        drop(vmm);
        connection.finish().unwrap();
    }

    /// Says that the descriptor table of queue 0 is at this place in the guest's memory. Whether
    /// the other side is still there then.
    fn survives_a_ring_at(place: u64, vmm: UnixStream) -> bool {
        const LEN: u64 = 0x10_0000;
        const USER_BASE: u64 = 0x7000_0000_0000;
        let memory = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).unwrap());
        memory.set_len(LEN).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: LEN,
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        let ring = VringConfigData {
            queue_max_size: 64,
            queue_size: 64,
            flags: 0,
            desc_table_addr: USER_BASE + place,
            used_ring_addr: USER_BASE + 0x2000,
            avail_ring_addr: USER_BASE + 0x1000,
            log_addr: None,
        };
        let frontend = Frontend::from_stream(vmm, 2);
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        frontend.set_features(features).unwrap();
        frontend.set_mem_table(&[region]).unwrap();
        frontend.set_vring_addr(0, &ring).unwrap();
        frontend.get_features().is_ok()
    }

    #[test]
    fn a_ring_in_an_impossible_place_needs_the_shim() {
        // Not aligned; behind the end of memory.
        for place in [8, 0x10_0000] {
            let backend = backend();
            let (vmm, listener) = private_pair().unwrap();
            let mut daemon =
                VhostUserDaemon::new("daemon".into(), Arc::clone(&backend), backend.memory())
                    .unwrap();
            daemon.start(&mut Listener::from(listener)).unwrap();
            assert!(
                !survives_a_ring_at(place, vmm),
                "the daemon has learned it: the cutting can go"
            );
            drop(daemon);
            backend.close_exit_events();

            let nothing = backend.cut_bits().of(0);
            let (front, vmm) = UnixStream::pair().unwrap();
            let connection = Connection::start(&backend, front).unwrap();
            assert!(survives_a_ring_at(place, vmm));
            assert_ne!(backend.cut_bits().of(0), nothing);
            connection.finish().unwrap();

            let (front, _vmm) = UnixStream::pair().unwrap();
            let connection = Connection::start(&backend, front).unwrap();
            assert_eq!(
                backend.cut_bits().of(0),
                nothing,
                "what is known of a front end goes with it"
            );
            connection.finish().unwrap();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One front end, from its connection to its leaving.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use thiserror::Error;
use tracing::{debug, info};
use vhost::vhost_user::{Error as VhostError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::Backend;
use super::shim::Shim;
use crate::clock::monotonic;

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
    /// When a thread, a descriptor or a temporary directory cannot be had.
    pub fn start(backend: &Arc<Backend>, front: UnixStream) -> Result<Self, ConnectionError> {
        let ended = EventFd::new(EFD_NONBLOCK).map_err(host("make an eventfd"))?;
        let mut connection = Self { backend: Arc::clone(backend), daemon: None, shim: None, ended: Arc::new(ended) };
        let daemon = VhostUserDaemon::new("vhost-user".into(), Arc::clone(backend), backend.memory())
            .map_err(ConnectionError::Daemon)?;
        let daemon = connection.daemon.insert(daemon);
        backend.connect(daemon).map_err(host("watch for events"))?;
        let (back, listener) = private_pair().map_err(host("make a private socket"))?;
        daemon.start(&mut Listener::from(listener)).map_err(ConnectionError::Daemon)?;
        let shim = Shim::start(front, back, &connection.ended, backend.cut_bits()).map_err(host("start the shim"))?;
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

/// A socket that is connected already, and the listener that has it in its queue: the daemon can only accept. Its path is in
/// a directory of our own and gone before this returns.
fn private_pair() -> io::Result<(UnixStream, UnixListener)> {
    let directory = tempfile::Builder::new().prefix("tsnic-").tempdir()?;
    let path = directory.path().join("daemon");
    let listener = UnixListener::bind(&path)?;
    let stream = UnixStream::connect(&path)?;
    Ok((stream, listener))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use vhost::vhost_user::Frontend;
    use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};

    use super::*;
    use crate::clock::HostClock;
    use crate::control::channel::control_channel;
    use crate::net::pair::Pair;
    use crate::port::generator::{Generator, GeneratorConfig};
    use tsnic_core::moderation::Limits;

    /// `SET_VRING_ENABLE` of queue 0, then `GET_FEATURES`, which is answered by 20 bytes.
    const EARLY_ENABLE: [u8; 32] =
        [18, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

    fn backend() -> Arc<Backend> {
        let (_, worker) = control_channel().unwrap();
        let wire = Generator::new(&GeneratorConfig::default(), 0);
        Arc::new(Backend::new(vec![Pair::new(0, Box::new(wire), HostClock, worker, Limits::default())]).unwrap())
    }

    #[test]
    fn an_early_enable_needs_the_shim() {
        let backend = backend();
        let (mut vmm, listener) = private_pair().unwrap();
        let mut daemon = VhostUserDaemon::new("daemon".into(), Arc::clone(&backend), backend.memory()).unwrap();
        daemon.start(&mut Listener::from(listener)).unwrap();
        vmm.write_all(&EARLY_ENABLE).unwrap();
        assert!(vmm.read_exact(&mut [0; 20]).is_err(), "the daemon has learned it: the shim can go");
        drop(daemon);
        backend.close_exit_events();

        let (front, mut vmm) = UnixStream::pair().unwrap();
        let connection = Connection::start(&backend, front).unwrap();
        vmm.write_all(&EARLY_ENABLE).unwrap();
        vmm.read_exact(&mut [0; 20]).unwrap();
        drop(vmm);
        connection.finish().unwrap();
    }

    /// Says that the descriptor table of queue 0 is at this place in the guest's memory. Whether the other side is still there then.
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
            let mut daemon = VhostUserDaemon::new("daemon".into(), Arc::clone(&backend), backend.memory()).unwrap();
            daemon.start(&mut Listener::from(listener)).unwrap();
            assert!(!survives_a_ring_at(place, vmm), "the daemon has learned it: the cutting can go");
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
            assert_eq!(backend.cut_bits().of(0), nothing, "what is known of a front end goes with it");
            connection.finish().unwrap();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daemon's view of a queue, with four rules of its own: a kick that was read by somebody else is no error, a queue that starts
//! is served at once, each new interrupt line is raised once, and a queue has the size the guest has set.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vhost_user_backend::{VringRwLock, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT as _};
use vm_memory::GuestAddressSpace;

/// [`VringRwLock`], except for kicks, starts, interrupt lines and sizes.
///
/// Frames may have waited on the wire for a queue to start, which the daemon tells nobody, and the driver need not kick a queue
/// that goes on after a stop. So the queue is kicked from here, as soon as it is ready and enabled.
///
/// QEMU starts a queue with its kick eventfd and sends the call eventfd after that, first one that nobody listens to (the guest's
/// vector is masked until then), later the real one. An interrupt raised before that would be lost, and with it, on a queue with
/// one-shot interrupts, every later one. A driver that is interrupted for nothing looks at its ring and goes on.
///
/// The size of a queue is what the guest has programmed. `virtio-queue` keeps the old one when it is impossible, and a ring larger
/// than the guest's would be served. Here it is kept as it is, and whoever opens the ring finds it broken.
///
/// The daemon ends a worker, silently, when reading a kick fails. It does fail, with `EAGAIN`, when the front end replaces the
/// eventfd between the worker's wake-up and its read; and a blocking eventfd would hang the worker in the same place.
#[derive(Clone)]
pub struct Vring<M: GuestAddressSpace> {
    inner: VringRwLock<M>,
    /// The front end's kick eventfd, to be written.
    kick: Arc<Mutex<Option<File>>>,
    entries: Arc<AtomicU16>,
}

impl<M: GuestAddressSpace + 'static> Vring<M> {
    /// Entries, as the front end has said, possible or not.
    pub fn entries(&self) -> u16 {
        self.entries.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if let Some(kick) = &mut *self.kick.lock().unwrap_or_else(PoisonError::into_inner) {
            // Fails when it has been kicked 2^64 times already, or is no eventfd, which is found out when it is watched.
            let _ = kick.write_all(&1_u64.to_ne_bytes());
        }
    }
}

impl<'a, M: GuestAddressSpace + 'a> VringStateGuard<'a, M> for Vring<M> {
    type G = <VringRwLock<M> as VringStateGuard<'a, M>>::G;
}

impl<'a, M: GuestAddressSpace + 'a> VringStateMutGuard<'a, M> for Vring<M> {
    type G = <VringRwLock<M> as VringStateMutGuard<'a, M>>::G;
}

impl<M: GuestAddressSpace + 'static> VringT<M> for Vring<M> {
    fn read_kick(&self) -> io::Result<bool> {
        match self.inner.read_kick() {
            Err(_) => Ok(self.inner.get_ref().is_enabled()),
            enabled => enabled,
        }
    }

    fn set_kick(&self, file: Option<File>) {
        if let Some(file) = &file
            && let Ok(flags) = fcntl(file.as_fd(), FcntlArg::F_GETFL)
        {
            // An eventfd that refuses this is none, and is found out when it is watched.
            let _ = fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK));
        }
        *self.kick.lock().unwrap_or_else(PoisonError::into_inner) =
            file.as_ref().and_then(|file| file.try_clone().ok());
        self.inner.set_kick(file);
    }

    fn new(mem: M, max_queue_size: u16) -> Result<Self, Error> {
        let entries = Arc::new(AtomicU16::new(max_queue_size));
        VringRwLock::new(mem, max_queue_size).map(|inner| Self { inner, kick: Arc::default(), entries })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, M>>::G {
        self.inner.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, M>>::G {
        self.inner.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.inner.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.inner.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.inner.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.inner.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.inner.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.inner.set_enabled(enabled);
        if enabled {
            self.wake();
        }
    }

    fn set_queue_info(&self, desc_table: u64, avail_ring: u64, used_ring: u64) -> Result<(), Error> {
        self.inner.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.inner.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.inner.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.inner.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.inner.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.entries.store(num, Ordering::Relaxed);
        // It would complain of others.
        if num.is_power_of_two() {
            self.inner.set_queue_size(num);
        }
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.inner.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.inner.set_queue_ready(ready);
        if ready {
            self.wake();
        }
    }

    fn set_call(&self, file: Option<File>) {
        let line = file.is_some();
        self.inner.set_call(file);
        if line && self.inner.get_ref().get_queue().ready() {
            // As when the worker raises it: a full counter is an interrupt raised often enough.
            let _ = self.inner.signal_used_queue();
        }
    }

    fn set_err(&self, file: Option<File>) {
        self.inner.set_err(file);
    }
}

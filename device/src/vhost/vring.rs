// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daemon's view of a queue, with rules of its own where the daemon's do not fit.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vhost_user_backend::{VringRwLock, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT as _};
use vm_memory::GuestAddressSpace;

/// [`VringRwLock`], except for bases, kicks, interrupt lines and sizes.
///
/// `SET_VRING_BASE` starts a ring anew, whatever was there before: user-mode Linux sets its rings
/// up again without ever saying `GET_VRING_BASE`. So each is numbered, and what the worker reports
/// of an earlier start is not taken.
///
/// QEMU starts a queue with its kick eventfd and sends the call eventfd after that, first one that
/// nobody listens to (the guest's vector is masked until then), later the real one. An interrupt
/// raised before that would be lost, and with it, on a queue with one-shot interrupts, every later
/// one. So each new line is raised once: a driver that is interrupted without need looks at its
/// ring and goes on.
///
/// The size of a queue is what the guest has programmed. `virtio-queue` keeps the old one when it
/// is impossible, and a ring larger than the guest's would be served. Here it is kept as it is, and
/// whoever opens the ring finds it broken.
///
/// The daemon ends a worker, silently, when reading a kick fails. It does fail, with `EAGAIN`, when
/// the front end replaces the eventfd between the worker's wake-up and its read; and a blocking
/// eventfd would hang the worker in the same place. So would a call descriptor that blocks, as the
/// pipe of user-mode Linux does when it is full.
#[derive(Clone)]
pub struct Vring<M: GuestAddressSpace> {
    inner: VringRwLock<M>,
    entries: Arc<AtomicU16>,
    base: Arc<Mutex<Base>>,
}

/// Where a ring was last started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Number of the start; wraps.
    pub start: u32,
    /// Available entries taken before it, or since, as far as the worker has reported.
    pub next_avail: u16,
}

impl<M: GuestAddressSpace + 'static> Vring<M> {
    /// Entries, as the front end has said, possible or not.
    pub fn entries(&self) -> u16 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Where the ring was last started.
    pub fn base(&self) -> Base {
        *self.lock()
    }

    /// The worker has taken available entries up to `base.next_avail` since `base.start`.
    pub fn report(&self, base: Base) {
        let mut current = self.lock();
        if current.start == base.start && current.next_avail != base.next_avail {
            current.next_avail = base.next_avail;
            self.inner.set_queue_next_avail(base.next_avail);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a descriptor of the front end's non-blocking. One that refuses this is found out when it
/// is used.
fn unblock(file: Option<&File>) {
    if let Some(file) = file
        && let Ok(flags) = fcntl(file.as_fd(), FcntlArg::F_GETFL)
    {
        let _ = fcntl(
            file.as_fd(),
            FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK),
        );
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
        unblock(file.as_ref());
        self.inner.set_kick(file);
    }

    fn new(mem: M, max_queue_size: u16) -> Result<Self, Error> {
        let entries = Arc::new(AtomicU16::new(max_queue_size));
        VringRwLock::new(mem, max_queue_size).map(|inner| Self {
            inner,
            entries,
            base: Arc::default(),
        })
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
    }

    fn set_queue_info(
        &self,
        desc_table: u64,
        avail_ring: u64,
        used_ring: u64,
    ) -> Result<(), Error> {
        self.inner.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.inner.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        let mut current = self.lock();
        *current = Base { start: current.start.wrapping_add(1), next_avail: base };
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
    }

    fn set_call(&self, file: Option<File>) {
        let line = file.is_some();
        unblock(file.as_ref());
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

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daemon's view of a queue, with one rule of its own: a kick that was read by somebody else is no error.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vhost_user_backend::{VringRwLock, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::GuestAddressSpace;

/// [`VringRwLock`], except for kicks.
///
/// The daemon ends a worker, silently, when reading a kick fails. It does fail, with `EAGAIN`, when the front end replaces the
/// eventfd between the worker's wake-up and its read; and a blocking eventfd would hang the worker in the same place.
#[derive(Clone)]
pub struct Vring<M: GuestAddressSpace>(VringRwLock<M>);

impl<'a, M: GuestAddressSpace + 'a> VringStateGuard<'a, M> for Vring<M> {
    type G = <VringRwLock<M> as VringStateGuard<'a, M>>::G;
}

impl<'a, M: GuestAddressSpace + 'a> VringStateMutGuard<'a, M> for Vring<M> {
    type G = <VringRwLock<M> as VringStateMutGuard<'a, M>>::G;
}

impl<M: GuestAddressSpace + 'static> VringT<M> for Vring<M> {
    fn read_kick(&self) -> io::Result<bool> {
        match self.0.read_kick() {
            Err(_) => Ok(self.0.get_ref().is_enabled()),
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
        self.0.set_kick(file);
    }

    fn new(mem: M, max_queue_size: u16) -> Result<Self, Error> {
        VringRwLock::new(mem, max_queue_size).map(Self)
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, M>>::G {
        self.0.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, M>>::G {
        self.0.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.0.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.0.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.0.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.0.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.0.set_enabled(enabled);
    }

    fn set_queue_info(&self, desc_table: u64, avail_ring: u64, used_ring: u64) -> Result<(), Error> {
        self.0.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.0.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.0.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.0.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.0.set_queue_size(num);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.0.set_queue_ready(ready);
    }

    fn set_call(&self, file: Option<File>) {
        self.0.set_call(file);
    }

    fn set_err(&self, file: Option<File>) {
        self.0.set_err(file);
    }
}

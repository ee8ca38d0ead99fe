// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver's side of a virtqueue, written from the specification and from nothing in the device.

use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

pub struct DriverQueue {
    pub memory: GuestMemoryMmap,
    pub size: u16,
    /// Guest physical addresses.
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    pub kick: EventFd,
    pub call: EventFd,
    pub event_idx: bool,
    pub next_avail: u16,
    pub next_used: u16,
    free: Vec<u16>,
    chains: HashMap<u16, Vec<u16>>,
}

impl DriverQueue {
    /// An empty ring at `base`, which is 16 KiB aligned, that starts at index `start`.
    pub fn new(
        memory: &GuestMemoryMmap,
        base: u64,
        size: u16,
        event_idx: bool,
        start: u16,
    ) -> Self {
        let queue = Self {
            memory: memory.clone(),
            size,
            descriptors: base,
            available: base + 0x4000,
            used: base + 0x5000,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            call: EventFd::new(EFD_NONBLOCK).unwrap(),
            event_idx,
            next_avail: start,
            next_used: start,
            free: (0..size).rev().collect(),
            chains: HashMap::new(),
        };
        memory.write_slice(&vec![0; 0x8000], GuestAddress(base)).unwrap();
        queue.store(queue.available + 2, start);
        queue.store(queue.used + 2, start);
        queue.set_used_event(start);
        queue
    }

    pub fn store(&self, address: u64, value: u16) {
        self.memory.store(value, GuestAddress(address), Ordering::Release).unwrap();
    }

    pub fn load(&self, address: u64) -> u16 {
        self.memory.load(GuestAddress(address), Ordering::Acquire).unwrap()
    }

    pub fn write_descriptor(&self, table: u64, index: u16, descriptor: Descriptor) {
        self.memory.write_obj(descriptor, GuestAddress(table + 16 * u64::from(index))).unwrap();
    }

    /// Makes a chain available without a kick. Buffers: address, length, device-writable.
    pub fn add(&mut self, buffers: &[(u64, u32, bool)]) -> u16 {
        let descriptors: Vec<u16> =
            buffers.iter().map(|_| self.free.pop().expect("the ring is full")).collect();
        for (i, &(address, len, writable)) in buffers.iter().enumerate() {
            let next = descriptors.get(i + 1).copied();
            let flags = if next.is_some() { NEXT } else { 0 } | if writable { WRITE } else { 0 };
            let descriptor = Descriptor::new(address, len, flags, next.unwrap_or(0));
            self.write_descriptor(self.descriptors, descriptors[i], descriptor);
        }
        let head = descriptors[0];
        self.chains.insert(head, descriptors);
        self.make_available(head);
        head
    }

    /// The same with an indirect table at `table`.
    pub fn add_indirect(&mut self, table: u64, buffers: &[(u64, u32, bool)]) -> u16 {
        for (i, &(address, len, writable)) in buffers.iter().enumerate() {
            let last = i + 1 == buffers.len();
            let flags = if last { 0 } else { NEXT } | if writable { WRITE } else { 0 };
            self.write_descriptor(
                table,
                i as u16,
                Descriptor::new(address, len, flags, i as u16 + 1),
            );
        }
        let head = self.free.pop().expect("the ring is full");
        let descriptor = Descriptor::new(table, 16 * buffers.len() as u32, INDIRECT, 0);
        self.write_descriptor(self.descriptors, head, descriptor);
        self.chains.insert(head, vec![head]);
        self.make_available(head);
        head
    }

    pub fn make_available(&mut self, head: u16) {
        self.store(self.available + 4 + 2 * u64::from(self.next_avail % self.size), head);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.store(self.available + 2, self.next_avail);
    }

    pub fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Takes a used entry: head, bytes written.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        if self.load(self.used + 2) == self.next_used {
            return None;
        }
        let entry = GuestAddress(self.used + 4 + 8 * u64::from(self.next_used % self.size));
        let [head, len]: [u32; 2] = self.memory.read_obj(entry).unwrap();
        self.next_used = self.next_used.wrapping_add(1);
        if let Some(descriptors) = self.chains.remove(&(head as u16)) {
            self.free.extend(descriptors);
        }
        Some((head as u16, len))
    }

    /// Asks for an interrupt with the next used entry, or for none until `index`.
    pub fn set_used_event(&self, index: u16) {
        self.store(self.available + 4 + 2 * u64::from(self.size), index);
        fence(Ordering::SeqCst);
    }

    pub fn set_available_flags(&self, flags: u16) {
        self.store(self.available, flags);
        fence(Ordering::SeqCst);
    }

    /// Whether the device wants to be kicked for the next entry.
    pub fn wants_kick(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.event_idx {
            self.load(self.used + 4 + 8 * u64::from(self.size)) == self.next_avail
        } else {
            self.load(self.used) & 1 == 0
        }
    }

    /// Interrupts raised since the last call.
    pub fn interrupts(&self) -> u64 {
        self.call.read().unwrap_or(0)
    }
}

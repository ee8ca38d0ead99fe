// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A split virtqueue (virtio 1.x, 2.7), served in *sessions*.
//!
//! A [`Ring`] borrows every part of the ring from a snapshot of guest memory, for as long as the
//! worker is awake; what has to outlive that is in [`RingState`]. The guest's index is read once a
//! batch, checked, and the copy is used. Used entries are staged and become visible together, by
//! [`Ring::publish`]. Completions are in order.

use std::sync::atomic::{AtomicU16, Ordering, fence};

use thiserror::Error;
use tsnic_core::path::Gate;
use tsnic_core::stall::Wish;
use virtio_bindings::bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Le16, Le64, VolatileArrayRef};

use super::chain::{Chain, ChainError, ChainRules};
use super::index::{Index, MAX_RING_SIZE, RingSize, interrupt_wish, passes, pending};
use super::memory::{GuestView, MemoryError};

#[cfg(test)]
mod tests;

/// Descriptors of one ring that are read in one session, the last chain's beyond it. A guest
/// chooses how long its chains are, so chains and frames say little about how long the worker is at
/// it; an honest guest does not come near.
pub const DESCRIPTOR_BUDGET: u32 = 16 * MAX_RING_SIZE as u32;

/// Why a ring can be served no longer: the guest has broken it, and only a reset makes it whole.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// The number of entries is impossible.
    #[error("A ring has {entries} entries, not a power of two up to {MAX_RING_SIZE}")]
    Size {
        /// What the driver has set.
        entries: u16,
    },
    /// A part of the ring is not aligned as it must be.
    #[error("{part} of the ring at {address:#x} is not aligned to {alignment} bytes")]
    Alignment {
        /// Which.
        part: &'static str,
        /// Its guest physical address.
        address: u64,
        /// Bytes.
        alignment: u64,
    },
    /// A part of the ring is not guest memory, or not aligned in this process.
    #[error("{part} of the ring is out of place")]
    Layout {
        /// Which.
        part: &'static str,
        /// Where.
        source: MemoryError,
    },
    /// The available index went on by more than the ring holds.
    #[error("Available index {available} is more than {size} ahead of {taken}")]
    Available {
        /// The guest's index.
        available: Index,
        /// Entries taken so far.
        taken: Index,
        /// Entries of the ring.
        size: u16,
    },
    /// A chain is malformed.
    #[error("Chain at descriptor {head} is malformed")]
    Chain {
        /// Its first descriptor.
        head: u16,
        /// What is wrong.
        source: ChainError,
    },
    /// A chain on a receive queue has readable buffers, or too little room for the header.
    #[error("Chain at descriptor {head} is no receive buffer")]
    NoReceiveBuffer {
        /// Its first descriptor.
        head: u16,
    },
}

/// Where a ring is, and how it is to be treated: constant from its start to its stop. What a driver
/// has set is not checked before [`Ring::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Entries.
    pub entries: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring (driver page).
    pub available: u64,
    /// Guest physical address of the used ring (device page).
    pub used: u64,
    /// `VIRTIO_RING_F_EVENT_IDX` was negotiated.
    pub event_idx: bool,
    /// `VIRTIO_RING_F_INDIRECT_DESC` was negotiated.
    pub indirect: bool,
}

/// How far a ring has been served: what outlives a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// Available entries taken.
    pub next_avail: Index,
    /// Used entries published.
    pub next_used: Index,
    /// [`RingState::next_used`] when an interrupt was last raised, or found not to be needed;
    /// `None` when that is not known.
    pub signal_used: Option<Index>,
}

impl RingState {
    /// The state of a ring that starts at these indices.
    #[must_use]
    pub const fn starting_at(next_avail: Index, next_used: Index) -> Self {
        Self { next_avail, next_used, signal_used: None }
    }
}

/// A split virtqueue in a session.
pub struct Ring<'m> {
    config: RingConfig,
    size: RingSize,
    state: RingState,
    /// Used entries staged but not published.
    staged: u16,
    /// Available entries known to be there and not taken.
    ready: u16,
    /// Descriptors read in this session.
    walked: u32,
    descriptor_table: VolatileArrayRef<'m, Descriptor>,
    available_flags: &'m AtomicU16,
    available_index: &'m AtomicU16,
    available_entries: VolatileArrayRef<'m, Le16>,
    used_event: &'m AtomicU16,
    used_flags: &'m AtomicU16,
    used_index: &'m AtomicU16,
    /// `struct virtq_used_elem`: head in the low half, length in the high half.
    used_entries: VolatileArrayRef<'m, Le64>,
    available_event: &'m AtomicU16,
}

impl<'m> Ring<'m> {
    /// Starts a session of a ring that runs.
    ///
    /// # Errors
    /// When a part of the ring is not aligned guest memory, or there cannot be so many entries.
    pub fn open(
        view: &GuestView<'m>,
        config: RingConfig,
        state: RingState,
    ) -> Result<Self, RingError> {
        let size =
            RingSize::new(config.entries).ok_or(RingError::Size { entries: config.entries })?;
        let entries = size.entries();
        let layout = |part| move |source| RingError::Layout { part, source };
        for (part, address, alignment) in [
            ("Descriptor table", config.descriptors, 16),
            ("Available ring", config.available, 2),
            ("Used ring", config.used, 4),
        ] {
            if !address.is_multiple_of(alignment) {
                return Err(RingError::Alignment { part, address, alignment });
            }
        }
        let available = |offset| {
            view.atomic(config.available.wrapping_add(offset)).map_err(layout("Available ring"))
        };
        let used =
            |offset| view.atomic(config.used.wrapping_add(offset)).map_err(layout("Used ring"));
        Ok(Self {
            config,
            size,
            state,
            staged: 0,
            ready: 0,
            walked: 0,
            descriptor_table: view
                .array(config.descriptors, entries)
                .map_err(layout("Descriptor table"))?,
            available_flags: available(0)?,
            available_index: available(2)?,
            available_entries: view
                .array(config.available.wrapping_add(4), entries)
                .map_err(layout("Available ring"))?,
            used_event: available(4 + 2 * entries as u64)?,
            used_flags: used(0)?,
            used_index: used(2)?,
            used_entries: view
                .array(config.used.wrapping_add(4), entries)
                .map_err(layout("Used ring"))?,
            available_event: used(4 + 8 * entries as u64)?,
        })
    }

    /// Starts a ring from the available index it was given and the used index that its memory
    /// holds.
    ///
    /// # Errors
    /// When a part of the ring is not aligned guest memory, or there cannot be so many entries.
    pub fn start(
        view: &GuestView<'m>,
        config: RingConfig,
        next_avail: Index,
    ) -> Result<Self, RingError> {
        let mut ring = Self::open(view, config, RingState::starting_at(next_avail, Index(0)))?;
        ring.state.next_used = Index(u16::from_le(ring.used_index.load(Ordering::Relaxed)));
        Ok(ring)
    }

    /// What has to outlive the session. Staged entries that were never published are forgotten.
    #[must_use]
    pub const fn state(&self) -> RingState {
        let mut state = self.state;
        state.next_used = self.published();
        state
    }

    /// Entries of the ring.
    #[must_use]
    pub const fn size(&self) -> RingSize {
        self.size
    }

    /// Available entries not yet taken.
    ///
    /// # Errors
    /// When the guest's index claims more than the ring holds.
    pub fn ready(&mut self) -> Result<u16, RingError> {
        if self.ready == 0 {
            // Acquire: the entries and descriptors behind the index are read after it.
            let available = Index(u16::from_le(self.available_index.load(Ordering::Acquire)));
            let taken = self.state.next_avail;
            self.ready = pending(available, taken, self.size).ok_or(RingError::Available {
                available,
                taken,
                size: self.size.get(),
            })?;
        }
        Ok(self.ready)
    }

    /// Takes the next available chain into `chain`; false when there is none.
    ///
    /// # Errors
    /// When the ring is broken. A malformed chain counts as taken.
    pub fn pop(&mut self, view: &GuestView<'m>, chain: &mut Chain<'m>) -> Result<bool, RingError> {
        if self.ready()? == 0 {
            return Ok(false);
        }
        let head = u16::from(self.available_entries.load(self.state.next_avail.slot(self.size)));
        self.state.next_avail = self.state.next_avail.plus(1);
        self.ready -= 1;
        let rules = ChainRules { size: self.size, indirect: self.config.indirect };
        let walked = chain.walk(view, self.descriptor_table, head, rules);
        self.walked += chain.descriptors;
        walked.map_err(|source| RingError::Chain { head, source })?;
        Ok(true)
    }

    /// The ring has been set up from the start and nothing has ever been made available in it.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.state.next_avail == Index(0) && self.state.next_used == Index(0) && self.ready == 0
    }

    /// Descriptors read in this session. Putting chains back does not give them back.
    #[must_use]
    pub const fn walked(&self) -> u32 {
        self.walked
    }

    /// The session has read as many descriptors as it may: the rest is for the next one, after
    /// whoever waits for the pair.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.walked >= DESCRIPTOR_BUDGET
    }

    /// Puts the `count` chains taken last back, as if they had not been taken.
    pub fn undo_pop(&mut self, count: u16) {
        self.state.next_avail = self.state.next_avail.minus(count);
        self.ready += count;
    }

    /// Stages the used entry of a chain: `len` bytes were written into it.
    pub fn put_used(&mut self, head: u16, len: u32) {
        // More than the ring has entries, from a guest that makes chains available that it has not
        // got back: one would be overwritten before it was visible, and in the end the count would
        // overflow.
        if self.staged == self.size.get() {
            self.publish();
        }
        let entry = u64::from(head) | u64::from(len) << 32;
        self.used_entries.store(self.state.next_used.slot(self.size), entry.into());
        self.state.next_used = self.state.next_used.plus(1);
        self.staged += 1;
    }

    /// The index of the next used entry, staged ones counted.
    #[must_use]
    pub const fn next_used(&self) -> Index {
        self.state.next_used
    }

    /// Makes the staged used entries visible. Returns how many there were.
    pub fn publish(&mut self) -> u16 {
        if self.staged != 0 {
            // Release: buffers, completion records and used entries are written before the index
            // that shows them.
            self.used_index.store(self.state.next_used.0.to_le(), Ordering::Release);
            // Indices wrap: once this one has come round to where an interrupt was last asked about,
            // that says nothing any more.
            let new = self.state.next_used;
            if self.state.signal_used.is_some_and(|old| new.since(old) < self.staged) {
                self.state.signal_used = None;
            }
        }
        std::mem::take(&mut self.staged)
    }

    /// How far the guest is with this ring, as far as its memory tells: the available index, and the
    /// event index or flags.
    #[must_use]
    pub fn guest_cells(&self) -> (u16, u16) {
        let wish = if self.config.event_idx { self.used_event } else { self.available_flags };
        (self.available_index.load(Ordering::Relaxed), wish.load(Ordering::Relaxed))
    }

    /// Index of the first entry that is not published.
    #[must_use]
    pub const fn published(&self) -> Index {
        self.state.next_used.minus(self.staged)
    }

    /// The guest has made more available than was taken.
    #[must_use]
    pub fn has_untaken(&self) -> bool {
        u16::from_le(self.available_index.load(Ordering::Relaxed)) != self.state.next_avail.0
    }

    /// What the guest says of the entries published. Nothing is taken as raised.
    #[must_use]
    pub fn wish(&self) -> Wish {
        if self.config.event_idx {
            let event = Index(u16::from_le(self.used_event.load(Ordering::Relaxed)));
            interrupt_wish(event, self.published(), self.size)
        } else if u16::from_le(self.available_flags.load(Ordering::Relaxed))
            & VRING_AVAIL_F_NO_INTERRUPT as u16
            == 0
        {
            Wish::Unclear
        } else {
            Wish::Off
        }
    }

    /// Whether the guest wants an interrupt for what was published since it was last asked
    /// (2.7.7.2). The interrupt is taken as raised.
    fn needs_notification(&mut self) -> bool {
        let new = self.published();
        let old = self.state.signal_used.replace(new);
        if old == Some(new) {
            return false;
        }
        used_index_before_suppression();
        if self.config.event_idx {
            let event = Index(u16::from_le(self.used_event.load(Ordering::Relaxed)));
            old.is_none_or(|old| passes(event, old, new))
        } else {
            u16::from_le(self.available_flags.load(Ordering::Relaxed))
                & VRING_AVAIL_F_NO_INTERRUPT as u16
                == 0
        }
    }

    /// Interrupts follow other rules for now. When these apply again, the guest is interrupted once
    /// more than need be.
    pub const fn forget_signal_used(&mut self) {
        self.state.signal_used = None;
    }

    /// Asks the guest to kick for what it makes available from now on. True when more came before
    /// the wish could be seen: the caller has to recheck the ring, for no kick may follow.
    ///
    /// # Errors
    /// When the guest's index claims more than the ring holds.
    pub fn enable_notification(&mut self) -> Result<bool, RingError> {
        if self.config.event_idx {
            self.available_event
                .store(self.state.next_avail.plus(self.ready).0.to_le(), Ordering::Relaxed);
        } else {
            self.set_used_flags(0);
        }
        suppression_before_available_index();
        let known = self.ready;
        self.ready = 0;
        Ok(self.ready()? > known)
    }

    /// Lets the guest do without kicks. With `VIRTIO_RING_F_EVENT_IDX` the event index that is left
    /// behind does it.
    pub fn disable_notification(&mut self) {
        if !self.config.event_idx {
            self.set_used_flags(VRING_USED_F_NO_NOTIFY as u16);
        }
    }

    /// Lets kicks through without asking for any in particular.
    pub fn allow_kicks(&mut self) {
        if !self.config.event_idx {
            self.set_used_flags(0);
        }
    }

    fn set_used_flags(&mut self, flags: u16) {
        // The cache line is the guest's to read; it is left alone when it is right already.
        if self.used_flags.load(Ordering::Relaxed) != flags.to_le() {
            self.used_flags.store(flags.to_le(), Ordering::Relaxed);
        }
    }
}

/// The gate of any virtio driver: flags, or the event index.
impl Gate for Ring<'_> {
    fn requested(&self) -> bool {
        self.state.signal_used != Some(self.published())
    }

    fn pass(&mut self) -> bool {
        self.needs_notification()
    }
}

/// Full barrier between publishing the used index and reading whether the guest wants an interrupt.
/// The guest does the reverse, so one of the two sees the other; without it both could miss, and
/// the ring would sleep.
fn used_index_before_suppression() {
    fence(Ordering::SeqCst);
}

/// Full barrier between asking for kicks and reading the available index, for the same reason.
fn suppression_before_available_index() {
    fence(Ordering::SeqCst);
}

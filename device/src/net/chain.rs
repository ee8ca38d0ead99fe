// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptor chains, as a guest that may be hostile has written them.

use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, VolatileArrayRef, VolatileSlice};

use super::index::{MAX_RING_SIZE, RingSize};
use super::memory::{GuestView, MemoryError};

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// A descriptor number is outside of its table.
    #[error("Descriptor {index} is outside of a table of {entries}")]
    Index {
        /// Descriptor number.
        index: u16,
        /// Entries of the table.
        entries: usize,
    },
    /// More descriptors than a chain can have: it runs in a circle, or is too long.
    #[error("Chain has more than {limit} descriptors")]
    Length {
        /// The most there may be.
        limit: u16,
    },
    /// A buffer, or an indirect table, is not guest memory.
    #[error("{} buffer is not guest memory", if *.writable { "Writable" } else { "Readable" })]
    Memory {
        /// The buffer was to be written by the device.
        writable: bool,
        /// Where.
        source: MemoryError,
    },
    /// A readable descriptor follows a writable one.
    #[error("Readable descriptor {index} follows a writable one")]
    Order {
        /// Descriptor number.
        index: u16,
    },
    /// An indirect descriptor without `VIRTIO_RING_F_INDIRECT_DESC`, in an indirect table, or with
    /// a successor.
    #[error("Descriptor {index} is indirect where none may be")]
    Indirect {
        /// Descriptor number.
        index: u16,
    },
    /// An indirect table of no, too many, or broken entries.
    #[error("Indirect table of {bytes} bytes is not 1 to {MAX_RING_SIZE} descriptors")]
    IndirectSize {
        /// Its length.
        bytes: u32,
    },
}

/// One buffer of a chain.
#[derive(Clone)]
pub struct Buffer<'m> {
    /// Guest physical address.
    pub address: u64,
    /// Its bytes; never empty.
    pub slice: VolatileSlice<'m>,
}

/// One chain, every buffer of which has been checked. Meant to be used again and again, for its
/// allocations.
#[derive(Default)]
pub struct Chain<'m> {
    /// Number of its first descriptor: how it is given back.
    pub head: u16,
    /// Buffers the device may read.
    pub readable: Vec<Buffer<'m>>,
    /// Buffers the device may write; they come after the readable ones.
    pub writable: Vec<Buffer<'m>>,
    /// Descriptors read to find all this out, or what is wrong with it.
    pub(super) descriptors: u32,
}

/// What a chain may look like.
#[derive(Clone, Copy)]
pub(super) struct ChainRules {
    pub size: RingSize,
    pub indirect: bool,
}

impl<'m> Chain<'m> {
    /// Replaces this chain by the one that starts at `head`. Each descriptor is read exactly once.
    pub(super) fn walk(
        &mut self,
        view: &GuestView<'m>,
        table: VolatileArrayRef<'m, Descriptor>,
        head: u16,
        rules: ChainRules,
    ) -> Result<(), ChainError> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        self.descriptors = 0;
        let (mut table, mut index) = (table, head);
        // A chain in the ring itself is no longer than the ring. The specification says so for
        // indirect ones too, but drivers on very small rings exceed it.
        let (mut limit, mut taken, mut inside) = (rules.size.get(), 0, false);
        loop {
            if usize::from(index) >= table.len() {
                return Err(ChainError::Index { index, entries: table.len() });
            }
            if taken == limit {
                return Err(ChainError::Length { limit });
            }
            taken += 1;
            self.descriptors += 1;
            let descriptor = table.load(index.into());
            let (address, len) = (descriptor.addr().0, descriptor.len());
            if descriptor.refers_to_indirect_table() {
                if inside || !rules.indirect || descriptor.has_next() {
                    return Err(ChainError::Indirect { index });
                }
                let entries = len as usize / size_of::<Descriptor>();
                if !(len as usize).is_multiple_of(size_of::<Descriptor>())
                    || entries == 0
                    || entries > MAX_RING_SIZE.into()
                {
                    return Err(ChainError::IndirectSize { bytes: len });
                }
                table = view
                    .array(address, entries)
                    .map_err(|source| ChainError::Memory { writable: false, source })?;
                (limit, taken, index, inside) = (MAX_RING_SIZE, 0, 0, true);
                continue;
            }
            let writable = descriptor.is_write_only();
            if !writable && !self.writable.is_empty() {
                return Err(ChainError::Order { index });
            }
            if len != 0 {
                let slice = view
                    .slice(address, len as usize)
                    .map_err(|source| ChainError::Memory { writable, source })?;
                let side = if writable { &mut self.writable } else { &mut self.readable };
                side.push(Buffer { address, slice });
            }
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_len(&self) -> usize {
        total(&self.readable)
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_len(&self) -> usize {
        total(&self.writable)
    }

    /// Copies from the readable part, `skip` bytes in, to `target`. What the chain is too short for
    /// stays as it was.
    pub fn read(&self, skip: usize, target: &mut [u8]) {
        each_piece(&self.readable, skip, target.len(), |slice, at, done, len| {
            slice.read(&mut target[done..done + len], at).unwrap_or(0)
        });
    }

    /// Copies as much of `source` as there is room for into the writable part, `skip` bytes in.
    /// Returns the bytes copied.
    #[must_use]
    pub fn write(&self, skip: usize, source: &[u8]) -> usize {
        each_piece(&self.writable, skip, source.len(), |slice, at, done, len| {
            slice.write(&source[done..done + len], at).unwrap_or(0)
        })
    }
}

fn total(buffers: &[Buffer<'_>]) -> usize {
    // At most MAX_RING_SIZE buffers of less than 4 GiB: no overflow on the 64-bit hosts this runs
    // on.
    buffers.iter().map(|buffer| buffer.slice.len()).sum()
}

/// Calls `copy(slice, offset in slice, bytes done so far, bytes to do)` for each piece of the `len`
/// bytes that lie `skip` bytes into `buffers`.
fn each_piece(
    buffers: &[Buffer<'_>],
    mut skip: usize,
    len: usize,
    mut copy: impl FnMut(&VolatileSlice<'_>, usize, usize, usize) -> usize,
) -> usize {
    let mut done = 0;
    for buffer in buffers {
        let here = buffer.slice.len();
        if skip >= here {
            skip -= here;
            continue;
        }
        let piece = (here - skip).min(len - done);
        if piece == 0 {
            break;
        }
        done += copy(&buffer.slice, skip, done, piece);
        skip = 0;
    }
    done
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory as one session sees it.

use std::cell::Cell;

use thiserror::Error;
use vm_memory::{
    AtomicInteger, ByteValued, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap,
    GuestMemoryRegion as _, GuestRegionMmap, VolatileArrayRef, VolatileMemory as _, VolatileSlice,
};

/// A range that is not guest memory in one piece.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{len} bytes at guest address {address:#x} are not guest memory in one piece")]
pub struct MemoryError {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// Bytes.
    pub len: usize,
}

/// Guest memory, borrowed for one session from a snapshot of the memory table that the caller keeps
/// alive.
///
/// Remembers the region of the latest access: buffers of one ring nearly always lie in one.
pub struct GuestView<'m> {
    memory: &'m GuestMemoryMmap,
    latest: Cell<Option<&'m GuestRegionMmap>>,
}

impl<'m> GuestView<'m> {
    /// A view of `memory`.
    #[must_use]
    pub const fn new(memory: &'m GuestMemoryMmap) -> Self {
        Self { memory, latest: Cell::new(None) }
    }

    /// The region that holds `len` bytes from guest physical `address` on, and where in it they
    /// start.
    fn find(&self, address: u64, len: usize) -> Result<(&'m GuestRegionMmap, usize), MemoryError> {
        let start = GuestAddress(address);
        let region = match self.latest.get() {
            Some(region) if region.to_region_addr(start).is_some() => region,
            _ => self.memory.find_region(start).ok_or(MemoryError { address, len })?,
        };
        self.latest.set(Some(region));
        let offset = region.to_region_addr(start).ok_or(MemoryError { address, len })?;
        // A region is mapped into this process, so an offset inside it fits.
        Ok((region, offset.0 as usize))
    }

    /// `len` bytes from guest physical `address` on.
    ///
    /// # Errors
    /// When they are not all inside one region. A buffer across two adjoining regions is refused
    /// too: no allocator of a guest hands one out, because regions are separate NUMA nodes or lie
    /// on the two sides of the PCI hole.
    pub fn slice(&self, address: u64, len: usize) -> Result<VolatileSlice<'m>, MemoryError> {
        let (region, offset) = self.find(address, len)?;
        (**region).get_slice(offset, len).map_err(|_| MemoryError { address, len })
    }

    /// An array of `entries` from guest physical `address` on.
    ///
    /// # Errors
    /// When it is not all inside one region.
    pub fn array<T: ByteValued>(
        &self,
        address: u64,
        entries: usize,
    ) -> Result<VolatileArrayRef<'m, T>, MemoryError> {
        let len = entries.saturating_mul(size_of::<T>());
        let (region, offset) = self.find(address, len)?;
        (**region).get_array_ref(offset, entries).map_err(|_| MemoryError { address, len })
    }

    /// An atomic cell at guest physical `address`.
    ///
    /// # Errors
    /// When it is outside of the memory, or not aligned.
    pub fn atomic<T: AtomicInteger>(&self, address: u64) -> Result<&'m T, MemoryError> {
        let len = size_of::<T>();
        let (region, offset) = self.find(address, len)?;
        (**region).get_atomic_ref(offset).map_err(|_| MemoryError { address, len })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn only_ranges_inside_one_region_are_given_out() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[
            (GuestAddress(0x1000), 0x1000),
            (GuestAddress(0x4000), 0x1000),
        ])
        .unwrap();
        let view = GuestView::new(&memory);
        assert_eq!(view.slice(0x1000, 0x1000).unwrap().len(), 0x1000);
        assert_eq!(view.slice(0x4ff0, 0x10).unwrap().len(), 0x10);
        assert_eq!(view.slice(0x1ff0, 0x10).unwrap().len(), 0x10);
        assert_eq!(view.array::<u64>(0x4008, 0x1ff).unwrap().len(), 0x1ff);
        assert!(
            view.array::<u64>(0x4008, 0x200).is_err()
                && view.array::<u64>(0x4008, usize::MAX).is_err()
        );
        assert!(
            view.atomic::<AtomicU32>(0x1ffc).is_ok() && view.atomic::<AtomicU32>(0x1ffe).is_err()
        );
        for (address, len) in
            [(0xfff, 1), (0x1fff, 2), (0x3000, 1), (u64::MAX, 2), (0x1000, usize::MAX)]
        {
            assert_eq!(view.slice(address, len).unwrap_err(), MemoryError { address, len });
        }
    }
}

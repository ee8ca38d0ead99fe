// SPDX-License-Identifier: GPL-2.0-only
//! An owned packet.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::sys::{self, SkbRef};

/// A packet that nobody else owns. Dropping it frees it as dropped (`dev_kfree_skb_any()`, any context).
///
/// # Invariants
/// The handle is of a live skb, owned by this value.
pub struct Skb(SkbRef<'static>);

impl Skb {
    /// Takes an skb over; None for NULL.
    ///
    /// # Safety
    /// `raw` is NULL, or a live skb that the caller owns and gives up.
    pub unsafe fn from_raw(raw: *mut c_void) -> Option<Self> {
        // SAFETY: Live until this value gives it up, as the caller promises.
        NonNull::new(raw.cast()).map(|raw| Self(unsafe { SkbRef::from_raw(raw) }))
    }

    /// The handle, still owned by this value.
    pub fn handle(&self) -> SkbRef<'_> {
        self.0
    }

    /// Gives the skb up: the caller sees to it that it is freed.
    pub fn into_handle(self) -> SkbRef<'static> {
        ManuallyDrop::new(self).0
    }

    /// Copies the first `N` bytes of the linear data. They may be in memory that the device can write: each is read once.
    ///
    /// # Safety
    /// The linear room (filled or not) has `N` bytes.
    pub unsafe fn first<const N: usize>(&self) -> [u8; N] {
        // SAFETY: The invariant, and the caller's promise; volatile, because somebody else may be writing.
        unsafe { ptr::read_volatile(sys::glue_skb_data(self.0).cast()) }
    }
}

impl Drop for Skb {
    fn drop(&mut self) {
        // SAFETY: Owned by this value, which is going.
        unsafe { sys::glue_skb_free(self.0) }
    }
}

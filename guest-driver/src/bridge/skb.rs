// SPDX-License-Identifier: GPL-2.0-only
//! An owned packet.

use core::ffi::{c_int, c_uint, c_void};
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::sys::{self, NapiRef, NicRef, sk_buff};
use crate::header::Partial;
use crate::tx::Wish;

/// A packet that nobody else owns. Dropping it frees it as dropped (`dev_kfree_skb_any()`, any
/// context).
///
/// # Invariants
/// The pointer is of a live skb, owned by this value.
pub struct Skb(NonNull<sk_buff>);

impl Skb {
    /// Takes an skb over; None for NULL.
    ///
    /// # Safety
    /// `raw` is NULL, or a live skb that the caller owns and gives up.
    pub unsafe fn from_raw(raw: *mut c_void) -> Option<Self> {
        NonNull::new(raw.cast()).map(Self)
    }

    /// A new one with `length` bytes of linear room; None without memory.
    pub fn alloc(nic: NicRef<'_>, length: usize) -> Option<Self> {
        NonNull::new(sys::glue_skb_alloc(nic, length as c_uint)).map(Self)
    }

    /// The pointer, still owned by this value.
    pub fn as_ptr(&mut self) -> *mut sk_buff {
        self.0.as_ptr()
    }

    /// Gives the skb up: the caller sees to it that it is freed.
    pub fn into_raw(self) -> *mut sk_buff {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// Copies the first `N` bytes of the linear data. They may be in memory that the device can
    /// write: each is read once.
    ///
    /// # Safety
    /// The linear room (filled or not) has `N` bytes.
    pub unsafe fn first<const N: usize>(&self) -> [u8; N] {
        // SAFETY:
        // 1. Live, by the invariant; `N` bytes, as the caller promises.
        // 2. Volatile, because the device may be writing.
        unsafe { ptr::read_volatile(sys::glue_skb_data(self.0.as_ptr()).cast()) }
    }

    /// Bytes of the packet.
    pub fn len(&self) -> u32 {
        // SAFETY: Live, by the invariant.
        unsafe { sys::glue_skb_len(self.0.as_ptr()) }
    }

    /// Makes `length` bytes of the linear room the packet, without the first `pull`.
    ///
    /// # Safety
    /// 1. The packet is empty and its linear room has `length` bytes.
    /// 2. `pull` is at most `length`.
    pub unsafe fn put_pull(&mut self, length: usize, pull: usize) {
        // SAFETY: Owned, by the invariant; the rest is the caller's promise.
        unsafe { sys::glue_skb_put_pull(self.0.as_ptr(), length as c_uint, pull as c_uint) }
    }

    /// The device has checked the checksum.
    pub fn checksum_valid(&mut self) {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_csum_valid(self.0.as_ptr()) }
    }

    /// The checksum is to be filled in; false when it is outside of the linear data.
    pub fn checksum_partial(&mut self, at: Partial) -> bool {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_csum_partial(self.0.as_ptr(), at.start, at.offset) }
    }

    /// The hardware receive timestamp, device clock, ns.
    pub fn set_hwtstamp(&mut self, ns: u64) {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_hwtstamp(self.0.as_ptr(), ns) }
    }

    /// Gives a received packet to the stack.
    ///
    /// # Safety
    /// 1. The linear data has an Ethernet header.
    /// 2. The caller is the poll of `napi`, an instance of `nic`.
    pub unsafe fn receive(mut self, nic: NicRef<'_>, napi: NapiRef<'_>) {
        // SAFETY: Owned, by the invariant, and given up by the second; the rest is the caller's
        // promise.
        unsafe {
            sys::glue_skb_type(nic, self.as_ptr());
            sys::glue_gro_receive(napi, self.into_raw());
        }
    }

    /// What the stack asks for with a packet to be sent.
    pub fn wish(&self) -> Wish {
        let mut wish = sys::TxWish::default();
        // SAFETY: Live, by the invariant.
        unsafe { sys::glue_skb_wish(self.0.as_ptr(), &mut wish) };
        Wish {
            checksum: wish
                .csum
                .then_some(Partial { start: wish.csum_start, offset: wish.csum_offset }),
            timestamp: wish.hwtstamp,
        }
    }

    /// Notes whether a hardware transmit timestamp is to come. In transmission, once.
    pub fn promise_stamp(&mut self, promised: bool) {
        // SAFETY: Owned, by the invariant; the control block is the driver's during transmission.
        unsafe { sys::glue_skb_stamp_soon(self.0.as_ptr(), promised) }
    }

    /// The stack's own transmit timestamp.
    pub fn stamp_soft(&mut self) {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_stamp_soft(self.0.as_ptr()) }
    }

    /// What [`Skb::promise_stamp`] noted.
    pub fn stamp_due(&self) -> bool {
        // SAFETY: Live, by the invariant.
        unsafe { sys::glue_skb_stamp_due(self.0.as_ptr()) }
    }

    /// Reports the hardware transmit timestamp, device clock, ns. Not in hard interrupt context.
    pub fn stamped(&mut self, ns: u64) {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_stamped(self.0.as_ptr(), ns) }
    }

    /// The promised timestamp will not come. Not in hard interrupt context.
    pub fn unstamped(&mut self) {
        // SAFETY: Owned, by the invariant.
        unsafe { sys::glue_skb_unstamped(self.0.as_ptr()) }
    }

    /// Frees a packet that was sent.
    ///
    /// # Safety
    /// `budget` is that of the poll in which the caller is, or 0 outside of one.
    pub unsafe fn consume(self, budget: c_int) {
        // SAFETY: Owned, by the invariant, and given up; the budget is as the caller promises.
        unsafe { sys::glue_skb_consume(self.into_raw(), budget) }
    }
}

impl Drop for Skb {
    fn drop(&mut self) {
        // SAFETY: Owned by this value, which is going.
        unsafe { sys::glue_skb_free(self.0.as_ptr()) }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The receive queue, on the kernel.

use core::ffi::c_uint;
use core::ptr;

use super::params::BEHAVIOUR;
use super::skb::Skb;
use super::sys::{self, NicRef, QueueRef, sk_buff};
use crate::behaviour::Behaviour;
use crate::header::{self, Checksum};
use crate::queue_page;
use crate::rx::{BUFFER_LEN, Notes, RxPort};

/// The receive queue in the hands of its one user.
///
/// # Invariants
/// No other value of this type for the same interface is in use: its user owns `SCHED` of the
/// receive NAPI, or the NAPI is disabled.
pub struct RxKernel<'a> {
    nic: NicRef<'a>,
    vq: QueueRef<'a>,
}

/// A frame that is being put together: its first buffer, to whose fragment list the others go.
pub struct Frame {
    head: Skb,
    /// The last of the others, or NULL. Owned by `head`.
    tail: *mut sk_buff,
}

impl<'a> RxKernel<'a> {
    /// # Safety
    /// The type's invariant, for as long as the value lives; after `glue_find_vqs()`.
    pub unsafe fn new(nic: NicRef<'a>) -> Self {
        // SAFETY: The caller's promise.
        Self { nic, vq: unsafe { sys::glue_rx_vq(nic) } }
    }
}

impl RxPort for RxKernel<'_> {
    type Buffer = Skb;
    type Frame = Frame;

    fn pop(&mut self) -> Option<(Skb, u32)> {
        let mut length: c_uint = 0;
        // SAFETY: The only user, by the invariant.
        let token = unsafe { sys::virtqueue_get_buf(self.vq, &raw mut length) };
        // SAFETY: Only `push` puts tokens into this ring, each an skb that the ring then owns and
        // has just given back.
        unsafe { Skb::from_raw(token) }.map(|skb| (skb, length))
    }

    fn room(&self) -> u32 {
        // SAFETY: The only user, by the invariant.
        let free = unsafe { sys::glue_num_free(self.vq) };
        queue_page::room(free, sys::glue_ring_size(self.vq), tsnic_abi::RX_RECORDS)
    }

    fn allocate(&mut self) -> Option<Skb> {
        Skb::alloc(self.nic, BUFFER_LEN)
    }

    fn push(&mut self, mut buffer: Skb) -> bool {
        // SAFETY:
        // 1. The only user, by the invariant.
        // 2. Every buffer was made by `allocate`, so it has `BUFFER_LEN` bytes.
        let pushed =
            unsafe { sys::glue_add_in(self.vq, buffer.as_ptr(), BUFFER_LEN as c_uint) } == 0;
        if pushed {
            // The ring's now.
            let _ = buffer.into_raw();
        }
        pushed
    }

    fn is_broken(&self) -> bool {
        sys::glue_is_broken(self.vq)
    }

    fn kick(&mut self) {
        // SAFETY: The only user, by the invariant. (False: the queue is broken, and nothing is to
        // be done about it.)
        let _ = unsafe { sys::virtqueue_kick(self.vq) };
    }

    fn notify(&mut self) {
        let _ = sys::virtqueue_notify(self.vq);
    }

    fn header(&self, buffer: &Skb) -> [u8; header::LEN] {
        // SAFETY: A buffer has `BUFFER_LEN` bytes.
        unsafe { buffer.first() }
    }

    fn frame(&mut self, mut buffer: Skb, length: usize) -> Frame {
        // SAFETY: The trait's contract:
        // 1. The buffer is empty so far; `length` is at most `BUFFER_LEN`, which it has.
        // 2. `length` is at least the header's.
        unsafe { buffer.put_pull(length, header::LEN) }
        Frame { head: buffer, tail: ptr::null_mut() }
    }

    fn append(&mut self, frame: &mut Frame, mut buffer: Skb, length: usize) {
        // SAFETY:
        // 1. The buffer is empty so far; `length` is at most `BUFFER_LEN`, which it has.
        // 2. The head owns the part from here on; `tail` is the last part before.
        unsafe {
            buffer.put_pull(length, 0);
            sys::glue_skb_chain(frame.head.as_ptr(), &raw mut frame.tail, buffer.into_raw());
        }
    }

    fn deliver(&mut self, frame: Frame, notes: Notes) -> bool {
        let mut skb = frame.head;
        match notes.checksum {
            Checksum::Unknown => {}
            Checksum::Valid => skb.checksum_valid(),
            Checksum::Partial(at) => {
                if !skb.checksum_partial(at) {
                    return false;
                }
            }
        }
        if let Some(ns) = notes.timestamp_ns {
            skb.set_hwtstamp(ns);
        }
        // SAFETY:
        // 1. `rx::poll` lets no frame through whose first buffer is shorter than an Ethernet
        //    header.
        // 2. Only the poll delivers.
        unsafe { skb.receive(self.nic, sys::glue_rx_napi(self.nic)) };
        true
    }

    fn disable_callbacks(&mut self) {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_disable_cb(self.vq) }
    }

    fn enable_callbacks(&mut self) -> u32 {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_enable_cb_prepare(self.vq) }
    }

    fn used_since(&self, mark: u32) -> bool {
        // SAFETY: Reads one index, which a poll that has begun meanwhile may be moving; either
        // answer is right then.
        unsafe { sys::virtqueue_poll(self.vq, mark) }
    }

    fn complete(&mut self, work: i32) -> bool {
        // SAFETY: `rx::poll` is the instance's poll, and after this it does no more to the ring
        // than look at its used index.
        unsafe { sys::napi_complete_done(sys::glue_rx_napi(self.nic), work) }
    }

    fn schedule(&mut self) {
        sys::glue_napi_schedule(sys::glue_rx_napi(self.nic));
    }

    fn refill_in(&mut self, ms: u32) {
        sys::glue_refill_in(self.nic, ms);
    }

    fn look_at_link(&mut self) {
        sys::glue_schedule_config_work(self.nic);
    }

    fn behaviour(&self) -> Behaviour {
        BEHAVIOUR.get()
    }
}

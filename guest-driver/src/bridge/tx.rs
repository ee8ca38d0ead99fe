// SPDX-License-Identifier: GPL-2.0-only
//! The transmit queue, on the kernel.

use core::ffi::{c_int, c_uint};
use core::ptr;

use tsnic_abi::Registration;

use super::params::BEHAVIOUR;
use super::skb::Skb;
use super::sys::{self, NicRef, QueueRef};
use crate::behaviour::Behaviour;
use crate::header;
use crate::queue_page;
use crate::tx::{Sent, TxPort, Wish};

/// The transmit queue in the hands of its one user.
///
/// # Invariants
/// The transmit queue's lock is held, bottom halves or hard interrupts off; or nothing can transmit
/// and the transmit NAPI is disabled.
pub struct TxKernel<'a> {
    nic: NicRef<'a>,
    vq: QueueRef<'a>,
    /// The transmit NAPI's budget, 0 outside of its poll.
    budget: c_int,
}

impl<'a> TxKernel<'a> {
    /// # Safety
    /// The type's invariant, for as long as the value lives; after `glue_find_vqs()`; `budget` as
    /// in the type.
    pub unsafe fn new(nic: NicRef<'a>, budget: c_int) -> Self {
        // SAFETY: The caller's promise.
        Self { nic, vq: unsafe { sys::glue_tx_vq(nic) }, budget }
    }
}

impl TxPort for TxKernel<'_> {
    type Frame = Skb;

    fn pop(&mut self) -> Option<Sent<Skb>> {
        let mut length: c_uint = 0;
        // SAFETY: The only user, by the invariant.
        let token = unsafe { sys::virtqueue_get_buf(self.vq, &raw mut length) };
        if !token.is_null() && sys::glue_is_registration(self.nic, token) {
            return Some(Sent::Registration(length));
        }
        // SAFETY: Every other token is an skb that `push` put in, which the ring then owned and has
        // just given back.
        unsafe { Skb::from_raw(token) }.map(Sent::Frame)
    }

    fn ring_size(&self) -> u32 {
        sys::glue_ring_size(self.vq)
    }

    fn room(&self) -> u32 {
        // SAFETY: The only user, by the invariant.
        let free = unsafe { sys::glue_num_free(self.vq) };
        queue_page::room(free, sys::glue_ring_size(self.vq), tsnic_abi::TX_RECORDS)
    }

    fn largest(&self) -> u32 {
        // Header, linear part, fragments; the registration takes two.
        sys::glue_max_skb_frags + 2 + 2
    }

    fn wish(&self, frame: &Skb) -> Wish {
        frame.wish()
    }

    fn length(&self, frame: &Skb) -> u32 {
        frame.len()
    }

    fn promise_timestamp(&self, frame: &mut Skb, promised: bool) {
        frame.promise_stamp(promised);
    }

    fn leaving(&self, frame: &mut Skb) {
        frame.stamp_soft();
    }

    fn push(&mut self, mut frame: Skb, header: [u8; header::LEN]) -> bool {
        let bytes = header.as_ptr().cast();
        // SAFETY: The only user, by the invariant; the header has the length given.
        let added =
            unsafe { sys::glue_add_out(self.nic, frame.as_ptr(), bytes, header::LEN as c_uint) }
                == 0;
        if added {
            // The ring's now.
            let _ = frame.into_raw();
        }
        added
    }

    fn is_broken(&self) -> bool {
        sys::glue_is_broken(self.vq)
    }

    fn look_at_link(&mut self) {
        sys::glue_schedule_config_work(self.nic);
    }

    fn push_registration(&mut self, header: &Registration) -> bool {
        let bytes = ptr::from_ref(header).cast();
        // SAFETY: The only user; `RegistrationState` posts one chain at a time; the interface was
        // made with room for a `Registration`.
        unsafe {
            sys::glue_add_registration(self.nic, bytes, size_of::<Registration>() as c_uint) == 0
        }
    }

    fn awaits_timestamp(&self, frame: &Skb) -> bool {
        frame.stamp_due()
    }

    fn timestamp(&mut self, frame: &mut Skb, ns: u64) {
        frame.stamped(ns);
    }

    fn no_timestamp(&mut self, frame: &mut Skb) {
        frame.unstamped();
    }

    fn free(&mut self, frame: Skb) {
        // SAFETY: The budget is the poll's, or 0, by the type.
        unsafe { frame.consume(self.budget) }
    }

    fn behaviour(&self) -> Behaviour {
        BEHAVIOUR.get()
    }

    fn kick(&mut self) {
        // SAFETY: The only user, by the invariant. (False: the queue is broken, and nothing is to
        // be done about it.)
        let _ = unsafe { sys::virtqueue_kick(self.vq) };
    }

    fn stop_queue(&mut self) {
        sys::glue_queue_stop(self.nic);
    }

    fn wake_queue(&mut self) {
        sys::glue_queue_wake(self.nic);
    }

    fn queue_stopped(&self) -> bool {
        sys::glue_queue_stopped(self.nic)
    }

    fn disable_callbacks(&mut self) {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_disable_cb(self.vq) }
    }

    fn enable_callbacks(&mut self) -> u32 {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_enable_cb_prepare(self.vq) }
    }

    fn enable_callbacks_delayed(&mut self) -> bool {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_enable_cb_delayed(self.vq) }
    }

    fn used_since(&self, mark: u32) -> bool {
        // SAFETY: The only user, by the invariant.
        unsafe { sys::virtqueue_poll(self.vq, mark) }
    }

    fn complete(&mut self) -> bool {
        // SAFETY: Only `Tx::poll` calls it, which only the transmit NAPI's poll calls. What it does
        // afterwards is under the transmit queue's lock, and before the poll returns (see
        // `Started::quiesce`).
        unsafe { sys::napi_complete_done(sys::glue_tx_napi(self.nic), 0) }
    }

    fn schedule(&mut self) {
        sys::glue_napi_schedule(sys::glue_tx_napi(self.nic));
    }

    fn schedule_rx(&mut self) {
        sys::glue_napi_schedule(sys::glue_rx_napi(self.nic));
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! A NAPI instance, for the interrupt handlers.

use core::sync::atomic::AtomicUsize;

use napi_state::Bits;

use super::sys::{self, NapiRef};
use crate::irq::Napi;

impl Napi for NapiRef<'_> {
    fn schedule_prep(&self) -> bool {
        sys::napi_schedule_prep(*self)
    }

    fn state(&self) -> (&AtomicUsize, Bits) {
        // SAFETY: The word is an `unsigned long`, live as long as the instance, and the kernel too
        // only touches it by atomic operations while the instance may be scheduled.
        let state = unsafe { AtomicUsize::from_ptr(sys::glue_napi_state(*self).cast()) };
        (state, Bits::for_v4_10_prep(sys::glue_napi_sched_bit, sys::glue_napi_disable_bit))
    }

    fn schedule(&self) {
        // SAFETY: The trait's contract: the caller has just taken `SCHED`.
        unsafe { sys::__napi_schedule(*self) }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The receive interrupt.

use core::sync::atomic::AtomicUsize;

use napi_state::{Bits, v4_10};

use crate::mode::IrqMode;
use crate::queue_page::QueuePage;
use crate::shared::Shared;
use crate::stats::Stat;

/// A NAPI instance, as an interrupt handler may use it. Every function may be called in hard
/// interrupt context.
pub trait Napi {
    /// The kernel's `napi_schedule_prep()`: true when the caller now owns `SCHED`.
    fn schedule_prep(&self) -> bool;

    /// The kernel's state word, and where its bits are.
    fn state(&self) -> (&AtomicUsize, Bits);

    /// The kernel's `__napi_schedule()`: has it polled. Only the owner of `SCHED`.
    fn schedule(&self);
}

/// The handler of the receive queue's interrupt. Hard interrupt context; not reentrant.
pub fn receive_interrupt(shared: &Shared<'_>, mode: IrqMode, napi: &impl Napi) {
    let page = shared.page();
    // Read before the NAPI is looked at: an interrupt raised after this has a handler run of its
    // own.
    let fired = page.map(QueuePage::fired);
    let taken = match mode {
        IrqMode::V4_11 => napi.schedule_prep(),
        IrqMode::V4_10 => {
            let (state, bits) = napi.state();
            v4_10::schedule_prep(state, bits)
        }
    };
    // At once: a poll on another CPU may be about to arm, and its arm carries what has been seen by
    // then.
    if let (Some(page), Some(fired)) = (page, fired) {
        page.interrupt_seen(fired, shared.note_interrupt(fired, taken));
    }
    if taken {
        napi.schedule();
    }
    let runs = shared.stats.add(Stat::RxIrqs, 1) as u32;
    let runs_owned = shared.stats.add(Stat::RxIrqsOwned, u64::from(!taken)) as u32;
    if let Some(page) = page {
        page.interrupts_counted(runs, runs_owned);
    }
}

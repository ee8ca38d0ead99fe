// SPDX-License-Identifier: GPL-2.0-only
//! `napi_disable()` and `napi_enable()` as they were in 4.10.0 and 4.11. `crate::v6_1` has today's.

use crate::{Napi, Word};

/// Waits until nobody owns the instance, and keeps it. Process context; sleeps.
///
/// | step | word |
/// |---|---|
/// | 1 | `DISABLE` set: nobody takes `SCHED` any more, its owner gives it up sooner or later |
/// | 2 | `SCHED` and `NPSVC` set, each as soon as it is clear |
/// | 3 | `DISABLE` cleared |
///
/// So a disabled instance has `SCHED` and `NPSVC` set and `DISABLE` clear. Whoever leaves `SCHED`
/// set without a poll to come makes this wait for ever.
pub fn disable<N: Napi>(napi: &N) {
    let (word, bits) = (napi.word(), napi.bits());
    word.set(bits.disable_mask());
    for mask in [bits.sched_mask(), bits.npsvc_mask()] {
        while word.test_and_set(mask) {
            napi.relax();
        }
    }
    napi.cancel_watchdog();
    word.clear(bits.disable_mask());
}

/// Gives a disabled instance free. `MISSED` survives, and costs one poll. Any context.
///
/// `SCHED` goes before `NPSVC`: an interrupt between the two takes the instance and cannot complete
/// it, which Linux 5.15 mended. An interrupt that came while the instance was disabled is gone, so
/// a driver schedules the instance once after this.
///
/// # Panics
/// When the instance is not disabled, as the kernel does.
pub fn enable<N: Napi>(napi: &N) {
    let (word, bits) = (napi.word(), napi.bits());
    // With full order: `smp_mb__before_atomic()` stands before the `clear_bit()`.
    assert!(word.test_and_clear(bits.sched_mask()), "enabling an instance that is not disabled");
    word.clear(bits.npsvc_mask());
}

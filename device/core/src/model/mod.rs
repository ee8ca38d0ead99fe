// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small model of everything around the state machines, on a virtual clock, for their tests.
//!
//! [`guest`] has what matters of NAPI: `SCHED`, `MISSED`, a handler, a poll, a timer and a busy poller, and the
//! spin at the rendezvous. [`world`] is the worker, the wire and the clock. Everything random comes from a seed.

#![cfg_attr(feature = "model", expect(clippy::must_use_candidate, reason = "test equipment"))]

pub mod guest;
pub mod world;

use tsnic_abi::Counter;

use crate::progress::Doorbell;
use crate::time::{Instant, NicTime};

/// NIC time as the model's device has it.
pub fn stamp(at: Instant) -> NicTime {
    NicTime::from_ns(at.as_ns())
}

/// Arm number `arm` of a driver that has seen one interrupt less, as one that arms after each has.
pub fn bell(arm: u32, ci: u32) -> Doorbell {
    Doorbell { arm: Counter(arm), irq_seen: Counter(arm - 1), ci: Counter(ci) }
}

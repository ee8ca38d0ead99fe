// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tsnic device decides: the interrupt path (arming, moderation, policies), what becomes of
//! frames on the wire, the loss and stall detectors, and the runs that choose the moment of an
//! interrupt.
//!
//! Everything here is a pure state machine: time is an argument, choices come from a seed, and
//! nothing knows a file descriptor, a thread, guest memory or a serialised form.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod adversary;
pub mod arming;
pub mod counters;
#[cfg(test)]
mod fixtures;
mod injection;
mod injection_run;
pub mod loss;
pub mod moderation;
mod monitor;
mod natural;
pub mod nic_clock;
pub mod path;
pub mod policy;
pub mod progress;
pub mod run;
pub mod rx_irq;
pub mod schedule;
pub mod spec;
pub mod stall;
pub mod time;
pub mod wire;

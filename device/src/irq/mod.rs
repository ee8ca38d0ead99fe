// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts: arming, moderation, the loss detector, and the adversary that chooses their moment.
//!
//! Everything here is a pure state machine: time is an argument, choices come from a seed, and nothing knows a file
//! descriptor, a thread or guest memory.

pub mod adversary;
mod injection;
mod injection_run;
pub mod interrupts;
pub mod loss;
#[cfg(test)]
pub(crate) mod model;
pub mod moderation;
mod monitor;
pub mod queue;
mod random;
pub mod request;
pub mod run;

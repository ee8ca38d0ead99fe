// SPDX-License-Identifier: GPL-2.0-only
//! NAPI's scheduling protocol, clause by clause.
//!
//! Linux keeps a NAPI instance's scheduling state in one word, `napi_struct::state`. Whoever sets
//! its `SCHED` bit owns the instance until the bit is cleared, and is the only one to poll the
//! device's ring; everybody else is turned away by `napi_schedule_prep()`. This crate is what the
//! kernel does with that word:
//!
//! - [`v4_10`], Linux 4.10.0: an interrupt that is turned away leaves no trace. If its packet came
//!   after the owner's last look at the ring, and the device does not interrupt twice for one
//!   packet, the packet lies there until the next one.
//! - [`v4_11`], Linux 4.11: it leaves `MISSED`, and the owner polls once more.
//! - [`v6_1`], Linux 6.1 to 7.3: the same, with deferred interrupts, threads and preferred busy
//!   polling.
//!
//! The functions are generic over the word ([`Word`]) and over what surrounds it ([`Napi`]), so the
//! code that the driver runs on the kernel's own word ([`v4_10::schedule_prep`]) is the code that
//! the models check exhaustively, and the code that is compared with a running kernel step by step.
//!
//! It depends on nothing, allocates nothing, and never blocks but where it says so.
#![no_std]

#[cfg(test)]
extern crate std;

mod bits;
pub mod busy;
mod disable;
mod instance;
#[cfg(test)]
mod table;
pub mod v4_10;
pub mod v4_11;
pub mod v6_1;
mod word;

pub use bits::Bits;
pub use instance::{BUSY_POLL_BUDGET, Napi};
pub use word::Word;

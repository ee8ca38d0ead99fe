// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The data path: virtqueues, frames into and out of the guest, and the shared queue page.
//!
//! Everything here is safe Rust on borrowed views of guest memory. The guest is taken to be
//! hostile: each index, descriptor and cell is read once, the copy is checked, and the copy is
//! used.
#![forbid(unsafe_code)]

pub mod chain;
mod empty_kicks;
pub mod event;
pub mod features;
mod held_frames;
pub mod index;
pub mod lateness;
pub mod memory;
pub mod pair;
pub mod queue_page;
pub mod ring;
pub mod rx;
pub mod session;
pub mod status;
pub mod tx;

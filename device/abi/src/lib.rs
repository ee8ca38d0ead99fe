// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interface between the tsnic device and a cooperating guest driver.
//!
//! One *shared queue page* per queue pair: the memory through which the two talk as a real NIC and
//! its driver do, by doorbell records and a completion queue. This crate is the only copy of every
//! offset and constant; the device (`tsnic`) and the driver (`tsnic-driver`) both take them from
//! here. `docs/interface.md` is the prose.
//!
//! Every cell is little-endian, naturally aligned, and written by one side only; cells of different
//! writers never share a cache line. Neither side reads back what the other can write and trusts
//! it: a value is copied once, the copy is checked, the copy is used.
//!
//! Functions that the driver calls are `#[inline]`: its object is built without link-time
//! optimisation, so a kernel module can have no call into this crate.
#![no_std]

mod counter;
mod mailbox;
mod queue_page;
mod registration;

pub use counter::Counter;
pub use mailbox::{
    CLOCK_RATE_MAX_PPB, COMMAND_WORDS, adaptive, command_status, from_words, op, to_words,
};
pub use queue_page::{
    Command, CommandAnswer, Completion, Doorbell, Identity, Interrupts, Progress, QueuePage,
    RX_RECORDS, RendezvousArrival, RendezvousRelease, RendezvousRequest, TX_RECORDS, caps,
    completion_offset, offset, phase, point, record_flags,
};
pub use registration::{Registration, RegistrationError};

/// First word of the registration header and of [`Identity`]: "TSNA" in memory order.
pub const MAGIC: u32 = u32::from_le_bytes(*b"TSNA");

/// Layout version. A device refuses any other.
pub const VERSION: u16 = 1;

/// Size of the whole page in bytes. The driver allocates this many physically contiguous bytes,
/// page-aligned.
pub const QUEUE_PAGE_SIZE: u32 = 32 * 1024;

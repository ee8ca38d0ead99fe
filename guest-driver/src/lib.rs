// SPDX-License-Identifier: GPL-2.0-only
//! The tsnic guest driver: a NAPI network driver for stock Linux kernels, and the driver half of
//! docs/interface.md.
//!
//! Everything the driver decides is in the modules below, in safe Rust, over the traits
//! [`irq::Napi`], [`rx::RxPort`], [`tx::TxPort`] and [`mailbox::MailboxPort`]; it is tested on the host against a fake of the
//! kernel and the device. For the kernel (target `x86_64-unknown-none`) `bridge` implements the
//! traits on C glue; it has all of the driver's `unsafe`. `kbuild/build` makes the modules.
//!
//! | context | what runs there | what it owns |
//! |---|---|---|
//! | hard interrupt | [`irq::receive_interrupt`] | nothing |
//! | bottom halves off: softirq, NAPI thread, or a process that busy-polls | [`rx::poll`] | the receive ring, for it owns `SCHED` |
//! | bottom halves off (transmission, transmit NAPI, link changes), or hard interrupts off (netpoll's transmission) | [`tx::Tx`] | the transmit ring and [`tx::Tx`], by the transmit queue's lock |
//! | process, under RTNL | [`mailbox`] | the mailbox |
//! | any | [`shared::Shared`] | nothing; atomics |
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(not(target_os = "none"), forbid(unsafe_code))]

pub mod behaviour;
#[cfg(target_os = "none")]
mod bridge;
pub mod header;
pub mod irq;
pub mod mailbox;
pub mod mode;
pub mod queue_page;
pub mod refill;
pub mod registration;
pub mod rx;
pub mod shared;
pub mod stamp;
pub mod stats;
pub mod tx;

#[cfg(test)]
mod tests;

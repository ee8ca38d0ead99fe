// SPDX-License-Identifier: GPL-2.0-only
//! The driver on the host: against a fake kernel and a fake device ([`fake`]), one test for each
//! thing it promises.

mod fake;
mod hostile;
mod irq;
mod mailbox;
mod race;
mod registration;
mod rx;
mod tx;

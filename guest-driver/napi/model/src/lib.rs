// SPDX-License-Identifier: GPL-2.0-only
//! NAPI's scheduling protocol under model checkers.
//!
//! The protocol is `napi-state`'s own code, the device is the one of the `tsnic` backend
//! ([`device`]). Around them are a CPU ([`cpu`]: the softirq, the driver's poll and its interrupt
//! handler), and a [`world`] in which a device publishes packets, interrupts arrive at any later
//! time, and other [`scenario::Owner`]s of `SCHED` come and go. [`exhaust`] sees every execution of
//! a small world, and judges each at its end ([`verdict`]); what went wrong is told as a
//! [`timeline`].
//!
//! What a world leaves out: interrupts are not moderated (but each may be late), there is one kind
//! of poll for threads and softirqs, netpoll and `AF_XDP` are not there.

pub mod ablation;
pub mod cli;
pub mod cpu;
pub mod device;
pub mod exhaust;
pub mod protocol;
pub mod random;
pub mod run;
pub mod runtime;
pub mod scenario;
pub mod table;
pub mod timeline;
pub mod trace;
pub mod verdict;
pub mod world;

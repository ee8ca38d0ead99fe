// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vhost-user side: the only code that knows the rust-vmm daemon.
//!
//! The daemon serves vhost-user's control messages and wakes the worker. The rings themselves are
//! served by [`crate::net`]; the daemon's own queue code is used for no more than keeping what the
//! VMM has set.

mod backend;
mod cut;
mod frontend;
mod shim;
mod vring;

pub use backend::{Backend, HostPair};
pub use frontend::{Connection, ConnectionError};

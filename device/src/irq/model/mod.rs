// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small model of everything around the state machines, on a virtual clock, for their tests.
//!
//! [`guest`] has what matters of NAPI: `SCHED`, `MISSED`, a handler, a poll, a timer and a busy poller, and the
//! spin at the rendezvous. [`world`] is the worker, the wire and the clock. Everything random comes from a seed.

pub mod guest;
pub mod world;

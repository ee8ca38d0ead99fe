// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker's loop and the runs against a model guest: the real `net`, on real rings in ordinary
//! memory, a port that is a queue of frames, and a virtual clock. Everything random comes from a
//! seed.

mod adversary;
mod client;
mod counters;
mod events;
mod guest;
mod injection;
mod monitor;
mod natural;
mod policies;
mod ports;
mod rings;
mod stalls;
mod wire;
mod world;

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RPC experiment's host side: real requests over the host's own TCP, and what the times of
//! each say.

pub mod client;
pub mod latency;
mod offset;
pub mod time;

pub use client::{ClientConfig, ClientError, converse, run};
pub use latency::{Latency, LatencyError, latencies};
pub use time::{Exchange, GuestNs, HostNs};

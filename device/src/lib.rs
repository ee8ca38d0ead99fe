// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tsnic device: a vhost-user network backend that timestamps every packet and places its
//! interrupts.

pub mod ask;
pub mod clock;
pub mod config;
pub mod control;
pub mod ctl;
pub mod engine;
pub mod frame;
mod front_ends;
pub mod log_limit;
pub mod metrics;
pub mod net;
pub mod plan;
pub mod port;
pub mod sandbox;
pub mod socket;
pub mod vhost;

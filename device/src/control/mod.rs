// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's side of the device: the control socket.

pub mod channel;
mod client;
pub mod convert;
pub mod dispatcher;
pub mod packets;
pub mod policies;
pub mod server;

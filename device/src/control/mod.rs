// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's side of the device: the control socket.

pub mod channel;
mod client;
mod dispatcher;
mod line;
pub mod protocol;
pub mod server;

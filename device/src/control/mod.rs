// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's side of the device: the control socket.

mod client;
mod desk;
mod line;
pub mod protocol;
pub mod seam;
pub mod server;

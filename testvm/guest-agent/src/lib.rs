// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The protocol between testvm and the guest agent.

pub mod protocol;

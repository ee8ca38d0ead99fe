// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VM harness.

pub mod rpc;

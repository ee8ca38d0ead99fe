// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VM harness: provisions a real Linux guest, boots it on the tsnic device, runs scenarios and
//! judges them.
//!
//! Arguments ([`cli`]) become a validated [`config`]; [`lab::Lab`] prepares everything and boots
//! guests; a scenario talks to guest and device through the [`vm::Vm`] handle.

mod bench;
pub mod boot;
pub mod build;
pub mod cache;
pub mod check;
pub mod cli;
pub mod config;
pub mod initramfs;
pub mod interrupt;
pub mod isolate;
pub mod lab;
mod late;
pub mod napi;
pub mod output;
pub mod plans;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod provision;
pub mod qemu;
pub mod report;
pub mod rpc;
pub mod scenario;
pub mod soak;
pub mod stream;
pub mod terminal;
pub mod uml;
pub mod verdict;
pub mod vm;

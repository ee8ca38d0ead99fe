// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's side of the test VM: a small PID 1 that does what testvm asks over a serial line.
//!
//! The program is the `/init` of an initramfs. It is built with the `guest` profile and `-C
//! target-feature=+crt-static`, so it needs no other file. The machine it runs in has a console on
//! the first serial port, testvm on the second, and on the third a shell when it is asked for.
//! testvm should be connected before the guest boots, for [`guest_protocol::Reply::Ready`] is said
//! once. `tsc=reliable` belongs on the kernel's command line: under emulation Linux mistrusts the
//! TSC and falls back to the HPET, whose every reading is a trip to the emulator.
//!
//! What is said on the serial line, and over TCP between the RPC client and the server in the
//! guest, is in the package `guest-protocol`, which testvm links instead of this one: this one
//! contains code under the GPL.

pub mod affinity;
pub mod agent;
pub mod clock;
pub mod error;
pub mod ethtool;
pub mod files;
pub mod hwtstamp;
pub mod ifreq;
pub mod kmsg;
pub mod limit;
pub mod link;
pub mod modules;
pub mod napi;
pub mod packet;
pub mod program;
pub mod receiver;
pub mod rpc;
pub mod serial;
pub mod shell;
pub mod snapshot;
pub mod sockopt;
pub mod stream;
pub mod system;

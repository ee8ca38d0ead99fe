// SPDX-License-Identifier: GPL-2.0-only
//! The bridge to the kernel: all of the driver's `unsafe`, and nothing that decides.
//!
//! `sys` declares the C side, `nic` holds the state of an interface, `params` the module's
//! parameters, `life` takes an interface from probe to removal, `skb` is an owned packet, `napi`,
//! `rx`, `tx` and `mailbox` implement the driver's traits, `entry` is what the kernel calls.

mod entry;
mod life;
mod mailbox;
mod napi;
mod nic;
mod params;
mod rx;
mod skb;
mod sys;
mod tx;

/// Nothing in the driver panics (`kbuild/build` looks for it in the object); the language wants a
/// handler all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

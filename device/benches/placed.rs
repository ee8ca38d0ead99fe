// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How late the device is with an interrupt that it places: from the time at which it is due to the
//! return of the write to its eventfd, in a real worker, woken by its timer.

#[path = "../tests/device/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod support;

use std::time::Duration;

use support::{Device, Guest, Options, eventually, frame};
use tsnic::control::channel::{Answer, Command, PathCommand};
use tsnic_core::policy::spec::PolicySpec;

/// Interrupts.
const COUNT: u32 = 5_000;
/// How long each is held.
const DELAY_US: u32 = 300;

fn main() {
    // Criterion's way of asking whether it runs at all (cargo test).
    let count = if std::env::args().any(|arg| arg == "--test") { 10 } else { COUNT };
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    let hold = vec![PolicySpec::FixedDelay { delay_us: DELAY_US }];
    let command = Command::Paths(PathCommand::Policies(1, [hold, Vec::new()]));
    assert!(matches!(device.ask(command), Answer::Paths(None)));
    guest.rx.interrupts();
    for tag in 0..count {
        guest.rx.set_used_event(guest.rx.next_used);
        device.host.send(&frame(tag, 64));
        guest.receive();
        guest.post(1, 2048);
        eventually("the interrupt", || (guest.rx.interrupts() != 0).then_some(()));
        // Nobody is awake when the next one comes.
        std::thread::sleep(Duration::from_micros(200));
    }
    let lateness = device.status().lateness;
    let [late] = lateness.as_slice() else { panic!("{lateness:?}") };
    assert!(late.count >= u64::from(count), "{late:?}");
    let us = Duration::from_nanos;
    println!(
        "placed interrupt, due -> eventfd written: {} interrupts, median {:?}, p99 {:?}, \
         longest {:?}",
        late.count,
        us(late.median_ns),
        us(late.p99_ns),
        us(late.max_ns)
    );
    guest.leave();
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm boot`: a guest with the device and nothing else, to see that everything a run needs works.

use std::thread::sleep;

use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::process::TICK;
use crate::progress::Progress;
use crate::verdict::Verdict;
use crate::vm::VmConfig;

/// Boot, show what came up, and power off; with `hold` only after Ctrl-C.
///
/// # Errors
/// The guest does not come up, or does not go down.
pub fn run(machine: &Machine, vcpus: u8, hold: bool) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let mut vm = lab.boot(&VmConfig { vcpus, ..VmConfig::default() }, &mut progress)?;
    let status = vm.device_status()?;
    println!(
        "guest      Linux {}, {} CPUs, ready after {:.2} s",
        vm.ready().kernel,
        vm.ready().cpus,
        vm.boot_time().as_secs_f64()
    );
    println!("qemu       {} ({}: {})", lab.qemu.version, lab.qemu.accel, lab.qemu.accel_reason);
    println!(
        "device     process {}, {} KiB, ring running: {}",
        vm.device_pid(),
        vm.device_memory_kib()?,
        status.running
    );
    while hold && !interrupt::requested() {
        vm.check("the guest is held")?;
        sleep(TICK);
    }
    vm.power_off()?;
    if let Some(logs) = lab.logs() {
        println!("logs       {}", logs.display());
    }
    Ok(Verdict::Pass)
}

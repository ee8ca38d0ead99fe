// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm boot`: a guest with the device and its driver, to see that everything a run needs works.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use guest_agent::protocol::Request;

use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::process::TICK;
use crate::progress::Progress;
use crate::verdict::Verdict;
use crate::vm::VmConfig;

/// The guest's interface.
const NIC: &str = "eth0";

/// How long the driver may take to hand its queue area over once the link is up.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// Boot, show what came up, and power off; with `hold` only after Ctrl-C.
///
/// # Errors
/// The guest does not come up, or does not go down.
pub fn run(machine: &Machine, vcpus: u8, hold: bool) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let mut vm = lab.boot(&VmConfig { vcpus, ..VmConfig::default() }, &mut progress)?;
    vm.command(&Request::InsertModule { path: lab.initramfs.driver.clone(), params: String::new() })?;
    let link = vm.link();
    let link_up = Request::LinkUp {
        name: NIC.to_owned(),
        ip: link.guest_ip,
        prefix_len: link.prefix_len,
        neighbours: vec![(link.host_ip, link.host_mac)],
    };
    vm.command(&link_up)?;
    let deadline = Instant::now() + HAND_OVER_LIMIT;
    let mut status = vm.device_status()?;
    while status.area.is_none() && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
        status = vm.device_status()?;
    }
    println!(
        "guest      Linux {}, {} CPUs, ready after {:.2} s",
        vm.ready().kernel,
        vm.ready().cpus,
        vm.boot_time().as_secs_f64()
    );
    println!("qemu       {} ({}: {})", lab.qemu.version, lab.qemu.accel, lab.qemu.accel_reason);
    println!(
        "device     process {}, {} KiB; rings {}, queue area {}",
        vm.device_pid(),
        vm.device_memory_kib()?,
        if status.running { "running" } else { "stopped" },
        status.area.map_or_else(|| "none".to_owned(), |generation| format!("generation {generation}")),
    );
    while hold && !interrupt::requested() {
        vm.check("the guest is held")?;
        sleep(TICK);
    }
    vm.power_off()?;
    ensure!(status.area.is_some(), "The driver did not hand its queue area over within {HAND_OVER_LIMIT:?}");
    if let Some(logs) = lab.logs() {
        println!("logs       {}", logs.display());
    }
    Ok(Verdict::Pass)
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm boot`: a guest with the device and its driver, to see that everything a run needs works.

use std::io::{self, stdin, stdout};
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use guest_protocol::Request;
use nix::unistd::geteuid;

use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::process::TICK;
use crate::progress::Progress;
use crate::terminal;
use crate::verdict::Verdict;
use crate::vm::{self, Vm, VmConfig};

/// The guest's interface.
const NIC: &str = "eth0";

/// How long the driver may take to register its shared queue page once the link is up.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(5);

/// Boot, show what came up, and power off. With `hold` only when the user wants it: with a terminal
/// on which the guest's shell is by Ctrl-], else by Ctrl-C, which is no interruption then.
///
/// # Errors
/// The guest does not come up, or does not go down.
pub fn run(machine: &Machine, vcpus: u8, hold: bool) -> anyhow::Result<Verdict> {
    // In the namespaces everybody is root.
    let root = geteuid().is_root();
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let mut vm = lab.boot(&VmConfig { vcpus, ..VmConfig::default() }, &mut progress)?;
    vm.command(&Request::InsertModule {
        path: lab.initramfs.driver.clone(),
        params: String::new(),
    })?;
    let link = vm.link().clone();
    let link_up = Request::LinkUp {
        name: NIC.to_owned(),
        ip: link.guest_ip,
        prefix_len: link.prefix_len,
        neighbours: vec![(link.host_ip, link.host_mac)],
    };
    vm.command(&link_up)?;
    let limit = vm.limit(REGISTRATION_LIMIT);
    let deadline = Instant::now() + limit;
    let mut status = vm.device_status()?;
    while status.page.is_none() && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
        status = vm.device_status()?;
    }
    outln!(
        "guest      Linux {}, {} CPUs, ready after {:.2} s",
        vm.ready().kernel,
        vm.ready().cpus,
        vm.boot_time().as_secs_f64()
    );
    outln!("qemu       {} ({}: {})", lab.qemu.version, lab.qemu.accel, lab.qemu.accel_reason);
    outln!(
        "device     process {}, {} KiB; rings {}, shared queue page {}",
        vm.device_pid(),
        vm.device_memory_kib()?,
        if status.running { "running" } else { "stopped" },
        status
            .page
            .map_or_else(|| "none".to_owned(), |generation| format!("generation {generation}")),
    );
    if hold {
        outln!("held       {}", way_in(root, std::process::id(), link.guest_ip));
        match terminal::size(stdin()).filter(|_| terminal::size(stdout()).is_some()) {
            Some((rows, columns)) if lab.initramfs.shell => {
                outln!("shell      here; Ctrl-] powers the guest off, Ctrl-C is the guest's");
                shell(&mut vm, rows, columns)?;
            }
            terminal => {
                let shell = match terminal {
                    Some(_) => "none: there is no busybox (scripts/setup installs it)",
                    None => "none: this is not run in the foreground of a terminal",
                };
                outln!("shell      {shell}");
                outln!("           Ctrl-C powers it off, a second Ctrl-C ends it at once");
                self::hold(&mut vm)?;
            }
        }
    }
    vm.power_off()?;
    ensure!(
        status.page.is_some(),
        "The driver did not register its shared queue page within {limit:?}"
    );
    Ok(Verdict::Pass)
}

/// Connect this terminal to the guest's shell until Ctrl-], SIGINT or SIGTERM.
fn shell(vm: &mut Vm, rows: u16, columns: u16) -> Result<(), vm::Error> {
    let mut shell = vm.shell(rows, columns)?;
    let end = terminal::attach(&stdin(), &mut stdout(), &mut shell, &mut || {
        vm.check("the guest is held").map_err(End::Vm)
    });
    // The shell's prompt stands there.
    outln!("");
    match end {
        Ok(()) => Ok(()),
        Err(End::Vm(vm::Error::Interrupted { .. })) if interrupt::take() => Ok(()),
        Err(End::Vm(error)) => Err(error),
        Err(End::Io(source)) => Err(vm::Error::Io { path: "/dev/tty".into(), source }),
    }
}

/// What ended the use of the shell.
enum End {
    Vm(vm::Error),
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Leave the guest alone until Ctrl-C, which is answered by this: a second one is an interruption
/// again.
///
/// # Errors
/// Something has died.
pub fn hold(vm: &mut Vm) -> Result<(), vm::Error> {
    loop {
        match vm.check("the guest is held") {
            Ok(()) => sleep(TICK),
            Err(vm::Error::Interrupted { .. }) if interrupt::take() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// How to reach a held guest: its only neighbour is in the network namespace of process `pid`,
/// which an ordinary user made in a user namespace.
fn way_in(root: bool, pid: u32, guest: Ipv4Addr) -> String {
    let user = if root { "" } else { " --user --preserve-credentials" };
    format!(
        "the guest's network is this process's own: nsenter --target {pid}{user} --net ping {guest}"
    )
}

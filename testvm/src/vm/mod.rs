// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running guest with its device: boot it, talk to both, end it.

mod companion;
mod console;
mod error;
mod family;
mod hibernate;
mod life;
mod lines;
mod message;
mod parts;
mod qmp;
mod shell;
mod start;
mod uml;

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub use companion::Companion;
use console::Console;
use guest_protocol as agent;
use serde::Serialize;
use tsnic_protocol as device;

use crate::isolate::{Link, SocketDir};
use crate::process::{Child, Tail};
use crate::qemu::MachineSpec;

pub use error::Error;
use family::{Family, Logs, Waiting};
pub use lines::{JsonLines, LineError};
use message::{accepted, carried_out, describe, unexpected};
use parts::{AGENT, AGENT_SOCKET, DEVICE, DISK, NIC_SOCKET, QMP_SOCKET, SHELL_SOCKET, TAIL};
pub use parts::{Hypervisor, Parts, VmConfig};
use qmp::Qmp;
use start::{DeviceProgram, START_LIMIT, accept, connect_control, start_device};
use uml::UmlSpec;

/// What the agent said when it came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// `uname -r`.
    pub kernel: String,
    /// Online CPUs.
    pub cpus: usize,
    /// Clock source.
    pub clocksource: String,
}

/// A running guest. Dropping it kills QEMU and the device and sees them dead.
#[derive(Debug)]
pub struct Vm {
    family: Family,
    agent: JsonLines,
    control: JsonLines,
    qmp: Option<Qmp>,
    link: Link,
    ready: Ready,
    boot_time: Duration,
    rx_irq: &'static str,
    transport: Vec<String>,
    device: DeviceProgram,
    /// How QEMU was started, and where it was waited for: for a second one.
    machine: Command,
    listener: UnixListener,
    sockets: SocketDir,
}

/// Under TCG on a busy machine a boot takes a few seconds; one that takes this long hangs.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// For everything an agent or device does at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// For the guest to power off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(10);
impl Vm {
    /// Start the device and QEMU, wait for the agent, and load the kernel's own virtio modules
    /// where they are modules. Call it on a thread that outlives the guest (see [`Child::spawn`]).
    /// `tick` is called while waiting.
    ///
    /// # Errors
    /// Anything that keeps the agent from answering; the last lines of the guest's console are in
    /// the message.
    pub fn boot(
        parts: &Parts<'_>,
        config: &VmConfig,
        tick: &mut dyn FnMut(),
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let link = Link { multi_queue: config.queue_pairs > 1, ..Link::nth(parts.index) };
        link.create(parts.run)?;
        let sockets = parts.run.subdirectory(&format!("vm{}", parts.index))?;
        let logs = Logs { dir: parts.logs.to_owned(), index: parts.index };

        let device = DeviceProgram { path: parts.device.to_owned(), args: config.device_args() };
        let mut backend = start_device(&device, &link, &sockets, &logs)?;
        let control =
            connect_control(&sockets, &mut backend, &logs, config.scale.limit(START_LIMIT), tick)?;
        let console = Console::new(logs.path("console"));
        // Kept until the guest has been started, which has the other end.
        let (own_end, guest_end) =
            UnixStream::pair().map_err(|source| Error::Io { path: AGENT_SOCKET.into(), source })?;
        let kernel_args = config.kernel_args();
        let agent_socket = sockets.socket(AGENT_SOCKET);
        let listener = UnixListener::bind(&agent_socket)
            .map_err(|source| Error::Io { path: agent_socket.clone(), source })?;
        let mut command = match parts.hypervisor {
            Hypervisor::Qemu { qemu, kernel, interrupts } => {
                let spec = MachineSpec {
                    version: qemu.version,
                    accel: qemu.accel,
                    vcpus: config.vcpus,
                    memory_mib: config.memory_mib,
                    kernel,
                    initrd: parts.initrd,
                    kernel_args: &kernel_args,
                    console: console.path(),
                    agent_socket: AGENT_SOCKET,
                    shell_socket: SHELL_SOCKET,
                    device_socket: NIC_SOCKET,
                    qmp_socket: QMP_SOCKET,
                    guest_mac: link.guest_mac,
                    interrupts,
                    queue_pairs: config.queue_pairs,
                    disk: config.disk_mib.map(|_| DISK),
                };
                let mut command = Command::new(&qemu.path);
                command.args(spec.arguments());
                logs.redirect(&mut command, "qemu")?;
                command
            }
            Hypervisor::Uml { program } => {
                let spec = UmlSpec {
                    program,
                    initrd: parts.initrd,
                    directory: sockets.path(),
                    memory_mib: config.memory_mib,
                    kernel_args: &kernel_args,
                    agent: &guest_end,
                };
                let io = |source: nix::Error| Error::Io {
                    path: AGENT_SOCKET.into(),
                    source: source.into(),
                };
                let mut command = spec.command().map_err(io)?;
                logs.redirect(&mut command, "console")?;
                command
            }
        };
        if let Some(mib) = config.disk_mib {
            let path = sockets.path().join(DISK);
            let file = fs::File::create(&path).and_then(|it| it.set_len(u64::from(mib) << 20));
            file.map_err(|source| Error::Io { path, source })?;
        }
        command.current_dir(sockets.path());
        let machine = Child::spawn(parts.hypervisor.name(), &mut command)?;
        drop(guest_end);
        let mut family = Family {
            qemu: machine,
            backend,
            device_off: false,
            device_held: false,
            console,
            logs,
            scale: config.scale,
        };
        let agent = match parts.hypervisor {
            Hypervisor::Qemu { .. } => accept(&listener, &agent_socket, &mut family, tick)?,
            Hypervisor::Uml { .. } => own_end,
        };
        let mut vm = Self {
            family,
            agent: JsonLines::new(agent),
            control: JsonLines::new(control),
            qmp: None,
            link,
            ready: Ready { kernel: String::new(), cpus: 0, clocksource: String::new() },
            boot_time: Duration::ZERO,
            rx_irq: parts.hypervisor.rx_irq(),
            transport: parts.transport.to_vec(),
            device,
            machine: command,
            listener,
            sockets,
        };
        vm.hear_ready("booting", tick)?;
        vm.boot_time = started.elapsed();
        vm.load_transport()?;
        Ok(vm)
    }

    /// The agent's first word after a boot.
    fn hear_ready(&mut self, doing: &str, tick: &mut dyn FnMut()) -> Result<(), Error> {
        self.ready = match self.hear_agent(doing, BOOT_LIMIT, tick)? {
            agent::Reply::Ready { kernel, cpus, clocksource } => {
                Ready { kernel, cpus, clocksource }
            }
            other => return Err(unexpected(AGENT, doing, &other)),
        };
        Ok(())
    }

    fn load_transport(&mut self) -> Result<(), Error> {
        for path in self.transport.clone() {
            self.command(&agent::Request::InsertModule { path, params: String::new() })?;
        }
        Ok(())
    }

    /// What the agent said when it came up.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// From nothing to the agent's first word.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Who is who on the wire between host and guest.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Name of the receive queue's interrupt in the guest's /proc/interrupts.
    #[must_use]
    pub fn rx_irq(&self) -> &'static str {
        self.rx_irq
    }

    /// The limit of this guest for what usually has `usual`: more with `--slow`. For all that waits
    /// for something of the guest.
    #[must_use]
    pub fn limit(&self, usual: Duration) -> Duration {
        self.family.scale.limit(usual)
    }

    /// Ask the agent; [`agent::Reply::Error`] becomes [`Error::Refused`], [`agent::Reply::Late`]
    /// [`Error::Late`].
    ///
    /// # Errors
    /// It refuses, is silent for too long (usually 20 s), or something has died.
    pub fn ask(&mut self, request: &agent::Request) -> Result<agent::Reply, Error> {
        self.ask_within(request, ANSWER_LIMIT)
    }

    /// [`Self::ask`] with a usual time limit of its own.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_within(
        &mut self,
        request: &agent::Request,
        limit: Duration,
    ) -> Result<agent::Reply, Error> {
        let doing = describe(request);
        self.agent.send(request).map_err(|source| self.family.diagnose(AGENT, &doing, source))?;
        let reply = self.hear_agent(&doing, limit, &mut || ())?;
        accepted(&doing, reply)
    }

    /// Ask the agent to do something that has no result.
    ///
    /// # Errors
    /// As [`Self::ask`], or there is another answer.
    pub fn command(&mut self, request: &agent::Request) -> Result<(), Error> {
        carried_out(&describe(request), self.ask(request)?)
    }

    /// Ask the agent for a text.
    ///
    /// # Errors
    /// As [`Self::ask`], or there is another answer.
    pub fn text(&mut self, request: &agent::Request) -> Result<String, Error> {
        match self.ask(request)? {
            agent::Reply::Text { text } => Ok(text),
            other => Err(unexpected(AGENT, &describe(request), &other)),
        }
    }

    /// Ask the agent for a count.
    ///
    /// # Errors
    /// As [`Self::ask`], or there is another answer.
    pub fn count(&mut self, request: &agent::Request) -> Result<u64, Error> {
        match self.ask(request)? {
            agent::Reply::Count { count } => Ok(count),
            other => Err(unexpected(AGENT, &describe(request), &other)),
        }
    }

    /// Ask the device something it answers at once.
    ///
    /// # Errors
    /// It refuses, is silent for too long (usually 20 s), or something has died.
    pub fn device(&mut self, request: &device::Request) -> Result<device::Reply, Error> {
        self.device_run(request, ANSWER_LIMIT, &mut |_, _| ())
    }

    /// Ask the device for a run: `progress(done, total)` is called as it goes on, and no two lines
    /// may be further apart than `patience`. [`device::Reply::Error`] becomes [`Error::Refused`].
    ///
    /// # Errors
    /// It refuses, is silent for too long, or something has died.
    pub fn device_run(
        &mut self,
        request: &device::Request,
        patience: Duration,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<device::Reply, Error> {
        let doing = describe(request);
        self.device_begin(request)?;
        loop {
            match self.hear_device(&doing, patience)? {
                device::Reply::Progress { done, total } => progress(done, total),
                device::Reply::Error { message } => {
                    return Err(Error::Refused { who: DEVICE, doing, message });
                }
                reply => return Ok(reply),
            }
        }
    }

    /// Asks the device for a run and does not wait for anything: for runs that are not to come to
    /// their end.
    ///
    /// # Errors
    /// The device is off, or has died.
    pub fn device_begin(&mut self, request: &device::Request) -> Result<(), Error> {
        self.say_to_device(request, &describe(request))
    }

    fn say_to_device<T: Serialize>(&mut self, request: &T, doing: &str) -> Result<(), Error> {
        if self.family.device_off {
            return Err(Error::DeviceOff { doing: doing.to_owned() });
        }
        self.control.send(request).map_err(|source| self.family.diagnose(DEVICE, doing, source))
    }

    /// The state of the device.
    ///
    /// # Errors
    /// As [`Self::device`].
    pub fn device_status(&mut self) -> Result<device::Status, Error> {
        match self.device(&device::Request::Status)? {
            device::Reply::Status(status) => Ok(*status),
            other => Err(unexpected(DEVICE, "status", &other)),
        }
    }

    /// The state of another queue pair than the first.
    ///
    /// # Errors
    /// There is none of this number, or as [`Self::device`].
    pub fn pair_status(&mut self, pair: u16) -> Result<device::Status, Error> {
        let doing = format!("status of queue pair {pair}");
        let request = device::PairRequest { pair, request: device::Request::Status };
        self.say_to_device(&request, &doing)?;
        match self.hear_device(&doing, ANSWER_LIMIT)? {
            device::Reply::Status(status) => Ok(*status),
            device::Reply::Error { message } => Err(Error::Refused { who: DEVICE, doing, message }),
            other => Err(unexpected(DEVICE, &doing, &other)),
        }
    }

    /// Memory the device keeps for itself, KiB: its resident anonymous pages, which guest memory
    /// (shared) is not part of.
    ///
    /// # Errors
    /// The device has died.
    pub fn device_memory_kib(&self) -> Result<u64, Error> {
        let path = PathBuf::from(format!("/proc/{}/status", self.family.backend.pid()));
        let text =
            fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        private_kib(&text)
            .ok_or_else(|| Error::Io { path, source: std::io::ErrorKind::InvalidData.into() })
    }

    /// Process id of the device.
    #[must_use]
    pub fn device_pid(&self) -> u32 {
        self.family.backend.pid()
    }

    /// Process id of QEMU; its threads are the vCPUs'.
    #[must_use]
    pub fn qemu_pid(&self) -> u32 {
        self.family.qemu.pid()
    }

    /// The last lines of the guest's console.
    #[must_use]
    pub fn console(&self) -> Tail {
        self.family.console.tail(TAIL)
    }

    /// An error when the guest or the device has died, or the user wants to stop: for loops that
    /// wait on something else.
    ///
    /// # Errors
    /// See above; `doing` goes into the message.
    pub fn check(&mut self, doing: &str) -> Result<(), Error> {
        self.family.check(doing)
    }

    /// Power the guest off, in order, and end the device.
    ///
    /// # Errors
    /// The guest does not power off; everything is dead nevertheless.
    pub fn power_off(mut self) -> Result<(), Error> {
        let doing = "power off";
        self.agent
            .send(&agent::Request::PowerOff)
            .map_err(|source| self.family.diagnose(AGENT, doing, source))?;
        let limit = self.limit(POWER_OFF_LIMIT);
        let ended = self.family.qemu.wait(limit)?;
        self.family.qemu.kill()?;
        self.family.backend.kill()?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.family.qemu_ended(doing, status)),
            None => {
                let console = self.console();
                Err(Error::Silent { who: "The guest", doing: doing.to_owned(), limit, console })
            }
        }
    }

    fn hear_agent(
        &mut self,
        doing: &str,
        limit: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<agent::Reply, Error> {
        let received = self.agent.receive(self.family.scale.limit(limit), &mut || {
            tick();
            self.family.check(doing).map_err(Waiting::Died)
        });
        received.map_err(|waiting| self.family.explain(AGENT, doing, waiting))
    }

    fn hear_device(&mut self, doing: &str, limit: Duration) -> Result<device::Reply, Error> {
        let limit = self.family.scale.limit(limit);
        let received =
            self.control.receive(limit, &mut || self.family.check(doing).map_err(Waiting::Died));
        received.map_err(|waiting| self.family.explain(DEVICE, doing, waiting))
    }
}

/// Resident memory of a process without what it shares, from its /proc/PID/status.
fn private_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_the_anonymous_part() {
        let status = "Name:\ttsnic\nVmRSS:\t  270000 kB\nRssAnon:\t    3120 kB\nRssFile:\t    4000 kB\nRssShmem:\t  262880 kB\n";
        assert_eq!(private_kib(status), Some(3120));
        assert_eq!(private_kib("Name: x\n"), None);
    }
}

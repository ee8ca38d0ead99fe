// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest as the experiments see it: modes and owners instead of files and modules.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use guest_protocol::Request;
use tsnic_protocol::{self as device, Flow};

use super::clause::Clause;
use super::error::Error;
use super::plan::{Mode, NORMAL_BATCH_DEFAULT, Owner};
use crate::initramfs::Initramfs;
use crate::isolate::Link;
use crate::report::Tally;
use crate::vm::Vm;

/// The guest's interface.
pub(crate) const NIC: &str = "eth0";
/// The guest's UDP port for generated packets.
const UDP_PORT: u16 = 7000;
/// The guest's TCP port for RPCs.
pub const RPC_PORT: u16 = 7001;
/// `SO_BUSY_POLL` of every busy poller. Long enough that the stimulus's own poll is over when it
/// ends.
const BUSY_POLL_US: u32 = 200;
/// `gro_flush_timeout` wherever the watchdog is to poll. Long enough for the device to see the arm
/// before that poll.
const GRO_FLUSH_TIMEOUT_NS: u32 = 500_000;
/// `gro_flush_timeout` under real traffic: shorter than a busy loop, so that the watchdog often
/// finds `SCHED` owned.
const TRAFFIC_FLUSH_TIMEOUT_NS: u32 = 50_000;
/// With two vCPUs the owner of `SCHED` runs on this one.
const OWNER_CPU: usize = 0;
/// How long the driver may take to hand its page over and the kernel to finish a livepatch
/// transition.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A booted guest with the driver loaded.
#[derive(Debug)]
pub struct Guest<'a> {
    vm: &'a mut Vm,
    vcpus: usize,
    rendezvous: String,
    has_rendezvous: bool,
    livepatch: String,
    livepatched: bool,
    mode: Option<Mode>,
    up: bool,
}

impl<'a> Guest<'a> {
    /// Loads the driver.
    ///
    /// # Errors
    /// The guest refuses the module, or has died.
    pub fn prepare(vm: &'a mut Vm, files: &Initramfs) -> Result<Self, Error> {
        let vcpus = vm.ready().cpus;
        vm.command(&insert(&files.driver))?;
        Ok(Self {
            vm,
            vcpus,
            rendezvous: files.rendezvous.clone(),
            has_rendezvous: false,
            livepatch: files.livepatch.clone(),
            livepatched: false,
            mode: None,
            up: false,
        })
    }

    /// Has the device do a run; see [`Vm::device_run`].
    ///
    /// # Errors
    /// As there.
    pub fn run(
        &mut self,
        request: &device::Request,
        patience: Duration,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<device::Reply, Error> {
        self.wait_armed()?;
        Ok(self.vm.device_run(request, patience, progress)?)
    }

    /// The machine below.
    pub fn vm(&mut self) -> &mut Vm {
        self.vm
    }

    /// Switches to `mode`, if it is another one: link down, mode, link up, and wait until the
    /// device has the driver's page and is armed.
    ///
    /// # Errors
    /// The guest refuses, or the driver does not hand over its page.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), Error> {
        if self.mode == Some(mode) {
            return Ok(());
        }
        self.mode = None;
        self.link_down()?;
        let wanted = mode == Mode::Livepatch;
        if wanted != self.livepatched {
            if wanted {
                load_livepatch(self.vm, &self.livepatch)?;
            } else {
                self.write("/sys/kernel/livepatch/tsnic_livepatch/enabled", "0")?;
                self.livepatch_gone()?;
                self.vm.command(&Request::RemoveModule { name: "tsnic_livepatch".into() })?;
            }
            self.livepatched = wanted;
        }
        let irq_mode = if mode == Mode::V4_10 { "v4_10" } else { "v4_11" };
        self.write(IRQ_MODE, irq_mode)?;
        self.link_up()?;
        self.mode = Some(mode);
        Ok(())
    }

    /// Has the rendezvous module loaded, or not.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn set_rendezvous(&mut self, wanted: bool) -> Result<(), Error> {
        if wanted != self.has_rendezvous {
            let request = if wanted {
                insert(&self.rendezvous)
            } else {
                Request::RemoveModule { name: RENDEZVOUS.into() }
            };
            self.vm.command(&request)?;
            self.has_rendezvous = wanted;
        }
        Ok(())
    }

    /// Raises the link and waits for the registration.
    ///
    /// # Errors
    /// As [`Self::set_mode`].
    pub fn link_up(&mut self) -> Result<(), Error> {
        let request = raise(self.vm.link());
        self.vm.command(&request)?;
        self.up = true;
        if self.vcpus > 1 {
            let irq = self.vm.rx_irq().into();
            self.vm.command(&Request::IrqAffinity { irq, cpu: self.irq_cpu() })?;
        }
        // The driver has none to offer before its device has accepted the page.
        self.wait_armed()?;
        Ok(self.vm.command(&Request::HwTimestamps { name: NIC.into() })?)
    }

    /// Takes the link down.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn link_down(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.up) {
            self.vm.command(&Request::LinkDown { name: NIC.into() })?;
        }
        Ok(())
    }

    /// Sets the guest up so that `owner` takes `SCHED` after each stimulus, and starts the
    /// receiver.
    ///
    /// With two vCPUs the poll has to run on the CPU that the interrupt is *not* bound to. A busy
    /// poller polls where it runs; the other two go through a NAPI thread that is bound there.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn start_owner(&mut self, owner: Owner) -> Result<(), Error> {
        match owner {
            Owner::BusyPoll => {}
            Owner::Driver => self.write(BEHAVIOUR, "out-of-memory")?,
            Owner::Watchdog => self.write(FLUSH_TIMEOUT, &GRO_FLUSH_TIMEOUT_NS.to_string())?,
        }
        if owner != Owner::BusyPoll && self.vcpus > 1 {
            self.write(THREADED, "1")?;
            self.vm.command(&Request::PinThread {
                comm_prefix: format!("napi/{NIC}-"),
                cpu: OWNER_CPU,
            })?;
        }
        self.start_receiver(if owner == Owner::BusyPoll { BUSY_POLL_US } else { 0 })
    }

    /// Undoes [`Self::start_owner`]; the datagrams received.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn stop_owner(&mut self, owner: Owner) -> Result<u64, Error> {
        let received = self.vm.count(&Request::ReceiverStop)?;
        if owner != Owner::BusyPoll && self.vcpus > 1 {
            self.write(THREADED, "0")?;
        }
        match owner {
            Owner::BusyPoll => {}
            Owner::Driver => self.write(BEHAVIOUR, "right")?,
            Owner::Watchdog => self.write(FLUSH_TIMEOUT, "0")?,
        }
        Ok(received)
    }

    /// Sets the guest up for natural runs: the watchdog, a stack that takes `batch` frames at once
    /// from GRO, and a receiver that does not busy-poll.
    ///
    /// # Errors
    /// The guest refuses, or has the rendezvous module.
    pub fn start_natural(&mut self, batch: u32) -> Result<(), Error> {
        let modules = self.vm.text(&Request::ReadFile { path: "/proc/modules".into() })?;
        if is_loaded(&modules, RENDEZVOUS) {
            return Err(Error::Hooked(RENDEZVOUS));
        }
        self.write(NORMAL_BATCH, &batch.to_string())?;
        self.write(FLUSH_TIMEOUT, &GRO_FLUSH_TIMEOUT_NS.to_string())?;
        self.start_receiver(0)
    }

    /// Undoes [`Self::start_natural`]; the datagrams received.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn stop_natural(&mut self) -> Result<u64, Error> {
        let received = self.vm.count(&Request::ReceiverStop)?;
        self.write(FLUSH_TIMEOUT, "0")?;
        self.write(NORMAL_BATCH, &NORMAL_BATCH_DEFAULT.to_string())?;
        Ok(received)
    }

    /// Takes this clause of the protocol away from now on. The rendezvous module is loaded.
    ///
    /// # Errors
    /// The guest refuses: its kernel does not have the function that is to be hooked.
    pub fn set_clause(&mut self, clause: Clause) -> Result<(), Error> {
        self.write(&rendezvous_parameter("ablation"), &clause.to_string())
    }

    /// What device and rendezvous module have counted so far.
    ///
    /// # Errors
    /// The guest refuses, or a counter is none.
    pub fn tally(&mut self) -> Result<Tally, Error> {
        let mut count = |name: &'static str| {
            let text = self.vm.text(&Request::ReadFile { path: rendezvous_parameter(name) })?;
            text.parse().map_err(|_| Error::Counter { name, text })
        };
        let (polls, empty_polls, bent) = (count("completions")?, count("empty")?, count("bent")?);
        let counters = self.vm.device_status()?.counters;
        Ok(Tally {
            packets: counters.rx_frames,
            interrupts: counters.rx_interrupts,
            lost: counters.lost,
            rescued: counters.rescued,
            polls,
            empty_polls,
            bent,
        })
    }

    /// Sets the guest up for real traffic in which both a busy poller and the watchdog own `SCHED`.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn start_traffic(&mut self) -> Result<(), Error> {
        self.write(FLUSH_TIMEOUT, &TRAFFIC_FLUSH_TIMEOUT_NS.to_string())?;
        self.start_server()
    }

    /// Undoes [`Self::start_traffic`].
    ///
    /// # Errors
    /// The guest refuses.
    pub fn stop_traffic(&mut self) -> Result<(), Error> {
        self.stop_server()?;
        self.write(FLUSH_TIMEOUT, "0")
    }

    /// Starts a receiver of the flow that generated packets belong to; 0: without busy polling.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn start_receiver(&mut self, busy_poll_us: u32) -> Result<(), Error> {
        let flow = self.flow();
        Ok(self.vm.command(&Request::ReceiverStart {
            local: (flow.guest_ip, flow.guest_port),
            peer: (flow.peer_ip, flow.peer_port),
            busy_poll_us,
            cpu: OWNER_CPU,
        })?)
    }

    /// Starts the RPC server, busy polling.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn start_server(&mut self) -> Result<(), Error> {
        let local = (self.vm.link().guest_ip, RPC_PORT);
        Ok(self.vm.command(&Request::RpcStart {
            local,
            busy_poll_us: BUSY_POLL_US,
            cpu: OWNER_CPU,
        })?)
    }

    /// Stops the RPC server; the requests it served.
    ///
    /// # Errors
    /// The guest refuses.
    pub fn stop_server(&mut self) -> Result<u64, Error> {
        Ok(self.vm.count(&Request::RpcStop)?)
    }

    /// Where generated packets come from and go to.
    #[must_use]
    pub fn flow(&self) -> Flow {
        flow(self.vm.link())
    }

    /// Receive interrupts that have come to the CPU where the owner of `SCHED` runs.
    ///
    /// # Errors
    /// The guest refuses, or does not know the interrupt.
    pub fn owner_cpu_irqs(&mut self) -> Result<u64, Error> {
        let irq = self.vm.rx_irq();
        let text = self.vm.text(&Request::ReadFile { path: "/proc/interrupts".into() })?;
        interrupts_of(&text, irq, OWNER_CPU).ok_or(Error::NoIrq(irq))
    }

    /// Waits until the device has a page, is armed, and the driver has consumed everything.
    ///
    /// # Errors
    /// It does not come about; the state that was seen instead is in the message.
    pub fn wait_armed(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.vm.limit(SETTLE_LIMIT);
        loop {
            let status = self.vm.device_status()?;
            if status.page.is_some() && status.armed && status.ci == status.produced {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::NotArmed(Box::new(status)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn irq_cpu(&self) -> usize {
        self.vcpus - 1
    }

    fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        Ok(self.vm.command(&Request::WriteFile { path: path.into(), value: value.into() })?)
    }

    /// A disabled livepatch is over when the kernel has taken its directory away.
    fn livepatch_gone(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.vm.limit(SETTLE_LIMIT);
        while livepatch_file(self.vm, "transition").is_ok() {
            if Instant::now() >= deadline {
                return Err(Error::Livepatch);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Gives the kernel the `napi_schedule_prep()` of Linux 4.10, by the module in file `path`. The
/// transition is over when every task has left the old code.
pub(crate) fn load_livepatch(vm: &mut Vm, path: &str) -> Result<(), Error> {
    vm.command(&insert(path))?;
    let deadline = Instant::now() + vm.limit(SETTLE_LIMIT);
    while livepatch_file(vm, "enabled")? != "1" || livepatch_file(vm, "transition")? != "0" {
        if Instant::now() >= deadline {
            return Err(Error::Livepatch);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn livepatch_file(vm: &mut Vm, file: &str) -> Result<String, Error> {
    Ok(vm.text(&Request::ReadFile {
        path: format!("/sys/kernel/livepatch/tsnic_livepatch/{file}"),
    })?)
}

const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];

/// The imaginary peer of generated packets: on the guest's network, but nobody.
fn peer_ip(guest: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = guest.octets();
    Ipv4Addr::new(a, b, c, 77)
}

/// Raises the guest's interface.
pub(crate) fn raise(link: &Link) -> Request {
    Request::LinkUp {
        name: NIC.into(),
        ip: link.guest_ip,
        prefix_len: link.prefix_len,
        neighbours: vec![(link.host_ip, link.host_mac), (peer_ip(link.guest_ip), PEER_MAC)],
    }
}

/// Where generated packets come from and go to.
pub(crate) fn flow(link: &Link) -> Flow {
    Flow {
        guest_mac: link.guest_mac,
        guest_ip: link.guest_ip,
        guest_port: UDP_PORT,
        peer_mac: PEER_MAC,
        peer_ip: peer_ip(link.guest_ip),
        peer_port: UDP_PORT,
    }
}

pub(crate) const IRQ_MODE: &str = "/sys/module/tsnic/parameters/irq_mode";
pub(crate) const BEHAVIOUR: &str = "/sys/module/tsnic/parameters/behaviour";
const FLUSH_TIMEOUT: &str = "/sys/class/net/eth0/gro_flush_timeout";
const RENDEZVOUS: &str = "tsnic_rendezvous";
const NORMAL_BATCH: &str = "/proc/sys/net/core/gro_normal_batch";
const THREADED: &str = "/sys/class/net/eth0/threaded";

fn rendezvous_parameter(name: &str) -> String {
    format!("/sys/module/{RENDEZVOUS}/parameters/{name}")
}

/// A module's name is the first word of its line in /proc/modules.
fn is_loaded(modules: &str, name: &str) -> bool {
    modules.lines().any(|line| line.split_whitespace().next() == Some(name))
}

/// How often `irq` has come to `cpu`, from /proc/interrupts: the number, a column for each CPU, the
/// chip, and last the name.
fn interrupts_of(text: &str, irq: &str, cpu: usize) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().last() == Some(irq))?;
    line.split_whitespace().nth(1 + cpu)?.parse().ok()
}

/// Loads a module without parameters.
pub(crate) fn insert(path: &str) -> Request {
    Request::InsertModule { path: path.into(), params: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        let text =
            "tsnic_rendezvous 16384 0 - Live 0x0 (OE)\ntsnic 45056 1 tsnic_rendezvous, Live 0x0";
        assert!(is_loaded(text, RENDEZVOUS) && is_loaded(text, "tsnic"));
        assert!(!is_loaded("tsnic 45056 1 tsnic_rendezvous, Live 0x0", RENDEZVOUS));
    }

    #[test]
    fn interrupts_are_counted_by_cpu() {
        let text = "           CPU0       CPU1\n 24:         12       3456   PCI-MSIX-0000:00:02.0   1-edge      virtio0-rx\n\
                     25:          1          2   PCI-MSIX-0000:00:02.0   2-edge      virtio0-tx\n";
        assert_eq!(interrupts_of(text, "virtio0-rx", 0), Some(12));
        assert_eq!(interrupts_of(text, "virtio0-rx", 1), Some(3456));
        assert_eq!(interrupts_of(text, "virtio0", 0), None);
    }
}

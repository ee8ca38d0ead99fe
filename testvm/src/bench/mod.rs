// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest under test, and what all checks do with it.

use std::time::{Duration, Instant};

use guest_protocol::Request;
use serde_json::json;
use tsnic_protocol::plan::Driver;
use tsnic_protocol::{Adjustment, Moderation, Status, Vector};

use crate::initramfs::Initramfs;
use crate::lab::{self, Lab, ToolsFound};
use crate::progress::Progress;
use crate::scenario::guest::{self, IRQ_MODE, NIC, RPC_PORT, insert};
use crate::vm::{self, Vm, VmConfig};

pub mod failure;
pub mod log;
pub mod losses;
mod tools;
pub mod traffic;

use failure::{Failure, expect};
use log::Log;
use losses::Losses;
use traffic::{Replies, Traffic};

/// For everything that is waited for: many times what it takes, and no verdict when it is over.
const LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);
/// RPCs that show that all is well.
const RPCS: u64 = 20;
/// `SO_BUSY_POLL` of the RPC server's connections, microseconds.
const BUSY_POLL_US: u32 = 50;
const VCPUS: u8 = 2;
/// Room for all memory of the guest.
const DISK_MIB: u32 = 512;

/// A guest under test.
#[derive(Debug)]
pub struct Bench {
    /// The machine.
    pub vm: Vm,
    files: Initramfs,
    tools: ToolsFound,
    /// Of its device.
    queue_pairs: u8,
    log: Log,
    /// Counted by the device before the check.
    before: Losses,
}

impl Bench {
    /// Boots a guest with a disk; `log` is what earlier ones said.
    pub fn boot(lab: &mut Lab, progress: &mut Progress, log: Log) -> Result<Self, lab::Error> {
        let config = VmConfig { disk_mib: Some(DISK_MIB), ..VmConfig::default() };
        Self::boot_as(lab, config, progress, log)
    }

    /// Boots one without, whose device has so many queue pairs.
    pub fn boot_with_pairs(
        lab: &mut Lab,
        queue_pairs: u8,
        progress: &mut Progress,
        log: Log,
    ) -> Result<Self, lab::Error> {
        let config = VmConfig { queue_pairs, ..VmConfig::default() };
        Self::boot_as(lab, config, progress, log)
    }

    /// Boots one without, with these arguments of the device.
    pub fn boot_with(
        lab: &mut Lab,
        device_args: Vec<String>,
        progress: &mut Progress,
        log: Log,
    ) -> Result<Self, lab::Error> {
        Self::boot_as(lab, VmConfig { device_args, ..VmConfig::default() }, progress, log)
    }

    fn boot_as(
        lab: &mut Lab,
        config: VmConfig,
        progress: &mut Progress,
        log: Log,
    ) -> Result<Self, lab::Error> {
        let config = VmConfig { vcpus: VCPUS, ..config };
        let vm = lab.boot(&config, progress)?;
        let (files, tools) = (lab.initramfs.clone(), lab.tools.clone());
        let (queue_pairs, before) = (config.queue_pairs, Losses::default());
        Ok(Self { vm, files, tools, queue_pairs, log, before })
    }

    /// Queue pairs of the device.
    pub const fn queue_pairs(&self) -> u8 {
        self.queue_pairs
    }

    /// The guest's modules.
    pub fn files(&self) -> &Initramfs {
        &self.files
    }

    /// Powers the guest off, in order.
    pub fn end(self) -> Result<(), vm::Error> {
        self.vm.power_off()
    }

    /// Kills the guest; what it said.
    pub fn into_log(self) -> Log {
        self.log
    }

    /// What the kernel said so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes over what the kernel has said since the last time.
    pub fn collect_log(&mut self) -> Result<(), Failure> {
        let text = self.vm.text(&Request::KernelLog)?;
        self.log.add(&text);
        Ok(())
    }

    /// The same, without the lines with `expected`, which a check has brought about. What was said,
    /// all of it.
    pub fn collect_log_but(&mut self, expected: &str) -> Result<Vec<String>, Failure> {
        let text = self.vm.text(&Request::KernelLog)?;
        let said: Vec<_> = text.lines().map(str::to_owned).collect();
        let rest: Vec<_> =
            said.iter().filter(|line| !line.contains(expected)).map(String::as_str).collect();
        self.log.add(&rest.join("\n"));
        Ok(said)
    }

    /// Brings about the state each check begins with, whatever the one before has left: machine
    /// running, backend there, nothing moderated, the NIC's clock at no rate of its own, driver
    /// loaded, link up, page in use, no server, no test module.
    pub fn baseline(&mut self) -> Result<(), Failure> {
        if self.vm.device_off() {
            self.vm.start_device()?;
        }
        self.vm.release_device()?;
        self.vm.qmp("cont", &json!({}))?;
        for vector in [Vector::Rx, Vector::Tx] {
            let off = Moderation { vector, usecs: 0, frames: 0, adaptive: false };
            self.vm.device(&tsnic_protocol::Request::Moderation(off))?;
        }
        self.vm.device(&tsnic_protocol::Request::Clock(Adjustment::RatePpb(0)))?;
        for request in [Request::RpcStop, Request::ReceiverStop] {
            match self.vm.ask(&request) {
                // None was running.
                Ok(_) | Err(vm::Error::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for name in ["tsnic_rendezvous", "virtio_net", "net_failover", "failover"] {
            if self.has_module(name)? {
                self.unload(name)?;
            }
        }
        // Left by a check that failed: a queue that stays broken until the driver is reloaded.
        if self.has_module("tsnic_forgeused")? {
            self.unload("tsnic_forgeused")?;
            self.unload("tsnic")?;
        }
        if !self.has_module("tsnic")? {
            self.load_driver()?;
        }
        self.link_up()?;
        self.wait("The device is not armed", |status| {
            status.page.is_some() && status.armed && status.ci == status.produced
        })?;
        Ok(())
    }

    /// Whether the kernel has this module loaded.
    pub fn has_module(&mut self, name: &str) -> Result<bool, Failure> {
        let modules = self.read("/proc/modules")?;
        Ok(modules.lines().any(|line| line.split(' ').next() == Some(name)))
    }

    /// Loads the driver.
    pub fn load_driver(&mut self) -> Result<(), Failure> {
        let request = insert(&self.files.driver);
        Ok(self.vm.command(&request)?)
    }

    /// Unloads a module.
    pub fn unload(&mut self, name: &str) -> Result<(), Failure> {
        Ok(self.vm.command(&Request::RemoveModule { name: name.into() })?)
    }

    /// Has this driver serve the interface, whatever did before.
    pub fn use_driver(&mut self, driver: Driver) -> Result<(), Failure> {
        self.baseline()?;
        if driver == Driver::VirtioNet {
            return self.use_stock_driver().map(drop);
        }
        self.link_down()?;
        self.set_mode(driver)?;
        self.link_up()
    }

    /// How the tsnic driver, whose link is down, takes its NAPI.
    pub fn set_mode(&mut self, driver: Driver) -> Result<(), Failure> {
        let mode = if driver == Driver::TsnicV410 { "v4_10" } else { "v4_11" };
        let (path, value) = (IRQ_MODE.into(), mode.into());
        Ok(self.vm.command(&Request::WriteFile { path, value })?)
    }

    /// What the tsnic driver does wrong. One that has run out of buffers goes on when its link has
    /// gone down and up.
    pub fn set_behaviour(&mut self, behaviour: &str) -> Result<(), Failure> {
        let (path, value) = (guest::BEHAVIOUR.into(), behaviour.into());
        self.vm.command(&Request::WriteFile { path, value })?;
        if behaviour == "right" {
            self.link_down()?;
            self.link_up()?;
        }
        Ok(())
    }

    /// Has the kernel's own driver take over, which the device then knows as any other.
    pub fn use_stock_driver(&mut self) -> Result<Status, Failure> {
        if self.files.virtio_net.is_empty() {
            return Err(Failure::Skip("This kernel has no virtio_net module".into()));
        }
        self.unload("tsnic")?;
        self.load_stock_driver()?;
        let otherwise =
            "The kernel's driver has not started the queues, or the device kept the page";
        self.wait(otherwise, |status| status.running && status.page.is_none())
    }

    /// Loads the kernel's own driver and raises the link.
    pub fn load_stock_driver(&mut self) -> Result<(), Failure> {
        for module in self.files.virtio_net.clone() {
            self.vm.command(&insert(&module))?;
        }
        let up = guest::raise(self.vm.link());
        Ok(self.vm.command(&up)?)
    }

    /// Unloads the kernel's own driver.
    pub fn unload_stock_driver(&mut self) -> Result<(), Failure> {
        for module in self.files.virtio_net.clone().iter().rev() {
            self.unload(module.rsplit('/').next().unwrap_or(module).trim_end_matches(".ko"))?;
        }
        Ok(())
    }

    /// Raises the link, with hardware timestamps.
    pub fn link_up(&mut self) -> Result<(), Failure> {
        let request = guest::raise(self.vm.link());
        self.vm.command(&request)?;
        Ok(self.vm.command(&Request::HwTimestamps { name: NIC.into() })?)
    }

    /// Takes the link down.
    pub fn link_down(&mut self) -> Result<(), Failure> {
        Ok(self.vm.command(&Request::LinkDown { name: NIC.into() })?)
    }

    /// Reads a file of the guest.
    pub fn read(&mut self, path: &str) -> Result<String, Failure> {
        Ok(self.vm.text(&Request::ReadFile { path: path.into() })?)
    }

    /// Reads a number from a file of the guest.
    pub fn number(&mut self, path: &str) -> Result<u64, Failure> {
        let text = self.read(path)?;
        text.parse().map_err(|_| Failure::Unmet(format!("{path} is {text:?}, not a number")))
    }

    /// The state of the device.
    pub fn status(&mut self) -> Result<Status, Failure> {
        Ok(self.vm.device_status()?)
    }

    /// The state of another queue pair than the first.
    pub fn pair_status(&mut self, pair: u16) -> Result<Status, Failure> {
        Ok(self.vm.pair_status(pair)?)
    }

    /// Waits for a state of the device, and gives it; `otherwise` is what is wrong when it does not
    /// come.
    pub fn wait(
        &mut self,
        otherwise: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, Failure> {
        let limit = self.vm.limit(LIMIT);
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Failure::Late(format!(
                    "{otherwise} (after {} s: {status:?})",
                    limit.as_secs()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until a file of the guest holds a number that will do.
    pub fn wait_file(&mut self, path: &str, wanted: impl Fn(u64) -> bool) -> Result<u64, Failure> {
        let limit = self.vm.limit(LIMIT);
        let deadline = Instant::now() + limit;
        loop {
            let found = self.number(path)?;
            if wanted(found) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let status = self.vm.device_answers().then(|| self.status()).transpose()?;
                return Err(Failure::Late(format!(
                    "{path} is still {found} after {} s; device {status:?}",
                    limit.as_secs()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Starts the RPC server and the traffic with it.
    pub fn start_traffic(&mut self) -> Result<Traffic, Failure> {
        self.start_server()?;
        let traffic = Traffic::start(&self.vm)?;
        self.stamped_rpcs(&traffic)?;
        Ok(traffic)
    }

    /// The same with any driver: the RPCs need no timestamps.
    pub fn start_traffic_of_any_driver(&mut self) -> Result<Traffic, Failure> {
        self.start_server()?;
        let traffic = Traffic::start(&self.vm)?;
        self.replies(&traffic, |now| now.all() >= RPCS)?;
        Ok(traffic)
    }

    /// The same without the flood.
    pub fn start_rpcs(&mut self) -> Result<Traffic, Failure> {
        self.start_server()?;
        let traffic = Traffic::rpcs(&self.vm)?;
        self.stamped_rpcs(&traffic)?;
        Ok(traffic)
    }

    /// Starts the RPC server.
    pub fn start_server(&mut self) -> Result<(), Failure> {
        let local = (self.vm.link().guest_ip, RPC_PORT);
        Ok(self.vm.command(&Request::RpcStart { local, busy_poll_us: BUSY_POLL_US, cpu: 0 })?)
    }

    /// Stops it; how many RPCs it has answered.
    pub fn stop_server(&mut self) -> Result<u64, Failure> {
        Ok(self.vm.count(&Request::RpcStop)?)
    }

    /// A check begins: what the device has counted so far is not its doing.
    pub fn note_losses(&mut self) -> Result<(), Failure> {
        self.before = Losses::of(self.vm.device_pid(), &self.status()?);
        Ok(())
    }

    /// What the device has counted since.
    pub fn losses(&mut self) -> Result<Losses, Failure> {
        Ok(Losses::of(self.vm.device_pid(), &self.status()?).since(self.before))
    }

    /// Ends the traffic and the RPC server: all replies were in order, all over one connection, and
    /// driver and device have lost nothing. What there was, as text.
    pub fn end_traffic(&mut self, traffic: Traffic) -> Result<String, Failure> {
        let text = self.stop_traffic(traffic)?;
        self.losses()?.expect_none()?;
        Ok(text)
    }

    /// The same, whatever the device saw lost.
    pub fn stop_traffic(&mut self, traffic: Traffic) -> Result<String, Failure> {
        let (datagrams, replies) = traffic.end()?;
        let served = self.stop_server()?;
        let answered = replies.all();
        expect(served == answered, || {
            format!("The server answered {served} RPCs, the client heard {answered}")
        })?;
        Ok(format!("{answered} RPCs, {datagrams} datagrams"))
    }

    /// More RPCs are answered, with hardware timestamps: wire, device, page, driver and stack work.
    pub fn stamped_rpcs(&mut self, traffic: &Traffic) -> Result<(), Failure> {
        let before = traffic.replies();
        self.replies(traffic, |now| now.stamped >= before.stamped + RPCS).map(drop)
    }

    /// Waits until enough replies have come.
    pub fn replies(
        &mut self,
        traffic: &Traffic,
        enough: impl Fn(Replies) -> bool,
    ) -> Result<Replies, Failure> {
        let before = traffic.replies();
        let limit = self.vm.limit(LIMIT);
        let deadline = Instant::now() + limit;
        loop {
            let now = traffic.replies();
            if enough(now) {
                return Ok(now);
            }
            self.vm.check("RPCs go on")?;
            traffic.goes_on()?;
            if Instant::now() >= deadline {
                let status = self.status()?;
                return Err(Failure::Late(format!(
                    "RPCs do not go on as they should: within {} s from {before:?} to {now:?}; {status:?}",
                    limit.as_secs()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }
}

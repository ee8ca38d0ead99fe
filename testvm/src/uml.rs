// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm uml`: user-mode Linux as the front end, with its stock `virtio_net`. Needs neither QEMU
//! nor KVM.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use guest_protocol::{Request, icmp, transfer};

use crate::build::Builder;
use crate::cache;
use crate::config::Places;
use crate::initramfs;
use crate::interrupt;
use crate::isolate::{self, Link, RunDir};
use crate::output::outln;
use crate::process;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;
use crate::vm::{Hypervisor, Parts, Vm, VmConfig};

/// The guest's interface.
const NIC: &str = "eth0";

/// The program of Debian's package `user-mode-linux`, and where its modules are.
const PROGRAM: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// Echo requests each way.
const PINGS: u16 = 20;

/// Bytes each way: the long transfer, and the one after the driver was loaded anew.
const LONG: u64 = 100_000_000;
const SHORT: u64 = 5_000_000;

/// TCP port of the transfers.
const PORT: u16 = 7100;

/// Time for one transfer; one that takes longer is no verdict.
const TRANSFER_LIMIT: Duration = Duration::from_secs(180);

/// Where user-mode Linux is on this machine.
#[derive(Debug)]
struct Uml {
    program: PathBuf,
    release: String,
}

impl Uml {
    fn find(program: Option<&Path>) -> anyhow::Result<Self> {
        let program = program.unwrap_or(Path::new(PROGRAM)).to_owned();
        let output = Command::new(&program).arg("--version").output().with_context(|| {
            format!(
                "{} cannot be run (Debian has it in the package user-mode-linux)",
                program.display()
            )
        })?;
        let release = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success() && !release.is_empty(),
            "{} does not tell its version",
            program.display()
        );
        Ok(Self { program, release })
    }

    fn modules(&self) -> PathBuf {
        Path::new(MODULES).join(&self.release)
    }
}

/// A look at the guest.
type Check = fn(&mut Guest<'_>) -> anyhow::Result<Seen>;

/// What was seen, or the first thing that was not as it should be.
type Seen = Result<String, String>;

/// Boots user-mode Linux on the device and looks at ping, a long transfer, and a driver that is
/// loaded anew.
///
/// # Errors
/// The run could not be judged.
pub fn run(places: &Places, program: Option<&Path>) -> anyhow::Result<Verdict> {
    isolate::probe()?;
    let uml = Uml::find(program)?;
    process::adopt_orphans()?;
    let mut progress = Progress::new();
    let builder =
        Builder { source: &places.source, target: places.target.as_deref(), cache: &places.cache };
    let mut stage = progress.stage(Stage::Device);
    let _lock = cache::lock(&places.cache, &mut |line| stage.note(line))?;
    let device = builder.device(&mut |line| stage.note(line))?;
    stage.done("tsnic");
    let mut stage = progress.stage(Stage::Agent);
    let agent = builder.agent(&mut |line| stage.note(line))?;
    stage.done("guest-agent, static");
    let stage = progress.stage(Stage::Isolate);
    let run = RunDir::enter()?;
    stage.done("a network of its own");
    let (initrd, modules) =
        initramfs::stock(&run.path().join("initramfs"), &uml.modules(), &agent)?;
    ensure!(
        !modules.is_empty(),
        "User-mode Linux {} has no module virtio_net in {MODULES}",
        uml.release
    );

    let mut stage = progress.stage(Stage::Boot { vcpus: 1 });
    let parts = Parts {
        hypervisor: Hypervisor::Uml { program: &uml.program },
        device: &device,
        initrd: &initrd,
        transport: &[],
        run: &run,
        logs: &run.path(),
        index: 0,
    };
    let mut vm = Vm::boot(&parts, &VmConfig::default(), &mut || stage.note(""))?;
    stage.done(format!("user-mode Linux {}", vm.ready().kernel));
    let mut guest = Guest { vm: &mut vm, modules };
    let checks: [(&str, Check); 3] = [
        ("ping", |guest| guest.ping()),
        ("transfer", |guest| guest.transfer(LONG)),
        ("reload", |guest| guest.reload()),
    ];
    guest.load()?;
    let mut verdict = Verdict::Pass;
    for (name, check) in checks {
        let stage = progress.stage(Stage::Run(name.to_owned()));
        let started = Instant::now();
        let seen = check(&mut guest)?;
        interrupt::check()?;
        stage.done(if seen.is_ok() { "passed" } else { "FAILED" });
        let took = started.elapsed().as_secs_f64();
        match seen {
            Ok(text) => outln!("passed  {name:<9} {took:>5.1} s  {text}"),
            Err(text) => {
                verdict = Verdict::Fail;
                outln!("FAILED  {name:<9} {took:>5.1} s  {text}");
            }
        }
    }
    let counters = vm.device_status()?.counters;
    if counters.queues_broken != 0 || counters.connections != 1 {
        verdict = Verdict::Fail;
        outln!(
            "FAILED  the device counted {} broken queues, {} connections",
            counters.queues_broken,
            counters.connections
        );
    }
    vm.power_off()?;
    Ok(verdict)
}

/// The booted guest.
struct Guest<'a> {
    vm: &'a mut Vm,
    modules: Vec<String>,
}

impl Guest<'_> {
    /// Loads `virtio_net` and raises the link. The interface has a new MAC address each time, which
    /// the host is told.
    fn load(&mut self) -> anyhow::Result<()> {
        for path in &self.modules {
            self.vm
                .command(&Request::InsertModule { path: path.clone(), params: String::new() })?;
        }
        let link = self.vm.link().clone();
        let Link { guest_ip: ip, prefix_len, host_ip, host_mac, .. } = link;
        let neighbours = vec![(host_ip, host_mac)];
        self.vm.command(&Request::LinkUp { name: NIC.to_owned(), ip, prefix_len, neighbours })?;
        let address =
            self.vm.text(&Request::ReadFile { path: format!("/sys/class/net/{NIC}/address") })?;
        link.guest_is_at(&address)?;
        Ok(())
    }

    fn unload(&mut self) -> anyhow::Result<()> {
        for path in self.modules.iter().rev() {
            let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko").to_owned();
            self.vm.command(&Request::RemoveModule { name })?;
        }
        Ok(())
    }

    fn ping(&mut self) -> anyhow::Result<Seen> {
        let link = self.vm.link().clone();
        let out = self.vm.count(&Request::Ping { to: link.host_ip, count: PINGS })?;
        let back = icmp::ping(link.guest_ip, PINGS).context("The guest cannot be pinged")?;
        let all = u64::from(PINGS);
        Ok(if (out, back) == (all, all) {
            Ok(format!("{PINGS} echo requests each way, all answered"))
        } else {
            Err(format!(
                "Of {PINGS} echo requests each way, {out} of the guest's and {back} of the host's were answered"
            ))
        })
    }

    /// `bytes` each way, each byte compared.
    fn transfer(&mut self, bytes: u64) -> anyhow::Result<Seen> {
        let link = self.vm.link().clone();
        let (into, out) =
            (self.inwards(link.guest_ip, bytes)?, self.outwards(link.host_ip, bytes)?);
        Ok(if (into, out) == (bytes, bytes) {
            Ok(format!("{} MB each way, every byte as it was sent", bytes / 1_000_000))
        } else {
            Err(format!(
                "Of {bytes} bytes each way, {into} came into the guest and {out} out of it"
            ))
        })
    }

    fn inwards(&mut self, guest: Ipv4Addr, bytes: u64) -> anyhow::Result<u64> {
        let sender = spawn("sender", move || {
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut stream = loop {
                // The agent listens as soon as it has the request.
                match TcpStream::connect((guest, PORT)) {
                    Ok(stream) => break stream,
                    Err(error)
                        if error.kind() == io::ErrorKind::ConnectionRefused
                            && Instant::now() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(error),
                }
            };
            transfer::send(&mut stream, bytes).map(|()| bytes)
        })?;
        let received = self
            .vm
            .ask_within(&Request::TransferReceive { local: (guest, PORT) }, TRANSFER_LIMIT)?;
        join(sender)?;
        match received {
            guest_protocol::Reply::Count { count } => Ok(count),
            other => bail!("The agent answered {other:?}"),
        }
    }

    fn outwards(&mut self, host: Ipv4Addr, bytes: u64) -> anyhow::Result<u64> {
        let listener = TcpListener::bind((host, PORT))?;
        let receiver = spawn("receiver", move || transfer::receive(&mut listener.accept()?.0))?;
        self.vm.ask_within(&Request::TransferSend { peer: (host, PORT), bytes }, TRANSFER_LIMIT)?;
        join(receiver)
    }

    /// The driver goes and comes back: its rings are set up again without the front end ever having
    /// said where they stopped.
    fn reload(&mut self) -> anyhow::Result<Seen> {
        self.unload()?;
        self.load()?;
        let (ping, transfer) = (self.ping()?, self.transfer(SHORT)?);
        Ok(ping.and_then(|ping| Ok(format!("virtio_net loaded anew: {ping}; {}", transfer?))))
    }
}

fn spawn(
    name: &str,
    run: impl FnOnce() -> io::Result<u64> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<u64>>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn join(thread: JoinHandle<io::Result<u64>>) -> anyhow::Result<u64> {
    match thread.join() {
        Ok(result) => result.context("The host's end of the transfer failed"),
        Err(_) => bail!("The host's end of the transfer panicked"),
    }
}

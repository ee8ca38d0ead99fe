// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm uml`: user-mode Linux as the front end, with its stock `virtio_net`. Needs neither QEMU
//! nor KVM.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guest_protocol::{Reply, Request, icmp};
use serde::Serialize;

use crate::bench::failure::{Failure, expect, expect_answered};
use crate::build::Builder;
use crate::cache;
use crate::config::UmlConfig;
use crate::initramfs;
use crate::interrupt;
use crate::isolate::{self, Link, RunDir};
use crate::output::outln;
use crate::process;
use crate::progress::{Progress, Stage};
use crate::stream;
use crate::verdict::Verdict;
use crate::vm::{Hypervisor, Parts, Vm, VmConfig};

/// The guest's interface.
const NIC: &str = "eth0";

/// The program of Debian's package `user-mode-linux`, and where its modules are.
const PROGRAM: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// Echo requests each way, and time for the guest's.
const PINGS: u16 = 20;
const PING_LIMIT: Duration = icmp::PATIENCE.saturating_mul(PINGS as u32 + 1);

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

/// A look at the guest; what was seen.
type Check = fn(&mut Guest<'_>) -> Result<String, Failure>;

/// Boots user-mode Linux on the device and looks at ping, a long transfer, and a driver that is
/// loaded anew.
///
/// # Errors
/// The run could not be judged.
pub fn run(config: &UmlConfig) -> anyhow::Result<Verdict> {
    let UmlConfig { program, json, scale, places } = config;
    isolate::probe()?;
    let uml = Uml::find(program.as_deref())?;
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
    let vm_config = VmConfig { scale: *scale, ..VmConfig::default() };
    let mut vm = Vm::boot(&parts, &vm_config, &mut || stage.note(""))?;
    stage.done(format!("user-mode Linux {}", vm.ready().kernel));
    let mut guest = Guest { vm: &mut vm, modules };
    let checks: [(&str, Check); 4] = [
        ("ping", |guest| guest.ping()),
        ("transfer", |guest| guest.transfer(LONG)),
        ("reload", |guest| guest.reload()),
        ("device", |guest| guest.device()),
    ];
    guest.load()?;
    let mut report = Report { verdict: "", kernel: uml.release.clone(), checks: Vec::new() };
    for (name, check) in checks {
        let stage = progress.stage(Stage::Run(name.to_owned()));
        let started = Instant::now();
        let ended = check(&mut guest);
        interrupt::check()?;
        let usable = matches!(ended, Ok(_) | Err(Failure::Unmet(_)));
        let result = CheckResult::of(name, ended, started.elapsed());
        stage.done(result.outcome.word());
        outln!("{result}");
        report.checks.push(result);
        // A guest or device that refuses or is late may do so for what comes next, too.
        if !usable {
            break;
        }
    }
    let verdict = report.judge();
    if verdict == Verdict::Pass {
        vm.power_off()?;
    }
    if let Some(path) = json {
        fs::write(path, report.to_json())
            .with_context(|| format!("The report cannot be written to {}", path.display()))?;
    }
    Ok(verdict)
}

/// What is written where `--json` says.
#[derive(Debug, Serialize)]
struct Report {
    /// [`Verdict::word`].
    verdict: &'static str,
    /// `uname -r` of the guest.
    kernel: String,
    checks: Vec<CheckResult>,
}

/// What came of one check.
#[derive(Debug, Serialize)]
struct CheckResult {
    name: &'static str,
    outcome: Outcome,
    seconds: f64,
    /// What was seen, or what was not as it should be.
    seen: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Passed,
    Failed,
    /// Something did not come in time, which slowness alone may have brought about.
    NoVerdict,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NoVerdict => "NO VERDICT",
        }
    }
}

impl Report {
    /// The verdict, which is now in the report, too.
    fn judge(&mut self) -> Verdict {
        let any = |wanted| self.checks.iter().any(|check| check.outcome == wanted);
        let verdict = if any(Outcome::Failed) {
            Verdict::Fail
        } else if any(Outcome::NoVerdict) {
            Verdict::Undecided
        } else {
            Verdict::Pass
        };
        self.verdict = verdict.word();
        verdict
    }

    fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl CheckResult {
    fn of(name: &'static str, ended: Result<String, Failure>, took: Duration) -> Self {
        let (outcome, seen) = match ended {
            Ok(seen) => (Outcome::Passed, seen),
            Err(late) if late.is_late() => (Outcome::NoVerdict, late.chain()),
            Err(failure) => (Outcome::Failed, failure.chain()),
        };
        Self { name, outcome, seconds: took.as_secs_f64(), seen }
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.outcome.word();
        write!(f, "{word}  {:<9} {:>5.1} s  {}", self.name, self.seconds, self.seen)
    }
}

/// The booted guest.
struct Guest<'a> {
    vm: &'a mut Vm,
    modules: Vec<String>,
}

impl Guest<'_> {
    /// Loads `virtio_net` and raises the link. The interface has a new MAC address each time, which
    /// the host is told.
    fn load(&mut self) -> Result<(), Failure> {
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

    fn unload(&mut self) -> Result<(), Failure> {
        for path in self.modules.iter().rev() {
            let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko").to_owned();
            self.vm.command(&Request::RemoveModule { name })?;
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<String, Failure> {
        let link = self.vm.link().clone();
        let request = Request::Ping { to: link.host_ip, count: PINGS };
        let out = match self.vm.ask_within(&request, PING_LIMIT)? {
            Reply::Pings(pings) => pings,
            other => return Err(Failure::Unmet(format!("The agent answers {other:?}"))),
        };
        let back = icmp::ping(link.guest_ip, PINGS, self.vm.limit(icmp::PATIENCE))?;
        expect_answered(PINGS, &[("the guest's", out), ("the host's", back)])?;
        Ok(format!("{PINGS} echo requests each way, all answered"))
    }

    /// `bytes` each way, each byte compared.
    fn transfer(&mut self, bytes: u64) -> Result<String, Failure> {
        let (into, out) = (
            stream::inwards(self.vm, PORT, bytes, TRANSFER_LIMIT, |it| it)?,
            stream::outwards(self.vm, PORT, bytes, TRANSFER_LIMIT)?,
        );
        expect((into, out) == (bytes, bytes), || {
            format!("Of {bytes} bytes each way, {into} came into the guest and {out} out of it")
        })?;
        Ok(format!("{} MB each way, every byte as it was sent", bytes / 1_000_000))
    }

    /// The counters of the device at the end.
    fn device(&mut self) -> Result<String, Failure> {
        let counters = self.vm.device_status()?.counters;
        let (broken, connections) = (counters.queues_broken, counters.connections);
        let text = format!("{broken} broken queues, {connections} connections");
        expect((broken, connections) == (0, 1), || text.clone())?;
        Ok(text)
    }

    /// The driver goes and comes back: its rings are set up again without the front end ever having
    /// said where they stopped.
    fn reload(&mut self) -> Result<String, Failure> {
        self.unload()?;
        self.load()?;
        let (ping, transfer) = (self.ping()?, self.transfer(SHORT)?);
        Ok(format!("virtio_net loaded anew: {ping}; {transfer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_that_failed_is_the_verdict_and_is_in_the_report() {
        let check = |name, ended| CheckResult::of(name, ended, Duration::from_millis(1500));
        let good = || check("ping", Ok("all answered".to_owned()));
        let late = || check("transfer", Err(Failure::Late("no carrier".to_owned())));
        let mut report = Report { verdict: "", kernel: "6.1.0".to_owned(), checks: vec![good()] };
        assert_eq!(report.judge(), Verdict::Pass);
        report.checks.push(late());
        assert_eq!(report.judge(), Verdict::Undecided);
        report.checks.push(check("device", Err(Failure::Unmet("1 broken queues".to_owned()))));
        assert_eq!(report.judge(), Verdict::Fail);
        let text = report.to_json();
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let device = serde_json::json!(
            {"name": "device", "outcome": "failed", "seconds": 1.5, "seen": "1 broken queues"}
        );
        assert_eq!((&json["verdict"], &json["checks"][2]), (&"fail".into(), &device));
        assert_eq!(json["checks"][1]["outcome"], "no-verdict");
        assert_eq!(report.checks[2].to_string(), "FAILED  device      1.5 s  1 broken queues");
        assert_eq!(
            report.checks[1].to_string(),
            "NO VERDICT  transfer    1.5 s  no carrier; --slow gives more time"
        );
    }
}

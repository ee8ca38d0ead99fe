// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments.

mod ablation;
pub mod clause;
pub(crate) mod error;
mod experiment;
pub(crate) mod guest;
mod natural;
mod paced;
pub(crate) mod placed;
pub mod plan;
mod races;

use std::fs;

use anyhow::Context as _;

pub use error::Error;
use experiment::Experiment;
use guest::Guest;
use plan::{Boot, Size};

use crate::config::Config;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::Progress;
use crate::report::{Expected, Host, Provenance, Report, Results};
use crate::verdict::Verdict;
use crate::vm::{Ready, VmConfig};

/// Runs the experiments of `testvm repro`, prints the report and writes it where `--json` says.
///
/// # Errors
/// The run could not be judged at all: nothing was measured, or the report cannot be written.
pub fn repro(config: &Config) -> anyhow::Result<Verdict> {
    let mut size = if config.quick { Size::quick() } else { Size::full() };
    size.rounds = config.rounds.unwrap_or(size.rounds);
    let boots = plan::plan(size);
    let host = Host::gather(&config.machine.source);

    let mut progress = Progress::new();
    let mut lab = Lab::prepare(&config.machine, &mut progress)?;
    let mut results = Results::default();
    let mut ready = None;
    for boot in &boots {
        if let Err(error) = experiment(
            &mut lab,
            boot,
            size.rounds,
            config.seed,
            &mut progress,
            &mut results,
            &mut ready,
        ) {
            interrupt::check()?;
            results.problems.push(format!("{error:#}"));
        }
    }
    let provenance = provenance(host, &lab, ready, config.seed);
    let report = Report::new(Expected::of(&boots, size.rounds), results, provenance);
    if let Some(path) = &config.json {
        fs::write(path, report.to_json())
            .with_context(|| format!("The report cannot be written to {}", path.display()))?;
    }
    outln!("{report}");
    Ok(report.verdict())
}

/// One boot and everything planned in it.
fn experiment(
    lab: &mut Lab,
    boot: &Boot,
    rounds: u32,
    seed: u64,
    progress: &mut Progress,
    results: &mut Results,
    ready: &mut Option<Ready>,
) -> anyhow::Result<()> {
    let vcpus = u8::try_from(boot.vcpus)?;
    let mut vm = lab.boot(&VmConfig { vcpus, ..VmConfig::default() }, progress)?;
    ready.get_or_insert_with(|| vm.ready().clone());
    let guest = Guest::prepare(&mut vm, &lab.initramfs)?;
    Experiment { guest, progress, results, rounds, seed, vcpus: boot.vcpus }.run(boot)?;
    vm.power_off()?;
    Ok(())
}

fn provenance(host: Host, lab: &Lab, ready: Option<Ready>, seed: u64) -> Provenance {
    let (kernel, clocksource) = ready.map(|r| (r.kernel, r.clocksource)).unzip();
    Provenance {
        commit: host.commit,
        kernel,
        qemu: Some(lab.qemu.version.to_string()),
        accelerator: Some(lab.qemu.accel.to_string()),
        cpu: host.cpu,
        seed,
        host_cpus: host.cpus,
        host_kernel: host.kernel,
        interrupts: Some(lab.interrupts().to_string()),
        clocksource,
    }
}

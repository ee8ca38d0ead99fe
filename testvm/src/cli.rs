// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line: commands and their arguments. What they become is in `options`, and for the
//! guest's surroundings in `machine`.

mod machine;
mod options;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use tsnic_protocol::plan::Driver;

use crate::check;
pub use machine::{LimitArgs, MachineArgs};
pub use usage::UsageError;

/// Boots a real Linux guest on the tsnic device, runs the experiments and gives the verdict.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 pass, 1 fail, 2 usage, 69 no verdict (the run could not be judged), 130 interrupted"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reproduce the NAPI race, and show that the fix holds
    Repro(ReproArgs),
    /// Check what the driver and the device have to live through in a guest
    Check(CheckArgs),
    /// Put plans to work on the drivers of a guest: what is done to their interrupts
    Plan(PlanArgs),
    /// Find the fewest decisions of a failing plan with which it still fails
    Shrink(ShrinkArgs),
    /// Hold the device's detectors against drivers that do nothing wrong, for as long as you like
    Soak(SoakArgs),
    /// Compare the model of NAPI's protocol with the guest's kernel, step by step
    Napi(NapiArgs),
    /// Only boot the guest, to see that everything it needs works
    Boot(BootArgs),
    /// Check user-mode Linux as the front end, with its stock network driver: no QEMU, no KVM
    Uml(UmlArgs),
    /// Only fetch the kernel and the guest's programs and build everything, so that a later run can
    /// be offline
    Fetch(MachineArgs),
}

/// Arguments of `testvm repro`.
#[derive(Debug, Args)]
pub struct ReproArgs {
    /// 10 rounds a cell, 2 vCPUs only, 200 RPCs, fewer trials
    #[arg(long)]
    pub quick: bool,
    /// Rounds a cell
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Write the machine-readable report here, every sample included (docs/report.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm check`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Some checks run programs of Debian's package linuxptp in the guest, and ptp4l on the host's end of
its wire. With the libraries they need they are fetched from this machine's package sources into the
cache, once and without root, and are among the guest's files only when such a check is run. Without
them these checks are skipped.

Pass: every check has passed. One that is skipped or comes to no verdict leaves the run without one
(69).")]
pub struct CheckArgs {
    /// Run only this check; may be given several times
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(check::list().map(|(name, _)| name)))]
    pub only: Vec<String>,
    /// Say which checks there are, and run none
    #[arg(long)]
    pub list: bool,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm plan`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A plan is a TOML file (docs/policies.md); plans/ has one for each policy. Each is put to work with the
driver that it names or, when it names none, with the kernel's virtio_net and with the tsnic driver,
while RPCs over TCP and a flood of datagrams go on.

The device's detectors judge. Who survives a plan has had no verdict of the stall detector but
\"slow\" (docs/stalls.md), also if a nudge has brought it round, and has lost nothing. A control has
to be seen to stall. RPCs that are not answered in time, without a verdict, are no verdict (69).

Pass: every driver came through every plan as the plan expects it.")]
pub struct PlanArgs {
    /// The plans
    #[arg(required = true, value_name = "FILE")]
    pub plans: Vec<PathBuf>,
    /// Write the machine-readable report here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm shrink`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The plan is run until it fails: until the device's detectors see a stall or a loss, whatever the plan expects and whoever is to \
blame. What its policies decided is then replayed without more and more of the decisions, in the same guest (delta debugging). A \
guest is not deterministic: every one of --repeats replays has to fail. When the replay of all decisions does not, the next seed \
is tried, up to five. In the end what is left is replayed 10 times more; with \
fewer than 9 failures it failed by luck before, and the candidate before it takes its place. It is written as a plan with its \
schedules beside it.

Pass: at least 9 of these 10 fail. A plan that does not fail, or whose replay does not, is no verdict (69).")]
pub struct ShrinkArgs {
    /// The plan
    #[arg(value_name = "FILE")]
    pub plan: PathBuf,
    /// The driver in the guest; when left out that of the plan, or the kernel's own
    #[arg(long, value_name = "DRIVER", value_parser = driver())]
    pub driver: Option<Driver>,
    /// Trials of the plan until it fails, and of each replay
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Where the replay goes; PLAN.shrunk.toml in this directory when left out
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm soak`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Under RPCs over TCP and a flood of datagrams, what may happen to a machine happens to the guest: streams at full speed both ways, \
a ping flood, its link and its carrier go and come back, it is stopped and goes on, sleeps (S3) and wakes, its driver is loaded \
anew, or there is silence. Each in every round, in an order that follows the seed, with the drivers in turn. In the end the device \
drops all receive, then all transmit interrupts, which the detectors must find. The kernel's own driver sleeps without traffic, \
which it cannot bear.

Pass: each happened, the detectors accused no driver, nothing was lost, every TCP connection lived, the kernel's log has no \
complaint, and the drops were found. What did not come in time is no verdict (69).")]
pub struct SoakArgs {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub minutes: u32,
    /// A driver; may be given several times; when left out the kernel's own and ours
    #[arg(long, value_name = "DRIVER", value_parser = driver())]
    pub driver: Vec<Driver>,
    /// When the device looks closer at a queue that does not go on
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub stall_ms: u32,
    /// Also the kernel's own driver sleeps under traffic, which crashes Linux 6.1 now and then
    /// (docs/findings.md)
    #[arg(long)]
    pub sleep_under_traffic: bool,
    /// Seed of the order and of the pauses
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write the machine-readable report here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Drivers, named as in plans.
fn driver() -> impl TypedValueParser<Value = Driver> {
    PossibleValuesParser::new(["virtio_net", "v4_11", "v4_10"])
        .try_map(|name| serde_json::from_value(name.into()))
}

/// Arguments of `testvm napi`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The kernel's own functions (napi_schedule_prep, napi_complete_done, napi_busy_loop, ...) and those of the crate napi-state go \
through the same random steps, and the state word, the return value and all else that can be seen are compared after each.

Pass: no step differs, every row of the protocol's transition tables was met, and the kernel's log has no complaint. A row that \
was never met is no verdict (69): give more steps. Made for Linux 6.1 and later; an older kernel is no verdict, either.")]
pub struct NapiArgs {
    /// Random steps
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Seed of the steps; a mismatch names the one that repeats it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm boot`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
With --hold in a terminal this is a shell in the guest: every key goes there, Ctrl-C ends what runs in the guest, and Ctrl-] powers \
it off. What the terminal's window is resized to is not told to the guest (stty rows N cols N). Without a terminal, or in the \
background, the guest runs until SIGINT (Ctrl-C) or SIGTERM; the second ends everything at once.")]
pub struct BootArgs {
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub vcpus: u8,
    /// Keep the guest running, with a shell in it until Ctrl-], or without a terminal until Ctrl-C
    #[arg(long)]
    pub hold: bool,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm uml`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Pings, long TCP streams, and both again after the driver was loaded anew.

Pass: every ping was answered, every byte of the streams was right, and the device found no queue broken. A ping that was not \
answered though a later one was is a failure; what did not come in time is no verdict (69).")]
pub struct UmlArgs {
    /// User-mode Linux to use [default: linux.uml on the PATH, from the package user-mode-linux]
    #[arg(long, value_name = "FILE")]
    pub uml: Option<PathBuf>,
    /// Write the machine-readable report here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The guest's time limits.
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[cfg(test)]
mod tests;
mod usage;

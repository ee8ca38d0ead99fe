// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line, and its way into a validated [`Config`].

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use thiserror::Error;
use tsnic_protocol::plan::Driver;

use crate::config::{
    AccelChoice, Config, Interrupts, KernelChoice, LimitScale, Machine, Places, Series, UmlConfig,
};
use crate::plans::{NamedPlan, shrink};
use crate::{check, preflight, soak};

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
    /// Only fetch the kernel and build everything, so that a later run can be offline
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
guest is not deterministic: every one of --repeats replays has to fail. In the end what is left is replayed 10 times more; with \
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
drops all receive, then all transmit interrupts, which the detectors must find.

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

impl TryFrom<SoakArgs> for (MachineArgs, soak::Options) {
    type Error = UsageError;

    fn try_from(args: SoakArgs) -> Result<Self, UsageError> {
        let SoakArgs { minutes, driver, stall_ms, seed, json, machine } = args;
        json.as_deref().map(|path| preflight::output(path, "--json")).transpose()?;
        let time = Duration::from_secs(60 * u64::from(minutes));
        let drivers =
            if driver.is_empty() { vec![Driver::VirtioNet, Driver::TsnicV411] } else { driver };
        Ok((machine, soak::Options { time, drivers, stall_ms, seed, json }))
    }
}

/// Drivers, named as in plans.
fn driver() -> impl TypedValueParser<Value = Driver> {
    PossibleValuesParser::new(["virtio_net", "v4_11", "v4_10"])
        .try_map(|name| serde_json::from_value(name.into()))
}

impl TryFrom<ShrinkArgs> for (MachineArgs, shrink::Options) {
    type Error = UsageError;

    fn try_from(args: ShrinkArgs) -> Result<Self, UsageError> {
        let ShrinkArgs { plan, driver, repeats, out, machine } = args;
        let plan = NamedPlan::load(&plan)?;
        let out = out.unwrap_or_else(|| format!("{}.shrunk.toml", plan.name).into());
        preflight::output(&out, "--out")?;
        Ok((machine, shrink::Options { plan, driver, repeats, out }))
    }
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
pub struct BootArgs {
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub vcpus: u8,
    /// Keep the guest running until Ctrl-C
    #[arg(long)]
    pub hold: bool,
    /// The guest's surroundings.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Arguments of `testvm uml`.
#[derive(Debug, Args)]
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

/// Arguments about time limits.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Multiply the time limits of the guest by this, for a slow or loaded machine: boot 60 s,
    /// answer 20 s, check 15 s
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub slow: u16,
}

/// Arguments about the guest's surroundings, common to all commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guest")]
pub struct MachineArgs {
    /// Which Debian cloud kernel: stable, backports (both of this machine's release), or a suite
    /// such as trixie-backports
    #[arg(long, value_name = "SERIES", default_value = "stable")]
    pub kernel_series: Series,
    /// Look for a newer kernel than the one in the cache
    #[arg(long)]
    pub refresh: bool,
    /// Your own kernel image (bzImage); needs --kernel-build
    #[arg(long, value_name = "FILE", requires = "kernel_build", conflicts_with = "kernel_series")]
    pub kernel: Option<PathBuf>,
    /// Your own kernel's build or headers directory; needs --kernel
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub kernel_build: Option<PathBuf>,
    /// More kernel parameters
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// QEMU to use [default: qemu-system-x86_64 on the PATH]
    #[arg(long, value_name = "FILE")]
    pub qemu: Option<PathBuf>,
    /// Who runs the guest's instructions
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// Interrupt by a shared line.
    #[arg(long, help = "Use a shared INTx line instead of MSI-X (for QEMU before 8)")]
    pub intx: bool,
    /// The guest's time limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Leave the logs of the run behind, and say where
    #[arg(long)]
    pub keep: bool,
}

/// Arguments that contradict the environment or one another.
#[derive(Debug, Error)]
pub enum UsageError {
    /// No place for downloads and builds.
    #[error("No cache directory: set TSNIC_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A path that cannot be made absolute.
    #[error("Path {path} cannot be resolved")]
    Path {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that will not do.
    #[error(transparent)]
    File(#[from] preflight::Error),
    /// A plan that will not do.
    #[error(transparent)]
    Plan(#[from] tsnic_protocol::plan::LoadError),
}

impl TryFrom<MachineArgs> for Machine {
    type Error = UsageError;

    fn try_from(args: MachineArgs) -> Result<Self, UsageError> {
        let kernel = match (args.kernel, args.kernel_build) {
            (Some(image), Some(build)) => {
                KernelChoice::Own { image: absolute(&image)?, build: absolute(&build)? }
            }
            _ => KernelChoice::Debian(args.kernel_series),
        };
        let Places { cache, source, target } = places()?;
        Ok(Self {
            kernel,
            append: args.append,
            // A bare name is looked up on the PATH, anything else is a file.
            qemu: args
                .qemu
                .map(|q| if q.components().count() > 1 { absolute(&q) } else { Ok(q) })
                .transpose()?,
            accel: args.accel,
            interrupts: if args.intx { Interrupts::Intx } else { Interrupts::Msix },
            refresh: args.refresh,
            scale: LimitScale(args.limits.slow),
            keep: args.keep,
            cache,
            source,
            target,
        })
    }
}

impl TryFrom<ReproArgs> for Config {
    type Error = UsageError;

    fn try_from(args: ReproArgs) -> Result<Self, UsageError> {
        Ok(Self {
            quick: args.quick,
            rounds: args.rounds,
            json: args.json.as_deref().map(absolute).transpose()?,
            seed: args.seed,
            machine: args.machine.try_into()?,
        })
    }
}

impl TryFrom<UmlArgs> for UmlConfig {
    type Error = UsageError;

    fn try_from(args: UmlArgs) -> Result<Self, UsageError> {
        Ok(Self {
            program: args.uml,
            json: args.json.as_deref().map(absolute).transpose()?,
            scale: LimitScale(args.limits.slow),
            places: places()?,
        })
    }
}

/// Where a run reads from and builds to.
///
/// # Errors
/// There is no cache directory, or a path cannot be resolved.
fn places() -> Result<Places, UsageError> {
    let source = source_dir();
    let target = env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty());
    let target = target.map(|dir| absolute(Path::new(&dir))).transpose()?;
    let cache = cache_dir(|name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from));
    Ok(Places { cache: absolute(&cache.ok_or(UsageError::NoCache)?)?, source, target })
}

/// The checkout this binary was built from: the device, driver and agent are built from the same
/// one.
fn source_dir() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

fn cache_dir(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    var("TSNIC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("tsnic")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/tsnic")))
}

fn absolute(path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|source| UsageError::Path { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["testvm"], args].concat())
    }

    fn repro(args: &[&str]) -> Config {
        match parse(&[&["repro"], args].concat()).expect("valid arguments").command {
            Command::Repro(args) => args.try_into().expect("a configuration"),
            other => panic!("not repro: {other:?}"),
        }
    }

    fn uml(args: &[&str]) -> UmlConfig {
        match parse(&[&["uml"], args].concat()).expect("valid arguments").command {
            Command::Uml(args) => args.try_into().expect("a configuration"),
            other => panic!("not uml: {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_the_full_run_on_the_stable_kernel() {
        let config = repro(&[]);
        assert!(!config.quick);
        assert_eq!(config.machine.kernel, KernelChoice::Debian(Series::Stable));
        assert_eq!(config.machine.accel, AccelChoice::Auto);
        assert_eq!(config.machine.interrupts, Interrupts::Msix);
    }

    #[test]
    fn an_own_kernel_needs_both_its_image_and_its_build_directory() {
        for half in [&["--kernel", "/k"][..], &["--kernel-build", "/b"]] {
            let err = parse(&[&["repro"], half].concat()).expect_err("half a kernel");
            assert_eq!(err.exit_code(), 2);
        }
        let config = repro(&["--kernel", "/k", "--kernel-build", "/b"]);
        assert_eq!(
            config.machine.kernel,
            KernelChoice::Own { image: "/k".into(), build: "/b".into() }
        );
    }

    #[test]
    fn a_series_may_be_any_suite() {
        let series = |name| repro(&["--kernel-series", name]).machine.kernel;
        assert_eq!(series("backports"), KernelChoice::Debian(Series::Backports));
        let suite = Series::Suite("trixie-backports".to_owned());
        assert_eq!(series("trixie-backports"), KernelChoice::Debian(suite));
    }

    #[test]
    fn an_own_kernel_excludes_a_series() {
        let own = ["repro", "--kernel", "/k", "--kernel-build", "/b"];
        let error = parse(&[&own, &["--kernel-series", "backports"][..]].concat());
        assert_eq!(
            error.expect_err("two kernels").kind(),
            clap::error::ErrorKind::ArgumentConflict
        );
    }

    #[test]
    fn usage_errors_have_exit_code_2() {
        for bad in [
            &["repro", "--accel", "magic"][..],
            &["repro", "--rounds", "0"],
            &["repo"],
            &["boot", "--vcpus", "0"],
            &["napi", "--steps", "0"],
            &["check", "--only", "nothing"],
            &["repro", "--kernel-series", "../x"],
            &["repro", "--slow", "0"],
            &["uml", "--slow", "0"],
        ] {
            assert_eq!(parse(bad).expect_err("nonsense").exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn the_time_limits_have_a_factor() {
        let minute = std::time::Duration::from_secs(60);
        assert_eq!(repro(&[]).machine.scale.limit(minute), minute);
        assert_eq!(repro(&["--slow", "10"]).machine.scale.limit(minute), 10 * minute);
        assert_eq!(uml(&["--slow", "10"]).scale.limit(minute), 10 * minute);
    }

    #[test]
    fn the_cache_is_looked_for_in_three_places() {
        let only =
            |name: &'static str| move |asked: &str| (asked == name).then(|| PathBuf::from("/x"));
        assert_eq!(cache_dir(only("TSNIC_CACHE")), Some("/x".into()));
        assert_eq!(cache_dir(only("XDG_CACHE_HOME")), Some("/x/tsnic".into()));
        assert_eq!(cache_dir(only("HOME")), Some("/x/.cache/tsnic".into()));
        assert_eq!(cache_dir(|_| None), None);
    }

    #[test]
    fn relative_paths_become_absolute() {
        assert!(repro(&["--json", "out.json"]).json.expect("a path").is_absolute());
        assert!(uml(&["--json", "out.json"]).json.expect("a path").is_absolute());
    }
}

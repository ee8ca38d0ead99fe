// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's surroundings: arguments common to all commands, and where runs read and build.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;

use super::usage::{UsageError, absolute};
use crate::config::{AccelChoice, Interrupts, KernelChoice, LimitScale, Machine, Places, Series};

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

/// Where a run reads from and builds to.
///
/// # Errors
/// There is no cache directory, or a path cannot be resolved.
pub(super) fn places() -> Result<Places, UsageError> {
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

pub(super) fn cache_dir(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    var("TSNIC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("tsnic")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/tsnic")))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run's configuration after validation: what the engine works with. [`crate::cli`] makes it from
//! arguments.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Everything a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guest's surroundings.
    pub machine: Machine,
    /// The small version of the experiments.
    pub quick: bool,
    /// Rounds a cell, when not the default of the size.
    pub rounds: Option<u32>,
    /// Where the machine-readable report goes.
    pub json: Option<PathBuf>,
    /// Seed of every random choice.
    pub seed: u64,
}

/// What a run with user-mode Linux needs to know.
#[derive(Clone, Debug)]
pub struct UmlConfig {
    /// User-mode Linux; `None`: `linux.uml` on the PATH.
    pub program: Option<PathBuf>,
    /// Where the machine-readable report goes.
    pub json: Option<PathBuf>,
    /// Factor on the time limits.
    pub scale: LimitScale,
    /// Where it reads from and builds to.
    pub places: Places,
}

/// Which kernel, which QEMU, how.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The guest's kernel.
    pub kernel: KernelChoice,
    /// More kernel parameters.
    pub append: Vec<String>,
    /// The user's own QEMU; `None`: `qemu-system-x86_64` on the PATH.
    pub qemu: Option<PathBuf>,
    /// How the guest's CPU is run.
    pub accel: AccelChoice,
    /// How the device interrupts the guest.
    pub interrupts: Interrupts,
    /// Look for a newer kernel than the one in the cache.
    pub refresh: bool,
    /// Factor on the time limits.
    pub scale: LimitScale,
    /// Leave the logs of the run behind.
    pub keep: bool,
    /// Downloads and builds.
    pub cache: PathBuf,
    /// The checkout the device, driver and agent are built from.
    pub source: PathBuf,
    /// Cargo's target directory, where it is not for cargo's configuration to say.
    pub target: Option<PathBuf>,
}

/// What every time limit of a guest is multiplied by: 1 on a usual machine, more on one that is
/// slow or loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitScale(pub u16);

impl LimitScale {
    /// The limit of this run for what usually has `usual`.
    #[must_use]
    pub fn limit(self, usual: Duration) -> Duration {
        usual * u32::from(self.0)
    }
}

impl Default for LimitScale {
    fn default() -> Self {
        Self(1)
    }
}

/// Where a run reads from and builds to.
#[derive(Clone, Debug)]
pub struct Places {
    /// Downloads and builds.
    pub cache: PathBuf,
    /// The checkout the device, driver and agent are built from.
    pub source: PathBuf,
    /// Cargo's target directory, where it is not for cargo's configuration to say.
    pub target: Option<PathBuf>,
}

/// Where the guest's kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelChoice {
    /// Debian's cloud kernel of a series.
    Debian(Series),
    /// The user's own.
    Own {
        /// A bootable image (bzImage).
        image: PathBuf,
        /// A build or headers directory for external modules.
        build: PathBuf,
    },
}

/// A series of Debian's cloud kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Series {
    /// The newest of the running release, security updates included.
    Stable,
    /// The newest of the release's backports.
    Backports,
    /// The newest of a suite, for example `trixie-backports`.
    Suite(String),
}

/// Not the name of a suite.
#[derive(Debug, Error)]
#[error("not `stable`, `backports` or the name of a suite, such as `trixie-backports`")]
pub struct NoSeries;

impl FromStr for Series {
    type Err = NoSeries;

    fn from_str(text: &str) -> Result<Self, NoSeries> {
        let is_name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        match text {
            "stable" => Ok(Self::Stable),
            "backports" => Ok(Self::Backports),
            // It becomes the name of a file and a line of apt's configuration.
            suite if is_name(suite) => Ok(Self::Suite(suite.to_owned())),
            _ => Err(NoSeries),
        }
    }
}

/// Who runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum AccelChoice {
    /// KVM when it passes a boot probe, TCG otherwise.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// How the device interrupts the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interrupts {
    /// MSI-X, one vector a queue.
    Msix,
    /// One shared `INTx` line (`vectors=0`).
    Intx,
}

impl std::fmt::Display for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Msix => "msix",
            Self::Intx => "intx",
        })
    }
}

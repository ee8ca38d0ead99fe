// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run's configuration after validation: what the engine works with. [`crate::cli`] makes it from arguments.

use std::path::PathBuf;

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
    /// Leave the logs of the run behind.
    pub keep: bool,
    /// Downloads and builds.
    pub cache: PathBuf,
    /// The checkout the device, driver and agent are built from.
    pub source: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

/// Where a run reads from and builds to.
#[derive(Clone, Debug)]
pub struct Places {
    /// Downloads and builds.
    pub cache: PathBuf,
    /// The checkout the device, driver and agent are built from.
    pub source: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Series {
    /// The newest of the running release, security updates included.
    Stable,
    /// The newest of the release's backports.
    Backports,
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

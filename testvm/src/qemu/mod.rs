// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU: which one, how it runs the guest's CPU, and with what arguments.

mod command;
mod probe;
mod version;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, io};

use thiserror::Error;

pub use command::MachineSpec;
pub use version::Version;

use crate::config::{AccelChoice, Interrupts};
use crate::process;

/// What can go wrong before QEMU runs a guest.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no QEMU.
    #[error(
        "{program} is not on the PATH; install qemu-system-x86 (scripts/setup does), or name yours with --qemu"
    )]
    Missing {
        /// What was looked for.
        program: PathBuf,
    },
    /// The one that was named is no program.
    #[error("{path} {what}; --qemu takes the program itself")]
    NoFile {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It does not say which version it is.
    #[error("{path} does not tell its version; it said {said:?}")]
    NoVersion {
        /// The program.
        path: PathBuf,
        /// The first line it said.
        said: String,
    },
    /// It is known to crash.
    #[error(
        "QEMU {version} ({path}) is too old: before {} it crashes when a vhost-user device interrupts by MSI-X. \
         Install a newer one (Debian 12: from bookworm-backports, scripts/setup does), or use --intx",
        version::MSIX_SINCE
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// KVM was asked for and does not work.
    #[error("KVM does not work here: {reason}; use --accel auto or --accel tcg")]
    NoKvm {
        /// What the probe saw.
        reason: String,
    },
    /// It cannot be run at all.
    #[error("QEMU cannot be run")]
    Run(#[from] process::Error),
    /// A file of the probe.
    #[error("{path} cannot be written")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Who runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator, one thread a vCPU.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// A QEMU that can be used, and how.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Who runs the guest's instructions.
    pub accel: Accel,
    /// Why it is that one.
    pub accel_reason: String,
}

impl Qemu {
    /// Find QEMU and decide between KVM and TCG; probe results are kept in `cache` until the next
    /// reboot.
    ///
    /// # Errors
    /// There is no QEMU, it is too old for `interrupts`, or KVM is wanted and does not work.
    pub fn find(
        own: Option<&Path>,
        choice: AccelChoice,
        interrupts: Interrupts,
        cache: &Path,
        tick: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let path = locate(own)?;
        let said = process::run(
            "QEMU",
            Command::new(&path).arg("--version"),
            Duration::from_secs(10),
            tick,
        )?;
        let version = Version::parse(&said).ok_or_else(|| Error::NoVersion {
            path: path.clone(),
            said: said.lines().next().unwrap_or_default().to_owned(),
        })?;
        if interrupts == Interrupts::Msix && version < version::MSIX_SINCE {
            return Err(Error::TooOld { path, version });
        }
        let (accel, accel_reason) = match choice {
            AccelChoice::Tcg => (Accel::Tcg, "asked for".to_owned()),
            AccelChoice::Kvm | AccelChoice::Auto => match (probe::kvm(&path, cache, tick)?, choice)
            {
                (probe::Outcome::Works, _) => (Accel::Kvm, "KVM passed the boot probe".to_owned()),
                (probe::Outcome::Broken(reason), AccelChoice::Kvm) => {
                    return Err(Error::NoKvm { reason });
                }
                (probe::Outcome::Broken(reason), _) => (Accel::Tcg, format!("no KVM: {reason}")),
            },
        };
        Ok(Self { path, version, accel, accel_reason })
    }

    /// Has KVM, when it was chosen, boot the guest's kernel; when that hangs, TCG is chosen instead.
    ///
    /// # Errors
    /// KVM is wanted and does not work.
    pub fn try_kernel(
        &mut self,
        choice: AccelChoice,
        kernel: &Path,
        cache: &Path,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        if self.accel != Accel::Kvm {
            return Ok(());
        }
        match (probe::kernel(&self.path, kernel, cache, tick)?, choice) {
            (probe::Outcome::Works, _) => {
                "KVM boots the guest's kernel".clone_into(&mut self.accel_reason);
            }
            (probe::Outcome::Broken(reason), AccelChoice::Kvm) => {
                return Err(Error::NoKvm { reason });
            }
            (probe::Outcome::Broken(reason), _) => {
                (self.accel, self.accel_reason) = (Accel::Tcg, format!("no KVM: {reason}"));
            }
        }
        Ok(())
    }
}

fn locate(own: Option<&Path>) -> Result<PathBuf, Error> {
    let program = own.unwrap_or(Path::new("qemu-system-x86_64"));
    process::find_program(program).ok_or_else(|| {
        let path = program.to_owned();
        if program.components().count() == 1 {
            return Error::Missing { program: path };
        }
        let what = if path.exists() { "is not a file" } else { "does not exist" };
        Error::NoFile { path, what }
    })
}

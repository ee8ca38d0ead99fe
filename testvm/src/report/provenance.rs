// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where results come from.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// Everything one would ask before believing a result. What could not be found out is `None`, never
/// made up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Of this project, `-dirty` with uncommitted changes.
    pub commit: Option<String>,
    /// The guest's `uname -r`.
    pub kernel: Option<String>,
    /// Version of QEMU.
    pub qemu: Option<String>,
    /// Who ran the guest's instructions: `tcg`, `kvm`.
    pub accelerator: Option<String>,
    /// The host's processor.
    pub cpu: Option<String>,
    /// Of every random choice.
    pub seed: u64,
    /// CPUs the host has online.
    pub host_cpus: Option<usize>,
    /// The host's `uname -r`.
    pub host_kernel: Option<String>,
    /// Interrupts of the device: `msix`, `intx`.
    pub interrupts: Option<String>,
    /// The guest's clock source.
    pub clocksource: Option<String>,
}

/// The part of it that the host knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Model of the processor.
    pub cpu: Option<String>,
    /// CPUs this process may use.
    pub cpus: Option<usize>,
    /// `uname -r`.
    pub kernel: Option<String>,
}

impl Host {
    /// Looks. `source` is the checkout this program was built from.
    #[must_use]
    pub fn gather(source: &Path) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            commit: commit(source),
            cpu: cpu_model(&cpuinfo),
            cpus: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim().to_owned()),
        }
    }
}

/// What the host knows; the rest is left open.
impl From<Host> for Provenance {
    fn from(host: Host) -> Self {
        Self {
            commit: host.commit,
            cpu: host.cpu,
            host_cpus: host.cpus,
            host_kernel: host.kernel,
            ..Self::default()
        }
    }
}

fn commit(source: &Path) -> Option<String> {
    let hash = git(source, &["rev-parse", "--short=12", "HEAD"])?;
    // Untracked files count as well: cargo would build them.
    let dirty = git(source, &["status", "--porcelain"])?;
    Some(if dirty.is_empty() { hash } else { format!("{hash}-dirty") })
}

/// What git prints; `None` without git or a repository.
fn git(source: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(source)
        .args(args)
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first "model name" of /proc/cpuinfo.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_its_model_name() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC  7B13\nflags\t: fpu\n";
        assert_eq!(cpu_model(text).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(cpu_model("processor : 0\n"), None);
    }

    #[test]
    fn a_commit_says_whether_it_is_the_whole_truth() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let at = directory.path();
        assert_eq!(commit(at), None, "no repository");
        let run = |args: &[&str]| git(at, args).ok_or_else(|| format!("git {args:?}"));
        run(&["init", "-q"])?;
        let identity =
            ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
        run(&[&identity[..], &["commit", "-q", "--allow-empty", "-m", "first"]].concat())?;
        let clean = commit(at).ok_or("no commit")?;
        assert_eq!(clean.len(), 12);
        std::fs::write(at.join("new"), "x")?;
        assert_eq!(commit(at), Some(format!("{clean}-dirty")));
        Ok(())
    }
}

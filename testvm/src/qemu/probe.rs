// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether KVM really runs a guest.
//!
//! `/dev/kvm` may open, create a virtual CPU and still hang every guest, on nested hosts for
//! instance. So two guests are run. The first is nine bytes: it starts at the reset vector, writes
//! to QEMU's debug-exit port, and that is all. The second, when the first has worked and the guest's
//! kernel is there, is that kernel with nothing to start: it panics, restarts the machine, and QEMU
//! ends. There are hosts whose KVM runs the first, and firmware, and hangs every kernel.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::process::{self, Tail};

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The guest ran.
    Works,
    /// It did not, and this was seen.
    Broken(String),
}

/// A guest that works needs some 50 ms.
const LIMIT: Duration = Duration::from_secs(3);
/// A kernel that boots needs a second; by emulation, four.
const KERNEL_LIMIT: Duration = Duration::from_secs(30);

const EXIT_PORT: u16 = 0xf4;
const EXIT_VALUE: u8 = 0x10;
/// What isa-debug-exit makes of the value.
const EXIT_STATUS: i32 = ((EXIT_VALUE as i32) << 1) | 1;

/// Firmware of 64 KiB whose last 16 bytes are the reset vector.
fn firmware() -> Vec<u8> {
    let [port_low, port_high] = EXIT_PORT.to_le_bytes();
    let code = [
        0xba, port_low, port_high, // mov dx, EXIT_PORT
        0xb0, EXIT_VALUE, // mov al, EXIT_VALUE
        0xee,       // out dx, al
        0xf4,       // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut image = vec![0; 64 * 1024];
    let reset = image.len() - 16;
    image[reset..reset + code.len()].copy_from_slice(&code);
    image
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Key {
    boot_id: String,
    qemu: std::path::PathBuf,
    modified: Option<std::time::SystemTime>,
    /// The guest's kernel, of the probe that needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel: Option<(std::path::PathBuf, Option<std::time::SystemTime>)>,
}

impl Key {
    fn new(qemu: &Path, kernel: Option<&Path>) -> Self {
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        Self {
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
            qemu: qemu.to_owned(),
            modified: modified(qemu),
            kernel: kernel.map(|kernel| (kernel.to_owned(), modified(kernel))),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: Key,
    outcome: Outcome,
}

/// Probe, or take the result of an earlier probe of the same QEMU since the machine was booted.
pub fn kvm(qemu: &Path, cache: &Path, tick: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Outcome::Broken(format!("/dev/kvm: {error}")));
    }
    let key = Key::new(qemu, None);
    once(&cache.join("kvm-probe.json"), key, || run(qemu, cache, LIMIT, tick))
}

/// The same of the guest's kernel, once [`kvm`] works.
pub fn kernel(
    qemu: &Path,
    kernel: &Path,
    cache: &Path,
    tick: &mut dyn FnMut(&str),
) -> Result<Outcome, Error> {
    let key = Key::new(qemu, Some(kernel));
    once(&cache.join("kvm-kernel.json"), key, || run_kernel(qemu, kernel, KERNEL_LIMIT, tick))
}

/// The outcome that is kept, if it is of the same, or that of `probe`.
fn once(
    kept_in: &Path,
    key: Key,
    probe: impl FnOnce() -> Result<Outcome, Error>,
) -> Result<Outcome, Error> {
    if let Some(kept) =
        fs::read(kept_in).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok())
        && kept.key == key
    {
        return Ok(kept.outcome);
    }
    let kept = Kept { key, outcome: probe()? };
    // A result that cannot be kept only costs the next run a probe.
    if let Ok(text) = serde_json::to_vec(&kept) {
        let _ = fs::write(kept_in, text);
    }
    Ok(kept.outcome)
}

fn run(
    qemu: &Path,
    scratch: &Path,
    limit: Duration,
    tick: &mut dyn FnMut(&str),
) -> Result<Outcome, Error> {
    let image = scratch.join("kvm-probe.bin");
    let io = |source| Error::Io { path: image.clone(), source };
    fs::create_dir_all(scratch).map_err(io)?;
    fs::write(&image, firmware()).map_err(io)?;
    let device = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1");
    let mut command = Command::new(qemu);
    command
        .args([
            "-accel",
            "kvm",
            "-machine",
            "pc",
            "-cpu",
            "host",
            "-m",
            "16",
            "-nodefaults",
            "-no-user-config",
        ])
        .args(["-display", "none", "-no-reboot", "-device", &device, "-bios"])
        .arg(&image);
    match process::run("the KVM probe", &mut command, limit, tick) {
        Ok(_) => Ok(Outcome::Broken("the probe guest ended without a result".to_owned())),
        Err(process::Error::Failed { status, .. }) if status.code() == Some(EXIT_STATUS) => {
            Ok(Outcome::Works)
        }
        Err(process::Error::TimedOut { limit, .. }) => Ok(Outcome::Broken(format!(
            "/dev/kvm is there, but a guest of nine bytes hangs ({limit:?})"
        ))),
        Err(process::Error::Failed { status, tail: Tail(lines), .. }) => {
            let said = lines.last().map_or_else(|| status.to_string(), Clone::clone);
            Ok(Outcome::Broken(said))
        }
        Err(other) => Err(other.into()),
    }
}

fn run_kernel(
    qemu: &Path,
    kernel: &Path,
    limit: Duration,
    tick: &mut dyn FnMut(&str),
) -> Result<Outcome, Error> {
    let mut command = Command::new(qemu);
    command
        .args(["-accel", "kvm", "-machine", "q35", "-cpu", "host", "-m", "256"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-append", "panic=-1", "-kernel"])
        .arg(kernel);
    match process::run("the KVM probe", &mut command, limit, tick) {
        Ok(_) => Ok(Outcome::Works),
        Err(process::Error::TimedOut { limit, .. }) => Ok(Outcome::Broken(format!(
            "/dev/kvm is there, but the guest's kernel hangs ({limit:?})"
        ))),
        Err(process::Error::Failed { status, tail: Tail(lines), .. }) => {
            let said = lines.last().map_or_else(|| status.to_string(), Clone::clone);
            Ok(Outcome::Broken(said))
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;

    /// A QEMU that is a shell script.
    fn fake(dir: &Path, script: &str) -> std::path::PathBuf {
        let path = dir.join("qemu");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    fn probe(script: &str, limit: Duration) -> Outcome {
        let dir = tempfile::tempdir().expect("a directory");
        run(&fake(dir.path(), script), dir.path(), limit, &mut |_| ()).expect("an outcome")
    }

    #[test]
    fn only_the_guest_s_own_exit_status_counts_as_working() {
        assert_eq!(probe("exit 33", LIMIT), Outcome::Works);
        assert!(matches!(probe("exit 0", LIMIT), Outcome::Broken(_)));
        assert!(matches!(probe("exit 1", LIMIT), Outcome::Broken(_)));
    }

    #[test]
    fn a_guest_that_hangs_is_broken_within_the_limit() {
        let started = std::time::Instant::now();
        let Outcome::Broken(reason) = probe("sleep 60", Duration::from_millis(200)) else {
            panic!("works?")
        };
        assert!(reason.contains("hangs"), "{reason}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_kernel_that_hangs_is_broken_and_one_that_ends_works() {
        let dir = tempfile::tempdir().expect("a directory");
        let probe = |script: &str, limit| {
            run_kernel(&fake(dir.path(), script), Path::new("k"), limit, &mut |_| ())
        };
        assert_eq!(probe("exit 0", LIMIT).expect("an outcome"), Outcome::Works);
        let hangs = probe("sleep 60", Duration::from_millis(200)).expect("an outcome");
        assert!(matches!(hangs, Outcome::Broken(reason) if reason.contains("kernel hangs")));
        let fails = probe("echo no >&2; exit 1", LIMIT).expect("an outcome");
        assert_eq!(fails, Outcome::Broken("no".into()));
    }

    #[test]
    fn an_outcome_is_kept_for_the_same_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept_in = dir.path().join("kept");
        let key = |kernel: &str| Key::new(Path::new("q"), Some(Path::new(kernel)));
        let broken = Outcome::Broken("x".into());
        let first = once(&kept_in, key("a"), || Ok(broken.clone())).expect("an outcome");
        assert_eq!(first, broken);
        let again = once(&kept_in, key("a"), || Ok(Outcome::Works)).expect("an outcome");
        assert_eq!(again, broken);
        let other = once(&kept_in, key("b"), || Ok(Outcome::Works)).expect("an outcome");
        assert_eq!(other, Outcome::Works);
    }

    #[test]
    fn what_qemu_says_is_the_reason() {
        let reason = "Could not access KVM kernel module: Permission denied";
        assert_eq!(
            probe(&format!("echo '{reason}' >&2; exit 1"), LIMIT),
            Outcome::Broken(reason.to_owned())
        );
    }

    #[test]
    fn the_reset_vector_is_16_bytes_before_the_end() {
        let image = firmware();
        assert_eq!(image.len(), 0x1_0000);
        assert_eq!(image[0xfff0..0xfff6], [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee]);
        assert!(image[..0xfff0].iter().all(|b| *b == 0));
    }

    #[test]
    fn the_probe_guest_runs_under_a_real_qemu() {
        let Ok(qemu) = super::super::locate(None) else {
            // Past the test harness, which keeps what a passing test prints to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: the probe guest under a real QEMU: none on the PATH"
            );
            return;
        };
        let dir = tempfile::tempdir().expect("a directory");
        // The same bytes under TCG: shows that a KVM that works would pass.
        let script = format!(
            "exec {} $(echo \"$*\" | sed 's/-accel kvm/-accel tcg/; s/-cpu host/-cpu qemu64/')",
            qemu.display()
        );
        let outcome =
            run(&fake(dir.path(), &script), dir.path(), Duration::from_secs(20), &mut |_| ())
                .expect("an outcome");
        assert_eq!(outcome, Outcome::Works);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the process can do once it serves: no more than serving takes (docs/sandbox.md).
//!
//! The guest's rings and the front end's messages are read by safe code, and this is for when that
//! is wrong: whoever has taken the process over can open no file but a few, start no program, make
//! no connection but to Unix sockets, and signal nobody.

mod files;
mod syscalls;

use std::path::PathBuf;

use thiserror::Error;

use crate::config::{Config, Source};
use crate::metrics;
use crate::port::PortConfig;

/// Why the process cannot be confined.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The system calls.
    #[error("Cannot limit the system calls of this process (--sandbox off does without)")]
    Syscalls(#[from] seccompiler::Error),
    /// The files.
    #[error("Cannot limit the files of this process (--sandbox off does without)")]
    Files(#[from] landlock::RulesetError),
}

/// What a process needs of the file system while it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// It attaches to a TAP interface again.
    pub tun: bool,
    /// Directories in and below which it removes files at its end: those of its sockets.
    pub removes_in: Vec<PathBuf>,
}

impl Files {
    /// What this configuration needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Config { source, control, metrics, port, .. } = config;
        let socket = match source {
            Source::Socket(path) => Some(path),
            Source::Descriptor(_) => None,
        };
        let metrics = match metrics {
            Some(metrics::Address::Unix(path)) => Some(path),
            _ => None,
        };
        let link = match port {
            PortConfig::Link(path) => Some(path),
            _ => None,
        };
        let paths = [socket, control.as_ref(), metrics, link].into_iter().flatten();
        let mut removes_in: Vec<_> = paths
            .map(|path| match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => ".".into(),
            })
            .collect();
        removes_in.sort();
        removes_in.dedup();
        Self { tun: matches!(port, PortConfig::Tap(_)), removes_in }
    }
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// The files, too: the kernel has landlock.
    pub files: bool,
}

/// Confines this thread, and those that it starts: call it before there are others, and when
/// everything is open.
///
/// # Errors
/// When the kernel refuses. It need not know landlock: see [`Confined`].
pub fn confine(files: &Files) -> Result<Confined, SandboxError> {
    let files = files::confine(files)?;
    syscalls::confine()?;
    Ok(Confined { files })
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};
    use std::thread;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    /// Which of [`FORBIDDEN`] and [`ALLOWED`] the confined child of a test does.
    const DEED: &str = "TSNIC_TEST_DEED";
    /// Where it does it.
    const PLACE: &str = "TSNIC_TEST_PLACE";

    type Deed = (&'static str, fn());

    fn map(protection: ProtFlags) {
        let length = 4096.try_into().expect("it is not 0");
        // SAFETY: Memory of its own, at a place that the kernel chooses.
        let _ = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) };
    }

    /// Each ends the process.
    const FORBIDDEN: &[Deed] = &[
        ("program", || drop(Command::new("/bin/true").status())),
        ("connection", || drop(TcpStream::connect("127.0.0.1:9"))),
        ("signal", || {
            let _ = kill(Pid::from_raw(1), None);
        }),
        ("code", || map(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC)),
        ("process", || {
            // SAFETY: The child does nothing.
            let _ = unsafe { nix::unistd::fork() };
        }),
        ("debugger", || {
            let _ = nix::sys::ptrace::traceme();
        }),
        ("file", || drop(fs::write(place().join("new"), "x"))),
    ];

    /// Each leaves it alive; what it cannot have is an error.
    const ALLOWED: &[Deed] = &[
        ("thread", || thread::spawn(|| ()).join().expect("it has run")),
        ("memory", || map(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)),
        ("comm", || drop(fs::read_to_string("/proc/self/comm").expect("it may be read"))),
        ("passwd", || {
            fs::read("/etc/passwd").expect_err("it may not be read");
        }),
        ("removal", || {
            fs::remove_file(place().join("socket")).expect("it may be removed");
            fs::remove_file(place().join("../file")).expect_err("it may not be removed");
        }),
    ];

    fn place() -> PathBuf {
        env::var_os(PLACE).expect("it is a child").into()
    }

    /// This test's own program, doing it confined.
    fn done(deed: &str) -> (ExitStatus, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let sockets = directory.path().join("sockets");
        fs::create_dir(&sockets).expect("it is made");
        fs::write(directory.path().join("file"), "x").expect("it is written");
        drop(UnixListener::bind(sockets.join("socket")).expect("a socket"));
        let name = "sandbox::tests::the_child";
        let output = Command::new(env::current_exe().expect("it has a name"))
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(DEED, deed)
            .env(PLACE, &sockets)
            .output()
            .expect("it is started");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// No test: what the others start.
    #[test]
    fn the_child() {
        let Some(deed) = env::var_os(DEED) else { return };
        let (_, deed) = FORBIDDEN
            .iter()
            .chain(ALLOWED)
            .find(|(name, _)| deed == *name)
            .expect("it is one of them");
        let removes_in = vec![place()];
        confine(&Files { tun: false, removes_in }).expect("it is confined");
        deed();
    }

    #[test]
    fn a_forbidden_call_ends_the_process() {
        for (deed, _) in FORBIDDEN {
            let (status, stderr) = done(deed);
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{deed}: {status}, {stderr}");
        }
    }

    #[test]
    fn what_serving_takes_is_allowed_and_no_other_files() {
        for (deed, _) in ALLOWED {
            let (status, stderr) = done(deed);
            assert!(status.success(), "{deed}: {status}, {stderr}");
        }
    }

    #[test]
    fn files_are_those_of_the_configuration() {
        use clap::Parser as _;
        let of = |line: &str| {
            let line = crate::config::CommandLine::try_parse_from(line.split(' ')).unwrap();
            Files::of(&Config::try_from(line.args.unwrap()).unwrap())
        };
        let files = of("tsnic --socket s --control /run/a/c --metrics 9100 --port tap:t0");
        assert_eq!(files, Files { tun: true, removes_in: vec!["/run/a".into(), ".".into()] });
        let files = of("tsnic --fd 5 --metrics /run/m/s --port link:/run/l/s");
        assert_eq!(files, Files { tun: false, removes_in: vec!["/run/l".into(), "/run/m".into()] });
    }
}

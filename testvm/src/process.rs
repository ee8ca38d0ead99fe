// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Children: each in a process group of its own, killed with this process, killed with its group,
//! and seen dead.

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;

use crate::interrupt::{self, Interrupted};
use crate::output::errln;

/// What can go wrong with a child.
#[derive(Debug, Error)]
pub enum Error {
    /// The program could not be started.
    #[error("{name} could not be started ({program})")]
    Spawn {
        /// What it is to us.
        name: String,
        /// What was called.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program ended, and not well.
    #[error("{name} failed: {status}{tail}")]
    Failed {
        /// What it is to us.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        tail: Tail,
    },
    /// The program did not end in time and was killed, or was killed and is still there.
    #[error("{name} did not end within {limit:?}{tail}")]
    TimedOut {
        /// What it is to us.
        name: String,
        /// The time it had.
        limit: Duration,
        /// Its last words.
        tail: Tail,
    },
    /// Reading its output or waiting for it failed.
    #[error("{name} cannot be waited for")]
    Wait {
        /// What it is to us.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The user asked for the end.
    #[error("{name} was stopped")]
    Interrupted {
        /// What it is to us.
        name: String,
        /// The signal.
        #[source]
        source: Interrupted,
    },
}

impl Error {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

/// `program` as a path: itself when it names a directory, else the first on the PATH.
#[must_use]
pub fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The last lines of an output, for an error message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail(pub Vec<String>);

impl Tail {
    /// The last `lines` lines of `text`.
    #[must_use]
    pub fn of(text: &str, lines: usize) -> Self {
        let mut last: Vec<_> =
            text.lines().rev().filter(|l| !l.trim().is_empty()).take(lines).map(clean).collect();
        last.reverse();
        Self(last)
    }
}

/// A line without the control characters a program may have put in it.
fn clean(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n    | {line}"))
    }
}

/// A running child. Dropping it kills its whole process group and waits for the end.
#[derive(Debug)]
pub struct Child {
    name: String,
    inner: std::process::Child,
    status: Option<ExitStatus>,
}

/// How long killed processes are waited for. SIGKILL is certain; only a process stuck in the kernel
/// outlives this.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// How often a wait looks around.
pub const TICK: Duration = Duration::from_millis(100);

impl Child {
    /// Start `command` in a process group of its own, tied to the life of the calling **thread**:
    /// call it from a thread that lives as long as the child should, normally the main one.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self, Error> {
        Self::spawn_signalled(name, command, Signal::SIGKILL)
    }

    /// [`Self::spawn`], with the signal the child gets when the calling thread ends.
    fn spawn_signalled(name: &str, command: &mut Command, orphaned: Signal) -> Result<Self, Error> {
        let parent = getpid();
        command.process_group(0);
        // SAFETY: between fork and exec only async-signal-safe functions may be called: the closure
        // makes two system calls through wrappers that neither allocate nor lock, and builds its
        // errors from integers.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(orphaned)?;
                // The parent may have died before the line above: then nobody would send the
                // signal.
                if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
            });
        }
        let inner = command.spawn().map_err(|source| Error::Spawn {
            name: name.to_owned(),
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self { name: name.to_owned(), inner, status: None })
    }

    /// What the child is to us.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// The operating system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            self.status = self
                .inner
                .try_wait()
                .map_err(|source| Error::Wait { name: self.name.clone(), source })?;
        }
        Ok(self.status)
    }

    /// Wait for its end, at most `limit`; `None` when it still runs.
    ///
    /// # Errors
    /// The operating system cannot tell, or the user asked for the end.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            interrupt::check()
                .map_err(|source| Error::Interrupted { name: self.name.clone(), source })?;
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Kill the whole group and wait until no member is left, the child's own children included.
    ///
    /// # Errors
    /// Something outlived SIGKILL.
    pub fn kill(&mut self) -> Result<(), Error> {
        let group = Pid::from_raw(self.inner.id().cast_signed());
        let failed = |source: io::Error| Error::Wait { name: self.name.clone(), source };
        match killpg(group, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let deadline = Instant::now() + DEATH_LIMIT;
        loop {
            // Orphans come to us ([`adopt_orphans`]); the child itself is reaped by `ended`.
            if self.ended()?.is_some() {
                while matches!(waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
                {
                }
                if killpg(group, None) == Err(Errno::ESRCH) {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                let (name, tail) = (self.name.clone(), Tail::default());
                return Err(Error::TimedOut { name, limit: DEATH_LIMIT, tail });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            errln!("warning: {error}");
        }
    }
}

/// Become the parent of descendants whose own parent has died, so that a killed group can be seen
/// dead to the last member.
///
/// # Errors
/// The operating system refused.
pub fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(Into::into)
}

/// Run a program to its end and return what it wrote (both streams, in order). `each` is called for
/// every line, and with an empty one every [`TICK`], to keep a display alive.
///
/// # Errors
/// It cannot be started, ends badly, takes longer than `limit`, or the user asked for the end; it
/// is dead in each case.
pub fn run(
    name: &str,
    command: &mut Command,
    limit: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    run_signalled(name, command, None, Signal::SIGKILL, limit, each)
}

/// Waits for a program with children of its own, and at SIGTERM kills the process group, which is
/// all of them.
const GUARD: &str = r#"trap 'kill -KILL 0' TERM; "$@" & wait $!"#;

/// [`run`] for a program that starts others: they, too, die with this process, however that one
/// ends.
///
/// # Errors
/// As [`run`]; a program that cannot be started has failed, with the shell's words.
pub fn run_family(
    name: &str,
    command: &Command,
    limit: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    run_signalled(name, &mut guarded(command), None, Signal::SIGTERM, limit, each)
}

/// [`run_family`] for a program whose standard output is data: this is what is returned; `each` and
/// errors have only what it writes to standard error.
///
/// # Errors
/// As [`run_family`], or there is no memory to keep the output in.
pub fn run_family_output(
    name: &str,
    command: &Command,
    limit: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    let wait_error = |source: io::Error| Error::Wait { name: name.to_owned(), source };
    let memory = memfd_create("output", MemfdFlags::CLOEXEC);
    let mut output = File::from(memory.map_err(|errno| wait_error(errno.into()))?);
    let stdout = output.try_clone().map_err(wait_error)?;
    run_signalled(name, &mut guarded(command), Some(stdout), Signal::SIGTERM, limit, each)?;
    let mut data = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut data)).map_err(wait_error)?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

/// The kernel tells only children of a death, not their children: so the child is a shell that
/// passes it on.
fn guarded(command: &Command) -> Command {
    let mut guard = Command::new("/bin/sh");
    guard.args(["-c", GUARD, "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        guard.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guard.env(name, value),
            None => guard.env_remove(name),
        };
    }
    guard
}

/// Both streams are what is returned, or standard error alone when `stdout` has the other.
fn run_signalled(
    name: &str,
    command: &mut Command,
    stdout: Option<File>,
    orphaned: Signal,
    limit: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    let wait_error = |source: io::Error| Error::Wait { name: name.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(wait_error)?;
    let stdout = match stdout {
        Some(file) => Stdio::from(file),
        None => writer.try_clone().map_err(wait_error)?.into(),
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(writer);
    let mut child = Child::spawn_signalled(name, command, orphaned)?;
    // The command keeps its ends of the pipe; without this the end of the output would never be
    // seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let output = drain(reader, limit, each);
    let text = output.text;
    if let Some(end) = output.ended_early {
        child.kill()?;
        return Err(match end {
            Early::Limit => {
                Error::TimedOut { name: name.to_owned(), limit, tail: Tail::of(&text, 20) }
            }
            Early::Interrupted(source) => Error::Interrupted { name: name.to_owned(), source },
            Early::Io(source) => Error::Wait { name: name.to_owned(), source },
        });
    }
    match child.wait(limit)? {
        Some(status) if status.success() => Ok(text),
        Some(status) => {
            Err(Error::Failed { name: name.to_owned(), status, tail: Tail::of(&text, 20) })
        }
        None => Err(Error::TimedOut { name: name.to_owned(), limit, tail: Tail::of(&text, 20) }),
    }
}

enum Early {
    Limit,
    Interrupted(Interrupted),
    Io(io::Error),
}

struct Drained {
    text: String,
    ended_early: Option<Early>,
}

fn drain(mut reader: PipeReader, limit: Duration, each: &mut dyn FnMut(&str)) -> Drained {
    let deadline = Instant::now() + limit;
    let mut raw = Vec::new();
    let mut told = 0;
    let mut buffer = [0; 16 * 1024];
    let ended_early = loop {
        if let Err(source) = interrupt::check() {
            break Some(Early::Interrupted(source));
        }
        if Instant::now() >= deadline {
            break Some(Early::Limit);
        }
        match readable(&reader, TICK) {
            Ok(false) => each(""),
            Ok(true) => match reader.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    raw.extend_from_slice(&buffer[..n]);
                    while let Some(end) = raw[told..].iter().position(|b| *b == b'\n') {
                        each(String::from_utf8_lossy(&raw[told..told + end]).trim_end());
                        told += end + 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(Early::Io(error)),
            },
            Err(error) => break Some(Early::Io(error)),
        }
    };
    Drained { text: String::from_utf8_lossy(&raw).into_owned(), ended_early }
}

/// Whether `fd` has something to read, or its end, within `limit`. A signal counts as nothing to
/// read.
///
/// # Errors
/// The operating system cannot tell.
pub fn readable(fd: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;

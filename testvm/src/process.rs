// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Children: each in a process group of its own, killed with this process, killed with its group,
//! and seen dead.

use std::fmt;
use std::io::{self, PipeReader, Read};
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
    /// The program did not end in time and was killed.
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
                let name = self.name.clone();
                return Err(Error::Wait {
                    name,
                    source: io::Error::other("a killed process is still there"),
                });
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
    run_signalled(name, command, Signal::SIGKILL, limit, each)
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
    // The kernel tells only children of a death, not their children: so the child is a shell that
    // passes it on.
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
    run_signalled(name, &mut guard, Signal::SIGTERM, limit, each)
}

fn run_signalled(
    name: &str,
    command: &mut Command,
    orphaned: Signal,
    limit: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    let wait_error = |source: io::Error| Error::Wait { name: name.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(wait_error)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(wait_error)?).stderr(writer);
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
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn quiet(script: &str, limit: Duration) -> Result<String, Error> {
        run("script", &mut sh(script), limit, &mut |_| ())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn output_of_both_streams_is_returned_line_by_line() {
        let mut lines = Vec::new();
        let text = run("script", &mut sh("echo one; echo two >&2"), LONG, &mut |l| {
            lines.push(l.to_owned());
        })
        .expect("success");
        assert_eq!(text, "one\ntwo\n");
        lines.retain(|l| !l.is_empty());
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_failure_shows_the_last_words() {
        let error = quiet("echo reason; exit 3", LONG).expect_err("exit 3");
        assert!(matches!(&error, Error::Failed { status, .. } if status.code() == Some(3)));
        assert!(error.to_string().ends_with("| reason"), "{error}");
    }

    #[test]
    fn a_family_is_run_as_its_command_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = sh(r#"echo "$PWD $ONE ${HOME-unset} $0"; exit $ONE"#);
        command.arg("a b").current_dir(&dir).env("ONE", "7").env_remove("HOME");
        let error = run_family("script", &command, LONG, &mut |_| ()).expect_err("exit 7");
        assert!(
            matches!(&error, Error::Failed { status, .. } if status.code() == Some(7)),
            "{error}"
        );
        let said = format!("| {} 7 unset a b", dir.path().display());
        assert!(error.to_string().ends_with(&said), "{error}");
        assert_eq!(
            run_family("script", &sh("echo fine"), LONG, &mut |_| ()).expect("success"),
            "fine\n"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("tool", &mut Command::new("/nonexistent/tool"), LONG, &mut |_| ())
            .expect_err("nothing there");
        assert!(error.to_string().contains("/nonexistent/tool"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let started = Instant::now();
        let error =
            quiet("echo stuck; sleep 60", Duration::from_millis(300)).expect_err("too slow");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_whole_group_is_seen_dead() {
        adopt_orphans().expect("a subreaper");
        let mut command = sh("sleep 61 & sleep 62 & echo up; wait");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        command.stdout(writer);
        let mut child = Child::spawn("family", &mut command).expect("a shell");
        command.stdout(Stdio::null());
        let mut up = [0; 3];
        reader.read_exact(&mut up).expect("the shell speaks");
        let group = Pid::from_raw(child.pid().cast_signed());
        child.kill().expect("all dead");
        assert_eq!(killpg(group, None), Err(Errno::ESRCH), "a member of the group is left");
    }

    #[test]
    fn a_tail_has_no_control_characters_and_no_blank_lines() {
        let tail = Tail::of("one\n\n\u{1b}[2Jtwo\r\n three\n\n", 2);
        assert_eq!(tail.0, ["[2Jtwo", " three"]);
    }
}

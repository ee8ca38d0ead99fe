// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of the initramfs, run to their end: bounded in time and in what they say.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_protocol::{OUTPUT_MAX, ProgramEnd, Ran, Until};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::Error;

/// For a program that was asked to end.
const GRACE: Duration = Duration::from_secs(5);
/// How often a program that has closed its output is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// Of a line, as much is compared with what is waited for.
const LINE_MAX: usize = 4096;

/// Runs `program` until it ends, until it has said `until` and was asked to end, or until `limit`
/// is over. Nothing of its process group is left then.
///
/// # Errors
/// It cannot be started, or not be waited for.
pub fn run(
    program: &str,
    args: &[String],
    until: Option<&Until>,
    limit: Duration,
) -> Result<Ran, Error> {
    follow(program, args, until, limit)
        .map_err(Error::call(format!("Cannot run {program} {}", args.join(" "))))
}

fn follow(
    program: &str,
    args: &[String],
    until: Option<&Until>,
    limit: Duration,
) -> io::Result<Ran> {
    let deadline = Instant::now() + limit;
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/bin").current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut running = Running(command.spawn()?);
    // The program has the only ends to write to, so that it can be seen to close them.
    drop(command);
    let mut output = Output::default();
    let end = if output.read(&mut reader, until, deadline)? {
        running.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + GRACE;
        output.read(&mut reader, None, deadline)?;
        running.ends_by(deadline)?;
        ProgramEnd::Enough
    } else {
        running.ends_by(deadline)?.map_or(ProgramEnd::TimeLimit, how)
    };
    Ok(Ran { end, output: String::from_utf8_lossy(&output.kept).into_owned(), cut: output.cut })
}

fn how(status: ExitStatus) -> ProgramEnd {
    match status.code() {
        Some(code) => ProgramEnd::Exited(code),
        None => ProgramEnd::Signalled(status.signal().unwrap_or(0)),
    }
}

/// A program and its process group, which end with this.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match killpg(Pid::from_raw(self.0.id().cast_signed()), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// How it has ended by then, or at once when that is over.
    fn ends_by(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            let ended = self.0.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody could be told. What is killed ends soon; its children are left to PID 1.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// What a program has said.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    cut: u64,
    /// Since the last end of a line.
    line: Vec<u8>,
    /// Lines with what is waited for.
    met: usize,
}

impl Output {
    /// Reads to the end of the output, or until the deadline, which is false, or until `until` has
    /// been said, which is true.
    fn read(
        &mut self,
        reader: &mut PipeReader,
        until: Option<&Until>,
        deadline: Instant,
    ) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(1..) => match reader.read(&mut buffer)? {
                    0 => return Ok(false),
                    read => self.take(&buffer[..read], until),
                },
                Ok(_) if left.is_zero() => return Ok(false),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if until.is_some_and(|until| self.met >= until.lines) {
                return Ok(true);
            }
        }
    }

    fn take(&mut self, said: &[u8], until: Option<&Until>) {
        for &byte in said {
            if byte != b'\n' {
                if self.line.len() < LINE_MAX {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            self.met += usize::from(until.is_some_and(|until| line.contains(&until.text)));
            self.line.clear();
        }
        self.kept.extend_from_slice(said);
        let cut = self.kept.len().saturating_sub(OUTPUT_MAX);
        self.kept.drain(..cut);
        self.cut += cut as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far beyond anything a loaded machine needs.
    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, until: Option<&Until>, limit: Duration) -> Ran {
        run("/bin/sh", &["-c".into(), script.into()], until, limit).expect("a shell")
    }

    #[test]
    fn both_streams_are_kept_and_the_status_is_given_back() {
        let ran = shell("echo out; echo err >&2; exit 3", None, LONG);
        let output = "out\nerr\n".into();
        assert_eq!(ran, Ran { end: ProgramEnd::Exited(3), output, cut: 0 });
        assert_eq!(shell("kill -9 $$", None, LONG).end, ProgramEnd::Signalled(9));
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let error = run("/no/such/program", &["-x".into()], None, LONG).expect_err("none");
        assert_eq!(
            error.chain(),
            "Cannot run /no/such/program -x: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_program_that_has_said_enough_is_asked_to_end() {
        let script = "trap 'echo bye; exit 0' TERM
            while :; do echo tick; sleep 0.01; echo between; done";
        let until = Until { text: "tick".into(), lines: 3 };
        let ran = shell(script, Some(&until), LONG);
        assert_eq!(ran.end, ProgramEnd::Enough);
        assert!(ran.output.matches("tick\n").count() >= 3, "{}", ran.output);
        assert!(ran.output.ends_with("bye\n"), "{}", ran.output);
    }

    #[test]
    fn a_program_that_ends_before_it_has_said_enough_has_ended() {
        let until = Until { text: "tick".into(), lines: 3 };
        let ran = shell("echo tick; echo tick", Some(&until), LONG);
        assert_eq!(ran.end, ProgramEnd::Exited(0));
    }

    /// Whether its output is still open or not; and what it has started ends with it.
    #[test]
    fn a_time_limit_ends_all_of_it() {
        let limit = Duration::from_millis(300);
        for script in ["echo $$; sleep 1000 & wait", "echo $$; exec >/dev/null 2>&1; sleep 1000"] {
            let begin = Instant::now();
            let ran = shell(script, None, limit);
            assert_eq!(ran.end, ProgramEnd::TimeLimit);
            assert!(begin.elapsed() >= limit && begin.elapsed() < LONG);
            let group = Pid::from_raw(ran.output.trim().parse().expect("a process id"));
            // An orphan is reaped by whoever adopts it, at its leisure.
            let gone = || killpg(group, None) == Err(Errno::ESRCH);
            assert!((0..1_000).any(|_| gone() || (sleep(LOOK), false).1), "{script}");
        }
    }

    #[test]
    fn of_much_output_the_end_is_kept() {
        let ran = shell("head -c 300000 /dev/zero | tr '\\0' x; echo end", None, LONG);
        assert_eq!(ran.end, ProgramEnd::Exited(0));
        assert_eq!((ran.output.len(), ran.cut), (OUTPUT_MAX, 300_004 - OUTPUT_MAX as u64));
        assert!(ran.output.ends_with("xend\n"));
    }
}

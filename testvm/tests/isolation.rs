// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run makes is not seen outside, and nothing of it is left however the run ends.
//!
//! A program of its own instead of libtest's: a process must be single-threaded to make a user
//! namespace. It runs itself as the run under test. Where namespaces are not allowed a test is
//! skipped, which is said and counted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use testvm::isolate::{Link, RunDir};
use testvm::process::{Child, adopt_orphans, run_family};
use testvm::{interrupt, verdict};

/// First argument of the run under test.
const INNER: &str = "--be-the-run";
/// First argument of the build under test.
const BUILD: &str = "--be-the-build";
/// Exit code of a run that cannot be isolated here.
const NOT_HERE: u8 = 77;
/// An unprivileged user that every system has.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(INNER) => return inner(),
        Some(BUILD) => return build(),
        _ => {}
    }
    a_killed_build_leaves_nothing();
    println!("test a_killed_build_leaves_nothing ... ok");
    let mut results = vec!["ok".to_owned()];
    for (user, uid) in
        [("the test's user", None), ("nobody", geteuid().is_root().then_some(NOBODY))]
    {
        if user == "nobody" && uid.is_none() {
            continue; // The test's user is an ordinary one itself.
        }
        for (name, test) in [
            ("nothing_is_seen_outside", nothing_is_seen_outside as fn(Run)),
            ("an_interrupted_run_leaves_nothing", |run| ended_by(run, Signal::SIGINT)),
            ("a_terminated_run_leaves_nothing", |run| ended_by(run, Signal::SIGTERM)),
            ("a_killed_run_leaves_nothing", |run| ended_by(run, Signal::SIGKILL)),
        ] {
            let verdict = match Run::start(uid) {
                Ok(run) => {
                    test(run);
                    "ok".to_owned()
                }
                Err(why) => format!("SKIPPED: {why}"),
            };
            println!("test {name} (as {user}) ... {verdict}");
            results.push(verdict);
        }
    }
    let passed = results.iter().filter(|r| *r == "ok").count();
    println!("\ntest result: ok. {passed} passed; {} skipped", results.len() - passed);
    ExitCode::SUCCESS
}

/// The run under test: isolate, make what a run makes, start a child, say so, and wait for the end.
fn inner() -> ExitCode {
    let prepared = || -> Result<(RunDir, Child, PathBuf), Box<dyn std::error::Error>> {
        interrupt::install()?;
        adopt_orphans()?;
        let run = RunDir::enter()?;
        Link::nth(0).create(&run)?;
        let directory = run.subdirectory("vm0")?.path().to_owned();
        fs::write(directory.join("file"), "content")?;
        let mut sleeper = Command::new("sleep");
        let child = Child::spawn(
            "sleeper",
            sleeper.arg("1000").stdout(Stdio::null()).current_dir(&directory),
        )?;
        Ok((run, child, directory))
    };
    match prepared() {
        Ok((_run, child, directory)) => {
            let tap = fs::read_to_string("/proc/net/dev").unwrap_or_default().contains("tsnic0");
            let content = fs::read_to_string(directory.join("file")).unwrap_or_default();
            println!("{} tap={tap} file={content}", child.pid());
            while interrupt::check().is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(child);
            ExitCode::from(verdict::EXIT_INTERRUPTED)
        }
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            println!("{error}: {cause}");
            ExitCode::from(NOT_HERE)
        }
    }
}

/// The build under test: a program that starts another, as cargo and make do.
fn build() -> ExitCode {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let ended = run_family("build", &command, Duration::from_secs(60), &mut |line| {
        if !line.is_empty() {
            println!("{line}");
        }
    });
    panic!("the build ended by itself: {ended:?}");
}

fn a_killed_build_leaves_nothing() {
    let program = std::env::current_exe().expect("this program");
    let mut process = Command::new(program)
        .arg(BUILD)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the build under test");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("the build speaks");
    let sleeper = Pid::from_raw(line.trim().parse().expect("a process id"));
    assert!(runs(sleeper));
    process.kill().expect("the build is there");
    process.wait().expect("its end");
    assert!(dies(sleeper), "the build's child outlived it");
}

/// A run under test that has said what it made.
struct Run {
    process: std::process::Child,
    /// Its child.
    sleeper: Pid,
    /// What it sees.
    sees: String,
    /// The mounts and network devices outside, before it.
    outside: Outside,
}

#[derive(Debug, PartialEq, Eq)]
struct Outside {
    mounts: String,
    devices: Vec<String>,
}

impl Outside {
    fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let devices = fs::read_to_string("/proc/net/dev").expect("/proc");
        let names =
            devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        Self { mounts, devices: names.collect() }
    }
}

impl Run {
    /// Start it as `uid`; the error says why it cannot be isolated here.
    fn start(uid: Option<u32>) -> Result<Self, String> {
        let outside = Outside::look();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(INNER).stdout(Stdio::piped());
        if let Some(uid) = uid {
            // The program may lie where that user cannot go.
            command = Command::new("/proc/self/fd/0");
            let program = fs::File::open(std::env::current_exe().expect("this program"))
                .expect("this program");
            command
                .arg(INNER)
                .stdin(program)
                .stdout(Stdio::piped())
                .uid(uid)
                .gid(uid)
                .current_dir("/");
        }
        let mut process = command.spawn().expect("the run under test");
        let mut line = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("the run speaks");
        let said = line.trim().to_owned();
        if let Some((pid, sees)) = said.split_once(' ')
            && let Ok(pid) = pid.parse()
        {
            return Ok(Self {
                process,
                sleeper: Pid::from_raw(pid),
                sees: sees.to_owned(),
                outside,
            });
        }
        let status = process.wait().expect("its end");
        assert_eq!(status.code(), Some(i32::from(NOT_HERE)), "the run failed: {said}");
        Err(said)
    }

    fn end(mut self, signal: Signal) -> (ExitStatus, Pid, Outside) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).expect("the run is there");
        let status = self.process.wait().expect("its end");
        (status, self.sleeper, self.outside)
    }
}

/// Whether a process runs. One that is dead and not yet collected by its new parent does not.
fn runs(pid: Pid) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))
        .unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether a process is dead soon.
fn dies(pid: Pid) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while runs(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    !runs(pid)
}

fn nothing_is_seen_outside(run: Run) {
    assert_eq!(run.sees, "tap=true file=content");
    assert!(runs(run.sleeper));
    assert_eq!(Outside::look(), run.outside);
    run.end(Signal::SIGKILL);
}

fn ended_by(run: Run, signal: Signal) {
    let (status, sleeper, before) = run.end(signal);
    if signal == Signal::SIGKILL {
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        // The kernel kills the children of a killed run, which takes a moment.
        dies(sleeper);
    } else {
        assert_eq!(status.code(), Some(i32::from(verdict::EXIT_INTERRUPTED)));
    }
    assert!(!runs(sleeper), "a child outlived the run that ended by {signal}");
    assert_eq!(Outside::look(), before);
}

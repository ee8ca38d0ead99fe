// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the VM handle says when a guest, QEMU or the device does not do what it should. QEMU and
//! the device are played by this program, so that each way to fail can be had at will and in no
//! time.
//!
//! A program of its own instead of libtest's: every case runs in a process with namespaces of its
//! own. Where these are not allowed a case is skipped, which is said and counted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use guest_protocol as agent;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use testvm::config::Interrupts;
use testvm::isolate::RunDir;
use testvm::process::adopt_orphans;
use testvm::progress::{Progress, Stage};
use testvm::qemu::{Accel, Qemu, Version};
use testvm::vm::{Error, Hypervisor, Parts, Vm, VmConfig};
use testvm::{boot, interrupt};
use tsnic_protocol as device;

/// Exit code of a case that cannot be isolated here.
const NOT_HERE: u8 = 77;

/// A name, by which the two played programs know what to do, and what is expected then.
type Case = (&'static str, fn(Result<Vm, Error>));

const CASES: [Case; 12] = [
    ("a_guest_that_answers_is_powered_off", |booted| {
        let mut vm = booted.expect("a guest");
        assert_eq!((vm.ready().kernel.as_str(), vm.ready().cpus), ("6.1-played", 2));
        assert_eq!(vm.text(&agent::Request::KernelLog).expect("a text"), "played");
        assert!(vm.device_status().expect("a status").running);
        assert!(vm.device_memory_kib().expect("a running process") > 0);
        let pids = [vm.qemu_pid(), vm.device_pid()];
        vm.power_off().expect("in order");
        assert!(
            pids.iter().all(|pid| !Path::new("/proc").join(pid.to_string()).exists()),
            "a process is left"
        );
    }),
    ("a_held_guest_is_powered_off_in_order_by_a_signal", |booted| {
        let mut vm = booted.expect("a guest");
        interrupt::install().expect("handlers");
        let signal = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            kill(getpid(), Signal::SIGINT).expect("this process");
        });
        boot::hold(&mut vm).expect("an end in order");
        assert!(signal.join().is_ok() && !interrupt::requested(), "the signal was answered");
        vm.power_off().expect("in order");
    }),
    ("an_interrupted_stage_has_not_failed", |booted| {
        drop(booted);
        interrupt::install().expect("handlers");
        let mut progress = Progress::quiet();
        let stage = progress.stage(Stage::Driver);
        kill(getpid(), Signal::SIGINT).expect("this process");
        drop(stage);
        assert!(
            progress.finished()[0].to_string().ends_with("interrupted"),
            "{}",
            progress.finished()[0]
        );
    }),
    ("a_guest_that_panics_shows_its_console", |booted| {
        let error = booted.expect("a guest").text(&agent::Request::KernelLog).expect_err("a panic");
        assert!(matches!(&error, Error::Panicked { .. }), "{error:?}");
        assert!(
            error.to_string().contains("| [    1.0] Kernel panic - not syncing: played"),
            "{error}"
        );
    }),
    ("a_guest_that_hangs_shows_its_console", |booted| {
        let patience = Duration::from_millis(300);
        let error = booted
            .expect("a guest")
            .ask_within(&agent::Request::KernelLog, patience)
            .expect_err("silence");
        assert!(matches!(&error, Error::Silent { limit, .. } if *limit == patience), "{error:?}");
        assert!(error.to_string().contains("| [    0.9] the last line"), "{error}");
    }),
    ("a_guest_that_refuses_is_quoted", |booted| {
        let error =
            booted.expect("a guest").text(&agent::Request::KernelLog).expect_err("a refusal");
        assert!(
            matches!(&error, Error::Refused { message, .. } if message == "played")
                && !error.is_late(),
            "{error:?}"
        );
    }),
    ("a_guest_that_waits_in_vain_is_late", |booted| {
        let mut vm = booted.expect("a guest");
        let error = vm.command(&agent::Request::KernelLog).expect_err("a wait");
        assert!(
            matches!(&error, Error::Late { message, .. } if message == "played") && error.is_late(),
            "{error:?}"
        );
    }),
    ("qemu_that_crashes_is_quoted", |booted| {
        let error = booted.expect("a guest").text(&agent::Request::KernelLog).expect_err("a crash");
        assert!(
            matches!(&error, Error::Ended { who: "QEMU", status, .. } if status.code() == Some(3)),
            "{error:?}"
        );
        assert!(error.to_string().contains("| qemu: played"), "{error}");
    }),
    ("qemu_that_does_not_start_is_quoted", |booted| {
        let error = booted.expect_err("no guest");
        assert!(matches!(&error, Error::Ended { who: "QEMU", .. }), "{error:?}");
        assert!(error.to_string().contains("| qemu: played"), "{error}");
    }),
    ("a_device_that_crashes_is_quoted", |booted| {
        let error = booted.expect("a guest").device_status().expect_err("a crash");
        assert!(matches!(&error, Error::Ended { who: "The device", .. }), "{error:?}");
        assert!(error.to_string().contains("| device: played"), "{error}");
    }),
    ("a_device_that_does_not_start_is_quoted", |booted| {
        let error = booted.expect_err("no device");
        assert!(matches!(&error, Error::Ended { who: "The device", .. }), "{error:?}");
        assert!(error.to_string().contains("| device: played"), "{error}");
    }),
    ("a_run_of_the_device_reports_progress", |booted| {
        let mut vm = booted.expect("a guest");
        let mut seen = Vec::new();
        let run = device::Request::MonitorStop;
        let reply = vm
            .device_run(&run, Duration::from_secs(5), &mut |done, total| seen.push((done, total)));
        assert_eq!(reply.expect("a reply"), device::Reply::MonitorStarted);
        assert_eq!(seen, [(1, 2), (2, 2)]);
    }),
];

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--case") => run(&args[2]),
        Some("--play-device") => play_device(&args[2], &args[3..]),
        Some("--play-qemu") => play_qemu(&args[2], &args[3..]),
        _ => all(),
    }
}

fn all() -> ExitCode {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (name, _) in CASES {
        let program = std::env::current_exe().expect("this program");
        let output = Command::new(program).args(["--case", name]).output().expect("this program");
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict = match output.status.code() {
            Some(0) => {
                passed += 1;
                "ok".to_owned()
            }
            Some(code) if code == i32::from(NOT_HERE) => {
                skipped += 1;
                format!("SKIPPED: {}", said.trim())
            }
            _ => {
                failed += 1;
                format!("FAILED\n{said}{}", String::from_utf8_lossy(&output.stderr))
            }
        };
        println!("test {name} ... {verdict}");
    }
    println!("\ntest result: {passed} passed; {failed} failed; {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(name: &str) -> ExitCode {
    let (_, case) = CASES.into_iter().find(|(n, _)| *n == name).expect("a case");
    adopt_orphans().expect("orphans");
    let inside = match RunDir::enter() {
        Ok(inside) => inside,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(NOT_HERE);
        }
    };
    let dir = tempfile::tempdir().expect("a directory");
    let device = player(dir.path(), "--play-device", name);
    let qemu = Qemu {
        path: player(dir.path(), "--play-qemu", name),
        version: Version { major: 10, minor: 0, patch: 2 },
        accel: Accel::Tcg,
        accel_reason: String::new(),
    };
    let parts = Parts {
        hypervisor: Hypervisor::Qemu {
            qemu: &qemu,
            kernel: Path::new("/dev/null"),
            interrupts: Interrupts::Msix,
        },
        device: &device,
        initrd: Path::new("/dev/null"),
        transport: &[],
        run: &inside,
        logs: dir.path(),
        index: 0,
    };
    case(Vm::boot(&parts, &VmConfig::default(), &mut || ()));
    ExitCode::SUCCESS
}

/// A program that is this one in a role.
fn player(dir: &Path, role: &str, case: &str) -> PathBuf {
    let path = dir.join(role.trim_start_matches('-'));
    let program = std::env::current_exe().expect("this program");
    fs::write(&path, format!("#!/bin/sh\nexec '{}' {role} {case} \"$@\"\n", program.display()))
        .expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn argument<'a>(args: &'a [String], name: &str) -> &'a str {
    &args[args.iter().position(|arg| arg == name).expect("the argument") + 1]
}

fn say(stream: &mut UnixStream, message: &impl serde::Serialize) {
    let mut line = serde_json::to_vec(message).expect("text");
    line.push(b'\n');
    stream.write_all(&line).expect("testvm listens");
}

fn play_device(case: &str, args: &[String]) -> ExitCode {
    if case == "a_device_that_does_not_start_is_quoted" {
        eprintln!("device: played");
        return ExitCode::from(3);
    }
    assert_eq!(argument(args, "--port"), "tap:tsnic0");
    let listener = UnixListener::bind(argument(args, "--control")).expect("the control socket");
    let (mut stream, _) = listener.accept().expect("testvm connects");
    for line in BufReader::new(stream.try_clone().expect("a socket")).lines() {
        let request: device::Request =
            serde_json::from_str(&line.expect("a line")).expect("a request");
        if case == "a_device_that_crashes_is_quoted" {
            eprintln!("device: played");
            return ExitCode::from(3);
        }
        if request == device::Request::Status {
            say(
                &mut stream,
                &device::Reply::Status(Box::new(device::Status {
                    running: true,
                    ..device::Status::default()
                })),
            );
        } else {
            say(&mut stream, &device::Reply::Progress { done: 1, total: 2 });
            say(&mut stream, &device::Reply::Progress { done: 2, total: 2 });
            say(&mut stream, &device::Reply::MonitorStarted);
        }
    }
    ExitCode::SUCCESS
}

fn play_qemu(case: &str, args: &[String]) -> ExitCode {
    if case == "qemu_that_does_not_start_is_quoted" {
        eprintln!("qemu: played");
        return ExitCode::FAILURE;
    }
    let console = args
        .iter()
        .find_map(|arg| arg.strip_prefix("file,id=console,append=on,path="))
        .expect("a console");
    fs::write(console, "[    0.8] a line\n[    0.9] the last line\n").expect("the console");
    let mut stream = UnixStream::connect("agent").expect("testvm waits for the agent");
    say(
        &mut stream,
        &agent::Reply::Ready { kernel: "6.1-played".into(), cpus: 2, clocksource: "tsc".into() },
    );
    for line in BufReader::new(stream.try_clone().expect("a socket")).lines() {
        let request: agent::Request =
            serde_json::from_str(&line.expect("a line")).expect("a request");
        match case {
            _ if request == agent::Request::PowerOff => return ExitCode::SUCCESS,
            "a_guest_that_panics_shows_its_console" => {
                fs::write(console, "[    1.0] Kernel panic - not syncing: played\n")
                    .expect("the console");
                return ExitCode::SUCCESS;
            }
            "a_guest_that_hangs_shows_its_console" => {}
            "a_guest_that_refuses_is_quoted" => {
                say(&mut stream, &agent::Reply::Error { message: "played".into() });
            }
            "a_guest_that_waits_in_vain_is_late" => {
                say(&mut stream, &agent::Reply::Late { message: "played".into() });
            }
            "qemu_that_crashes_is_quoted" => {
                eprintln!("qemu: played");
                return ExitCode::from(3);
            }
            _ => say(&mut stream, &agent::Reply::Text { text: "played".into() }),
        }
    }
    ExitCode::SUCCESS
}

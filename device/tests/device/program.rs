// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program as its users see it: exit statuses, messages, sockets that come and go.

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::eventually;

fn tsnic(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsnic"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finished(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = tsnic(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn started(arguments: &[&str], socket: &Path) -> Child {
    let child = tsnic(arguments).spawn().unwrap();
    eventually("it listens", || UnixStream::connect(socket).ok());
    child
}

fn end(mut child: Child, signal: Signal) -> (Option<i32>, String) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code(), stderr)
}

#[test]
fn a_wrong_command_line_is_status_2_and_names_what_is_wrong() {
    for (arguments, named) in [
        (&["--port", "generator:"][..], "--socket"),
        (&["--socket", "s", "--port", "loop"], "\"loop\""),
        (&["--socket", "s", "--port", "tap:much-too-long-name"], "much-too-long-name"),
        (&["--socket", "s", "--port", "generator:rate=0"], "rate=0"),
        (&["--socket", "s", "--control", "s", "--port", "generator:"], "--control"),
        (&["--socket", "s", "--port", "generator:", "--rx-usecs", "many"], "many"),
    ] {
        let (status, message) = finished(arguments);
        assert_eq!(status, Some(2), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn help_is_a_manual() {
    let Output { status, stdout, .. } = tsnic(&["--help"]).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success());
    for part in ["memory-backend-memfd", "tap:NAME", "generator", "--rx-usecs", "Exit status"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn either_signal_ends_it_in_good_order_with_no_socket_left() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("nic");
        let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
        // Also with a front end connected.
        let _front = UnixStream::connect(&socket).unwrap();
        assert_eq!(end(child, signal), (Some(0), String::new()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_socket_in_use_is_status_1_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let _other = UnixListener::bind(&socket).unwrap();
    let (status, message) = finished(&["--socket", socket.to_str().unwrap(), "--port", "generator:"]);
    assert_eq!(status, Some(1));
    assert!(message.contains("in use") && message.lines().count() == 1, "{message}");
    assert!(socket.exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    drop(UnixListener::bind(&socket).unwrap());
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    assert_eq!(end(child, Signal::SIGTERM).0, Some(0));
}

#[test]
fn once_ends_with_the_first_front_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let mut child = tsnic(&["--once", "--socket", socket.to_str().unwrap(), "--port", "generator:"]).spawn().unwrap();
    drop(eventually("it listens", || UnixStream::connect(&socket).ok()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_front_end_that_talks_nonsense_is_told_of_and_the_next_one_served() {
    use std::io::Write as _;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    let mut front = UnixStream::connect(&socket).unwrap();
    front.write_all(&[0xff; 64]).unwrap();
    assert_eq!(front.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut front = UnixStream::connect(&socket).unwrap();
    // GET_FEATURES
    front.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    front.read_exact(&mut [0; 20]).unwrap();
    drop(front);
    assert_eq!(end(child, Signal::SIGTERM).0, Some(0));
}

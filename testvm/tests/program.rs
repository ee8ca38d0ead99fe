// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program as its users see it: what is wrong with a command line or a machine is said at once,
//! with the right exit code.

use std::path::Path;
use std::process::{Command, Output};

/// A QEMU that is not there ends a run before anything is fetched or built.
const NO_QEMU: [&str; 2] = ["--qemu", "/nonexistent/qemu"];

fn testvm(arguments: &[&str]) -> (Option<i32>, String) {
    finished(Command::new(env!("CARGO_BIN_EXE_testvm")).args(arguments))
}

fn finished(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("a program");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_the_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let nowhere = dir.path().join("nowhere/report.json");
    for (path, why) in [(dir.path(), "Is a directory"), (&nowhere, "No such file or directory")] {
        let (code, said) = testvm(&[&["repro", "--json", text(path)], &NO_QEMU[..]].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(text(path)) && said.contains(why), "{said}");
    }
    let good = dir.path().join("report.json");
    let (code, said) = testvm(&[&["repro", "--json", text(&good)], &NO_QEMU[..]].concat());
    assert_eq!(code, Some(69), "{said}");
}

#[test]
fn a_kernel_that_is_none_is_said_before_the_run() {
    let (code, said) =
        testvm(&["boot", "--kernel", "/etc/passwd", "--kernel-build", "/", NO_QEMU[0], NO_QEMU[1]]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/etc/passwd is no bootable kernel image"), "{said}");
}

#[test]
fn a_qemu_that_is_a_directory_is_called_that() {
    for (path, what) in [("/usr/bin", "is not a file"), ("/nonexistent/qemu", "does not exist")] {
        let (code, said) = testvm(&["boot", "--qemu", path]);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains(&format!("{path} {what}")), "{said}");
    }
}

#[test]
fn a_machine_without_tun_is_told_so_before_anything_else() {
    // In a mount namespace whose /dev/net, if there is one, is empty.
    let script =
        "if [ -d /dev/net ]; then mount -t tmpfs none /dev/net || exit 77; fi; exec \"$@\"";
    if !allowed(&["--mount", "--map-root-user"]) {
        eprintln!("SKIPPED: no mount namespace here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_testvm"),
        "boot",
    ]);
    let (code, said) = finished(command.args(NO_QEMU));
    if code == Some(77) {
        eprintln!("SKIPPED: nothing can be mounted here: {said}");
        return;
    }
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("/dev/net/tun cannot be opened") && said.contains("modprobe"), "{said}");
}

#[test]
fn output_that_nobody_reads_or_that_has_no_room_changes_no_exit_code() {
    for (redirection, code, said) in [
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        (
            ">/dev/full",
            0,
            "warning: standard output cannot be written: No space left on device (os error 28)",
        ),
        (">&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("2>&-", 0, ""),
    ] {
        let script = format!("\"$0\" check --list {redirection}");
        let (status, stderr) =
            finished(Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_testvm")]));
        assert_eq!(status, Some(code), "{redirection}: {stderr}");
        assert_eq!(stderr.trim_end(), said, "{redirection}");
    }
    // The reason for no verdict cannot be told, the code can.
    let script = "\"$0\" boot --qemu /nonexistent/qemu 2>&1 | true; exit ${PIPESTATUS[0]}";
    let (status, stderr) =
        finished(Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_testvm")]));
    assert_eq!(status, Some(69), "{stderr}");
}

/// Whether namespaces can be made here, as far as `unshare` itself goes: what the program then does
/// in them is no reason to skip a test.
fn allowed(unshare: &[&str]) -> bool {
    finished(Command::new("unshare").args(unshare).arg("true")).0 == Some(0)
}

/// The program in namespaces of its own, prepared by `script`.
fn within(unshare: &[&str], script: &str) -> (Option<i32>, String) {
    let mut command = Command::new("unshare");
    command.args(unshare).args([
        "sh",
        "-c",
        &format!("{script} exec \"$@\""),
        "sh",
        env!("CARGO_BIN_EXE_testvm"),
        "boot",
    ]);
    finished(command.args(NO_QEMU))
}

/// Root in a user namespace of its own owns neither the network nor the mounts it is in, and can
/// make itself both.
#[test]
fn root_in_name_only_makes_itself_what_it_needs() {
    if !allowed(&["--map-root-user"]) {
        eprintln!("SKIPPED: no user namespace here");
        return;
    }
    let (code, said) = within(&["--map-root-user"], "");
    // It got as far as QEMU.
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("{} does not exist", NO_QEMU[1])), "{said}");
}

#[test]
fn a_limit_of_namespaces_is_named_before_anything_is_built() {
    let limit = "echo 0 >/proc/sys/user/max_net_namespaces || exit 77;";
    if !allowed(&["--map-root-user"]) {
        eprintln!("SKIPPED: no user namespace here");
        return;
    }
    let (code, said) = within(&["--map-root-user"], limit);
    if code == Some(77) {
        eprintln!("SKIPPED: no limit can be set here: {said}");
        return;
    }
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("sysctl user.max_net_namespaces=10000"), "{said}");
}

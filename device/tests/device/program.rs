// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program as its users see it: exit statuses, messages, sockets that come and go.

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vhost::VhostBackend as _;
use vhost::vhost_user::Frontend;

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
fn capabilities_are_printed_whatever_else_is_asked_for() {
    for arguments in [&["--print-capabilities"][..], &["--sock", "x", "--print-capabilities"]] {
        let Output { status, stdout, .. } = tsnic(arguments).output().unwrap();
        let capabilities: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
        assert!(status.success());
        assert_eq!(capabilities, serde_json::json!({"type": "net"}));
    }
}

/// The program with this as its standard input, told that its front end is there.
fn given(stdin: impl Into<Stdio>) -> Child {
    tsnic(&["--fd", "0", "--port", "null"]).stdin(stdin).spawn().unwrap()
}

#[test]
fn a_front_end_that_is_connected_already_is_served_and_is_the_only_one() {
    use std::os::fd::OwnedFd;
    let (device, vmm) = UnixStream::pair().unwrap();
    let child = given(OwnedFd::from(device));
    let frontend = Frontend::from_stream(vmm, 2);
    frontend.set_owner().unwrap();
    assert_ne!(frontend.get_features().unwrap(), 0);
    drop(frontend);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(0));
    let message = String::from_utf8(stderr).unwrap();
    assert!(message.starts_with("tsnic: serving descriptor 0, port null\n"), "{message}");
}

#[test]
fn a_descriptor_that_is_no_connected_socket_is_named() {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for (stdin, named) in [
        (OwnedFd::from(file), "not a connected Unix stream socket"),
        (listener.into(), "it is listening"),
        (UnixDatagram::unbound().unwrap().into(), "its messages have bounds"),
        (tcp.into(), "not a connected Unix stream socket"),
    ] {
        let Output { status, stderr, .. } = given(stdin).wait_with_output().unwrap();
        let message = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{message}");
        assert!(message.contains("Descriptor 0") && message.contains(named), "{message}");
    }
    let (status, message) = finished(&["--fd", "77", "--port", "null"]);
    assert_eq!((status, message.contains("Descriptor 77")), (Some(1), true), "{message}");
}

/// What the kernel says of each thread of a process.
fn threads(pid: u32, field: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |thread: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        value.trim().to_owned()
    };
    threads.map(status).collect()
}

#[test]
fn every_thread_is_confined_unless_it_is_said_otherwise() {
    for (sandbox, mode) in [("on", "2"), ("off", "0")] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let arguments =
            ["--socket", socket.to_str().unwrap(), "--port", "null", "--metrics", "0", "--sandbox"];
        let child = started(&[&arguments[..], &[sandbox]].concat(), &socket);
        // Its threads are started for each front end.
        let front = eventually("it is served", || {
            let frontend = Frontend::from_stream(UnixStream::connect(&socket).ok()?, 2);
            frontend.get_features().ok().map(|_| frontend)
        });
        let modes = threads(child.id(), "Seccomp:");
        assert!(modes.len() >= 4, "{modes:?}");
        assert!(modes.iter().all(|it| it == mode), "--sandbox {sandbox}: {modes:?}");
        drop(front);
        let (status, stderr) = end(child, Signal::SIGTERM);
        assert_eq!((status, socket.exists()), (Some(0), false), "{stderr}");
        assert_eq!(stderr.contains("; no sandbox"), sandbox == "off", "{stderr}");
    }
}

#[test]
fn help_is_a_manual() {
    let Output { status, stdout, .. } = tsnic(&["--help"]).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success());
    for part in
        ["memory-backend-memfd", "tap:NAME", "generator", "--rx-usecs", "--stall-ms", "Exit status"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn either_signal_ends_it_in_good_order_with_no_socket_left() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("nic");
        let child =
            started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
        // Also with a front end connected.
        let _front = UnixStream::connect(&socket).unwrap();
        let ready = format!("tsnic: listening on {}, port generator\n", socket.display());
        assert_eq!(end(child, signal), (Some(0), ready));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_socket_in_use_is_status_1_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let _other = UnixListener::bind(&socket).unwrap();
    let (status, message) =
        finished(&["--socket", socket.to_str().unwrap(), "--port", "generator:"]);
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
    let mut child =
        tsnic(&["--once", "--socket", socket.to_str().unwrap(), "--port", "generator:"])
            .spawn()
            .unwrap();
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

/// Asks for the features, which are answered by 20 bytes.
fn ask(front: &mut UnixStream) -> std::io::Result<()> {
    use std::io::Write as _;
    front.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])?;
    front.read_exact(&mut [0; 20])
}

/// A front end that is served. The one before it may not be seen to have left yet: then it is hung
/// up on as one that is too many, and comes again.
fn served(socket: &Path) -> UnixStream {
    eventually("it is served", || {
        let mut front = UnixStream::connect(socket).ok()?;
        ask(&mut front).ok().map(|()| front)
    })
}

#[test]
fn a_second_front_end_is_hung_up_on_and_the_log_names_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    let mut first = served(&socket);
    let mut second = UnixStream::connect(&socket).unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap_or(0), 0, "it is hung up on");
    ask(&mut first).unwrap();
    drop(first);
    drop(served(&socket));
    let (status, log) = end(child, Signal::SIGTERM);
    assert_eq!(status, Some(0));
    let line = log.lines().find(|line| line.contains("second front end")).expect("it is logged");
    assert_eq!(
        line.matches(&format!("process {} (", std::process::id())).count(),
        2,
        "who it is, and who is served: {line}"
    );
}

#[test]
fn a_front_end_that_leaves_without_a_queue_is_told_of_and_cannot_come_back_as_fast_as_it_likes() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    // Each was served for a second, or it left early and half a second passed before the next one
    // was accepted: however slow the machine is, this takes no less.
    let start = std::time::Instant::now();
    for _ in 0..4 {
        drop(served(&socket));
    }
    assert!(start.elapsed() >= std::time::Duration::from_millis(3 * 500), "{:?}", start.elapsed());
    let (_, log) = end(child, Signal::SIGTERM);
    assert!(log.contains("queues=") && log.contains("than this device has: 1"), "{log}");
}

#[test]
fn a_log_that_nobody_reads_any_more_is_lost_and_the_device_lives() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let mut child = tsnic(&["-vv", "--socket", socket.to_str().unwrap(), "--port", "generator:"])
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    eventually("it listens", || UnixStream::connect(&socket).ok());
    for _ in 0..3 {
        drop(served(&socket));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_front_end_is_served_whatever_tmpdir_is() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let long = "x".repeat(200);
    for place in ["/nonexistent", "/proc", &long] {
        let arguments = ["--socket", socket.to_str().unwrap(), "--port", "generator:"];
        let child = tsnic(&arguments).env("TMPDIR", place).spawn().unwrap();
        eventually("it listens", || UnixStream::connect(&socket).ok());
        drop(served(&socket));
        assert_eq!(end(child, Signal::SIGTERM).0, Some(0));
    }
}

#[test]
fn a_front_end_there_are_no_descriptors_for_costs_its_connection_and_not_the_device() {
    use nix::libc;
    use nix::libc::rlim_t;

    fn limit(pid: u32, descriptors: rlim_t) {
        let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: 1024 };
        let pid = pid.cast_signed();
        // SAFETY: 1. `limit` is initialised and outlives the call. 2. No old limit is asked for.
        let result = unsafe {
            libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
        };
        assert_eq!(result, 0);
    }

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count() as rlim_t;
    // None for the connection; one, and so on until there are enough.
    let served = (open..open + 40).find(|&descriptors| {
        limit(child.id(), descriptors);
        let mut front = UnixStream::connect(&socket).unwrap();
        front.set_read_timeout(Some(std::time::Duration::from_millis(800))).unwrap();
        let served = ask(&mut front).is_ok();
        drop(front);
        served
    });
    assert!(served.is_some_and(|descriptors| descriptors > open), "{served:?} of {open}");
    let (status, log) = end(child, Signal::SIGTERM);
    assert_eq!(status, Some(0), "{log}");
    assert!(
        log.contains("Too many open files") || log.contains("No file descriptors available"),
        "{log}"
    );
}

#[test]
fn a_guest_whose_memory_is_not_shared_is_told_of() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::fd::AsRawFd as _;
    use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
    use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    const LEN: u64 = 0x10_0000;
    const USER_BASE: u64 = 0x7000_0000_0000;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic");
    let child = started(&["--socket", socket.to_str().unwrap(), "--port", "generator:"], &socket);
    let mut frontend = Frontend::from_stream(UnixStream::connect(&socket).unwrap(), 2);
    frontend.set_owner().unwrap();
    let features = frontend.get_features().unwrap();
    frontend.set_features(features).unwrap();
    let protocol = frontend.get_protocol_features().unwrap();
    frontend.set_protocol_features(protocol).unwrap();
    // The guest writes its rings into memory of its own: this stays zero.
    let memory = std::fs::File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).unwrap());
    memory.set_len(LEN).unwrap();
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: LEN,
        userspace_addr: USER_BASE,
        mmap_offset: 0,
        mmap_handle: memory.as_raw_fd(),
    };
    frontend.set_mem_table(&[region]).unwrap();
    let kicks = [0, 1].map(|queue| {
        let ring = USER_BASE + 0x1_0000 * (queue as u64 + 1);
        let config = VringConfigData {
            queue_max_size: 64,
            queue_size: 64,
            flags: 0,
            desc_table_addr: ring,
            used_ring_addr: ring + 0x2000,
            avail_ring_addr: ring + 0x1000,
            log_addr: None,
        };
        let (kick, call) =
            (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
        frontend.set_vring_num(queue, 64).unwrap();
        frontend.set_vring_base(queue, 0).unwrap();
        frontend.set_vring_addr(queue, &config).unwrap();
        frontend.set_vring_kick(queue, &kick).unwrap();
        frontend.set_vring_call(queue, &call).unwrap();
        frontend.set_vring_enable(queue, true).unwrap();
        kick
    });
    // Kicks that come too close together are one. Enough of them are not.
    for _ in 0..20 {
        for kick in &kicks {
            kick.write(1).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(frontend);
    let (_, log) = end(child, Signal::SIGTERM);
    for name in ["receive", "transmit"] {
        let line = format!("kicks its {name} queue, which stays empty: is its memory shared");
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
}

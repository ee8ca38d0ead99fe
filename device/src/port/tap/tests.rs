// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Against the kernel's own interfaces, each test in a network namespace of its own.

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs `test` on a thread with a network namespace of its own. Says so when there can be none.
fn isolated(name: &'static str, test: impl FnOnce() + Send + 'static) {
    let run = move || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) if File::open(DEVICE).is_ok() => test(),
        Ok(()) => skipped(name, &format!("{DEVICE} cannot be opened")),
        Err(error) => skipped(name, &format!("no network namespace ({error})")),
    };
    thread::spawn(run).join().expect("the test has not panicked");
}

/// To standard error itself: what a passing test prints is not shown.
fn skipped(name: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: TAP interface, {name}: {why}");
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    let output = output.expect("iproute2 is there");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn name() -> TapName {
    "t0".parse().expect("a name")
}

fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

#[test]
fn an_interface_that_is_deleted_is_said_to_be_and_attached_to_again_when_it_is_back() {
    isolated("deleted interface", || {
        ip("tuntap add t0 mode tap");
        ip("link set t0 up");
        let mut tap = Tap::open(&name()).expect("it attaches");
        tap.poll(at(0));
        assert_eq!((tap.detached(), tap.due()), (None, None));
        tap.send(at(0), NetHeader::default(), &[0xff; 60]).expect("it takes a frame");

        ip("link del t0");
        assert!(tap.send(at(0), NetHeader::default(), &[0xff; 60]).is_err());
        assert_eq!(tap.detached(), Some("TAP interface t0 was deleted"));
        assert!(!tap.receive(at(1), &mut Frame::default()));
        tap.poll(at(1));
        let due = tap.due().expect("it is looked for again");
        assert_eq!(due, at(1).plus(RETRY));
        tap.poll(at(2));
        assert_eq!(tap.due(), Some(due), "not before it is due");

        ip("tuntap add t0 mode tap");
        ip("link set t0 up");
        tap.poll(at(2));
        assert!(tap.detached().is_some(), "not before it is due");
        tap.poll(due);
        assert_eq!((tap.detached(), tap.due()), (None, None));
        tap.send(at(0), NetHeader::default(), &[0xff; 60]).expect("it takes a frame again");
    });
}

#[test]
fn an_interface_that_is_deleted_unused_is_found_gone_when_somebody_asks() {
    isolated("unused interface", || {
        ip("tuntap add t0 mode tap");
        let mut tap = Tap::open(&name()).expect("it attaches");
        ip("link del t0");
        assert_eq!(tap.detached(), None);
        tap.poll(at(0));
        assert!(tap.detached().is_some());
    });
}

#[test]
fn what_keeps_it_from_attaching_is_named() {
    isolated("obstacles", || {
        let obstacle = || match Tap::open(&name()) {
            Err(OpenError::Attach { obstacle, .. }) => obstacle,
            other => panic!("{other:?}"),
        };
        ip("tuntap add t0 mode tap multi_queue");
        assert_eq!(obstacle(), Obstacle::MultiQueue);
        ip("link del t0");
        ip("tuntap add t0 mode tap");
        assert!(matches!(
            Tap::open_queues(&name(), 2),
            Err(OpenError::Attach { obstacle: Obstacle::SingleQueue, .. })
        ));
        ip("link del t0");
        ip("tuntap add t0 mode tun");
        assert!(matches!(obstacle(), Obstacle::Kind(kind) if kind.contains("TUN")));
        ip("link del t0");
        ip("tuntap add t0 mode tap");
        let _first = Tap::open(&name()).expect("it attaches");
        assert_eq!(obstacle(), Obstacle::Busy);
    });
}

#[test]
fn a_bridge_of_that_name_is_called_a_bridge() {
    isolated("bridge", || {
        let made = Command::new("ip").args(["link", "add", "t0", "type", "bridge"]).output();
        if !made.is_ok_and(|output| output.status.success()) {
            skipped("bridge", "this kernel has none");
            return;
        }
        let Err(OpenError::Attach { obstacle, .. }) = Tap::open(&name()) else {
            panic!("it attached to a bridge")
        };
        assert_eq!(obstacle, Obstacle::Kind("a bridge".into()));
    });
}

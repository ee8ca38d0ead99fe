// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running device seen and set from outside: `tsnic ctl` and metrics.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tsnic_protocol::{Counters, Event, Occurrence, Status, Vector};
use vhost::VhostBackend as _;
use vhost::vhost_user::Frontend;

use crate::support::eventually;

fn tsnic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsnic"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, with a control socket and two queue pairs.
struct Running {
    program: Child,
    directory: TempDir,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let program = tsnic()
            .args(["--port", "null", "--queue-pairs", "2", "--socket"])
            .arg(at("nic"))
            .arg("--control")
            .arg(at("control"))
            .args(arguments)
            .current_dir(directory.path())
            .spawn()
            .unwrap();
        let running = Self { program, directory };
        eventually("it listens", || UnixStream::connect(running.at("nic")).ok());
        running
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = tsnic();
        command.arg("ctl").arg(self.at("control")).args(arguments);
        command
    }

    /// The exit status, standard output and standard error of `tsnic ctl`.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.ctl_command(arguments).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code(), stdout, stderr)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.ctl(arguments);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        stdout
    }

    fn refused(&self, arguments: &[&str], code: i32, named: &str) {
        let (status, _, stderr) = self.ctl(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
    }

    fn statuses(&self) -> Vec<Status> {
        let text = self.done(&["status", "--json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn a_running_device_is_seen() {
    let running = Running::start(&[]);
    let text = running.done(&["status"]);
    assert!(text.starts_with("queue pair 0 of 2: not running\n  port       attached\n"), "{text}");
    assert!(text.contains("\nqueue pair 1 of 2: not running\n"), "{text}");
    assert!(!running.done(&["--pair", "1", "status"]).contains("queue pair 0"));
    let text = running.done(&["counters"]);
    for name in Counters::default().by_name().keys() {
        assert!(text.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}");
    }
    assert_eq!(running.statuses().len(), 2);
    running.refused(&["--pair", "2", "status"], 1, "Queue pair 2: There is no queue pair 2");
    running.refused(&["stat"], 2, "stat");
}

#[test]
fn a_running_device_is_set() {
    let running = Running::start(&[]);
    running.done(&["set", "moderation", "rx", "--usecs", "50", "--frames", "8"]);
    running.done(&["--pair", "1", "set", "moderation", "tx", "--adaptive"]);
    running.done(&["set", "clock", "--rate-ppb", "-1000"]);
    for (pair, status) in running.statuses().iter().enumerate() {
        let of = |vector| status.moderation.iter().find(|it| it.vector == vector).unwrap();
        let (rx, tx) = (of(Vector::Rx), of(Vector::Tx));
        assert_eq!((rx.usecs, rx.frames), (50, 8), "pair {pair}");
        assert_eq!(tx.adaptive, pair == 1, "pair {pair}");
        assert_eq!(status.clock.rate_ppb, -1000, "pair {pair}");
    }
    let usecs = ["set", "moderation", "rx", "--usecs", "1000001"];
    running.refused(&usecs, 1, "Queue pair 0: usecs is 1000001");
    running.refused(&["set", "clock", "--rate-ppb", "100000001"], 1, "cannot be adjusted so far");
    running.refused(&["set", "clock"], 2, "--rate-ppb");
    running.refused(&["set", "moderation", "rx", "--usecs", "9", "--adaptive"], 2, "--adaptive");
}

#[test]
fn a_plan_is_put_to_work_and_ended() {
    let running = Running::start(&["--rx-usecs", "9"]);
    let plan = running.at("plan.toml");
    let file = plan.to_str().unwrap();
    fs::write(
        &plan,
        "about = 'x'\n[[moderation]]\nvector = 'tx'\nusecs = 7\n[[packets]]\nkind = 'loss'\nper_mille = 1\n",
    )
    .unwrap();
    let usecs = || {
        let status = running.statuses().swap_remove(1);
        let wire = status.wire.map_or(0, |wire| wire.rx.policies.len() + wire.tx.policies.len());
        (status.moderation.iter().map(|it| it.usecs).collect::<Vec<_>>(), wire)
    };
    assert_eq!(usecs(), (vec![9, 0], 0));
    running.done(&["plan", file]);
    assert_eq!(usecs().0, [0, 7]);
    assert_ne!(usecs().1, 0);
    running.done(&["plan", "-"]);
    assert_eq!(usecs(), (vec![0, 0], 0));
    fs::write(&plan, "about = 'x'\n[[policy]]\nkind = 'drop'\nper_mille = 1001\n").unwrap();
    running.refused(&["plan", file], 2, "plan.toml:4:13: ");
    fs::write(&plan, "about = 'x'\nrearm = 'edge'\n").unwrap();
    running.refused(&["plan", file], 2, "(rearm) can only be said at the start");
}

/// What `tsnic ctl events` prints.
struct Events {
    program: Child,
    lines: BufReader<ChildStdout>,
}

impl Events {
    fn of(running: &Running, arguments: &[&str]) -> Self {
        let mut program = running.ctl_command(arguments).spawn().unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap());
        Self { program, lines }
    }

    fn next(&mut self) -> Option<Event> {
        let mut line = String::new();
        match self.lines.read_line(&mut line).unwrap() {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap()),
        }
    }
}

#[test]
fn what_happens_is_told_to_those_who_asked() {
    let mut running = Running::start(&[]);
    let mut first = Events::of(&running, &["--pair", "1", "events"]);
    // Nothing is told before the request is there: front ends come and go until some are seen.
    let told = told(&running, &mut first, 4);
    assert!(told.iter().all(|event| event.pair == 1 && event.missed == 0), "{told:?}");
    let connected = |event: &Event| match event.occurrence {
        Occurrence::Connected => true,
        Occurrence::Disconnected => false,
        _ => panic!("{event:?}"),
    };
    for pair in told.windows(2) {
        assert_ne!(connected(&pair[0]), connected(&pair[1]), "{told:?}");
        assert!(pair[0].at_ns <= pair[1].at_ns, "{told:?}");
    }
    running.program.kill().unwrap();
    while first.next().is_some() {}
    assert_eq!(first.program.wait().unwrap().code(), Some(0));
}

/// Connects again and again until so many events have come.
fn told(running: &Running, events: &mut Events, count: usize) -> Vec<Event> {
    let path = running.at("nic");
    let (done, end) = std::sync::mpsc::channel();
    let coming = std::thread::spawn(move || {
        while end.recv_timeout(Duration::from_millis(20)).is_err() {
            if let Ok(stream) = UnixStream::connect(&path) {
                let _ = Frontend::from_stream(stream, 2).set_owner();
            }
        }
    });
    let told = std::iter::from_fn(|| events.next()).take(count).collect();
    done.send(()).unwrap();
    coming.join().unwrap();
    told
}

fn got(mut stream: impl std::io::Read + std::io::Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: nic\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_on_a_port_of_the_loopback_interface() {
    let mut running = Running::start(&["--metrics", "0"]);
    let mut line = String::new();
    BufReader::new(running.program.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("metrics http://").nth(1).unwrap().split('/').next().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    // One that says nothing holds nobody up for long.
    let silent = TcpStream::connect(address).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2 {
        let answer = got(TcpStream::connect(address).unwrap());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\ntsnic_rx_frames_total{pair=\"1\"} 0\n"), "{answer}");
    }
}

#[test]
fn metrics_are_served_on_a_unix_socket_which_is_gone_afterwards() {
    let mut running = Running::start(&["--metrics", "./metrics"]);
    let path = running.at("metrics");
    assert!(got(UnixStream::connect(&path).unwrap()).contains("\ntsnic_running{pair=\"0\"} 0\n"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(running.program.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(running.program.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
    let Output { status, stderr, .. } =
        tsnic().args(["--socket", "s", "--port", "null", "--metrics", "host"]).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(message.contains("none of PORT, ADDRESS:PORT and a path"), "{message}");
}

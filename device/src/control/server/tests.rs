// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::{EventManager, SubscriberOps as _};
use tempfile::TempDir;
use tsnic_abi::Counter;
use tsnic_core::adversary::Adversary;
use tsnic_core::arming::Interrupts;
use tsnic_core::progress::{Doorbell, Progress};
use tsnic_core::run::{Arrival, HeldFrames, Observation, PageView, PortPolicy};
use tsnic_core::rx_irq::RxIrq;
use tsnic_protocol::MonitorReport;
use tsnic_protocol::line::LINE_MAX;

use super::*;
use crate::clock;
use crate::control::channel::{Answer, WorkerEnd, control_channel};
use crate::net::status::{PageStatus, PairStatus};

const STATUS: &str = r#"{"request":"status"}"#;
const MONITOR: &str = r#"{"request":"monitor-start","seed":1,"port":80,"inject_per_mille":500}"#;
const STOP: &str = r#"{"request":"monitor-stop"}"#;

/// A server on a socket in a directory of its own, and a worker with a page but no guest.
struct Bench {
    server: Option<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
    path: PathBuf,
    worker: Option<JoinHandle<()>>,
    end: Sender<()>,
    _directory: TempDir,
}

/// An event loop with nothing but this server.
fn serve(server: ControlServer, ended: &Arc<AtomicBool>) -> JoinHandle<()> {
    let ended = Arc::clone(ended);
    thread::spawn(move || {
        let mut manager = EventManager::new().expect("an event loop");
        manager.add_subscriber(server);
        while !ended.load(Ordering::Relaxed) {
            manager.run_with_timeout(10).expect("it runs");
        }
    })
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control");
        let (control, worker) = control_channel().expect("a channel");
        let (end, ended) = channel();
        let worker = thread::spawn(move || {
            let (mut adversary, irq) = (Adversary::default(), idle());
            while ended.try_recv().is_err() {
                work(&worker, &mut adversary, &irq);
            }
        });
        let ended_server = Arc::new(AtomicBool::new(false));
        let server = serve(
            ControlServer::new(Some(&path), vec![], vec![control]).expect("it starts"),
            &ended_server,
        );
        Self {
            server: Some(server),
            ended: ended_server,
            path,
            worker: Some(worker),
            end,
            _directory: directory,
        }
    }

    fn connect(&self) -> Connection {
        let stream = UnixStream::connect(&self.path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        Connection { reader: BufReader::new(stream.try_clone().expect("a copy")), stream }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.join().expect("the server has not panicked");
        }
        assert!(!self.path.exists(), "no socket file is left behind");
        let _ = self.end.send(());
        if let Some(worker) = self.worker.take() {
            worker.join().expect("the worker has not panicked");
        }
    }
}

/// An address for everything.
const FLOW: &str = r#"{"guest_mac":[2,0,0,0,0,1],"guest_ip":"10.0.0.1","guest_port":9,"peer_mac":[2,0,0,0,0,2],"peer_ip":"10.0.0.2","peer_port":10}"#;

/// The interrupt state of a queue that is armed and idle.
fn idle() -> RxIrq {
    let mut irq = RxIrq::new(Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0)));
    let arm = Doorbell { arm: Counter(1), ..Doorbell::default() };
    assert!(irq.doorbell(arm, &Progress::default(), clock::monotonic()));
    irq
}

/// One round of a worker whose guest does nothing.
fn work(end: &WorkerEnd, adversary: &mut Adversary, irq: &RxIrq) {
    let page =
        PageView { generation: 1, irq, progress: Progress::default(), arrival: Arrival::default() };
    let seen = Observation { page: Some(page), held: HeldFrames::default() };
    let now = clock::monotonic();
    let status = || PairStatus {
        running: true,
        page: Some(PageStatus::new(1, irq)),
        ..PairStatus::default()
    };
    end.serve(adversary, now, &seen, |_| Answer::Paths(None), status);
    let mut actions = adversary.step(now, &seen);
    if actions.publish.is_some() {
        adversary.publish_failed(now);
    }
    if !adversary.is_active() {
        assert_eq!((actions.port, actions.requested), (PortPolicy::Open, 0));
    }
    end.report(&mut actions);
    thread::sleep(Duration::from_millis(1));
}

struct Connection {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Connection {
    fn send(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).expect("the server reads");
        self.stream.write_all(b"\n").expect("the server reads");
    }

    /// `None` at the end of the stream.
    fn try_receive(&mut self) -> Option<Reply> {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect("a reply"))
    }

    fn receive(&mut self) -> Reply {
        self.try_receive().expect("the connection is open")
    }

    fn ask(&mut self, line: &str) -> Reply {
        self.send(line);
        self.receive()
    }

    fn complaint(&mut self, line: &str) -> String {
        match self.ask(line) {
            Reply::Error { message } => message,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_status_can_be_asked_for_by_several_clients() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.connect(), bench.connect());
    for connection in [&mut one, &mut other] {
        let Reply::Status(status) = connection.ask(STATUS) else { panic!() };
        assert!(status.running && status.page == Some(1));
    }
}

#[test]
fn a_traffic_monitor_starts_and_stops() {
    let bench = Bench::new();
    let mut connection = bench.connect();
    assert_eq!(connection.ask(MONITOR), Reply::MonitorStarted);
    assert!(
        matches!(connection.ask(STATUS), Reply::Status(_)),
        "the status is answered while a run is on"
    );
    assert_eq!(connection.ask(STOP), Reply::Monitor(MonitorReport::default()));
    assert_eq!(connection.complaint(STOP), "No traffic monitor is on");
    assert_eq!(connection.ask(MONITOR), Reply::MonitorStarted);
}

#[test]
fn a_run_reports_progress_and_its_result() {
    let bench = Bench::new();
    let mut connection = bench.connect();
    connection.send(&format!(
        r#"{{"request":"injection","seed":1,"rounds":1,"flow":{FLOW},"stimulus":"udp","stuck_us":[1,2]}}"#
    ));
    let mut progress = 0;
    let last = loop {
        match connection.receive() {
            Reply::Progress { done: 0, total: 1 } => progress += 1,
            other => break other,
        }
    };
    assert!(progress > 3, "{progress}");
    let Reply::Injection(report) = last else { panic!("{last:?}") };
    let reason = report.rounds[0].reason.as_deref().unwrap();
    assert!(reason.contains("did not come to the rendezvous"), "{reason}");
    assert!(report.elapsed_ns > 1_000_000_000);
}

#[test]
fn a_bad_line_gets_an_error_that_says_what_and_where_and_the_connection_stays_usable() {
    let bench = Bench::new();
    let mut connection = bench.connect();
    assert!(
        connection
            .complaint("{\"request\":")
            .starts_with("Line 1 is not a request: EOF while parsing")
    );
    assert!(
        connection
            .complaint(r#"{"request":"nothing"}"#)
            .starts_with("Line 2 is not a request: unknown variant")
    );
    let too_long = format!("Line 3 is longer than {LINE_MAX} bytes");
    assert_eq!(connection.complaint(&"x".repeat(LINE_MAX + 1)), too_long);
    let bad = r#"{"request":"monitor-start","seed":1,"port":80,"inject_per_mille":1001}"#;
    assert_eq!(connection.complaint(bad), "Field inject_per_mille is 1001, not between 0 and 1000");
    assert!(matches!(connection.ask(STATUS), Reply::Status(_)));
}

#[test]
fn a_second_run_is_refused_and_the_first_goes_on() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.connect(), bench.connect());
    assert_eq!(one.ask(MONITOR), Reply::MonitorStarted);
    assert_eq!(
        other.complaint(MONITOR),
        "A traffic monitor is on, started by another connection: one run at a time"
    );
    assert_eq!(other.complaint(STOP), "The traffic monitor was started by another connection");
    assert_eq!(one.ask(STOP), Reply::Monitor(MonitorReport::default()));
}

#[test]
fn a_client_that_goes_away_in_a_run_cancels_it() {
    let bench = Bench::new();
    let mut one = bench.connect();
    assert_eq!(one.ask(MONITOR), Reply::MonitorStarted);
    drop(one);
    // The next one may come before the server has seen the other leave.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut other = bench.connect();
    while other.ask(MONITOR) != Reply::MonitorStarted {
        assert!(Instant::now() < deadline, "the run has not been cancelled");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_only_ends_its_half_gets_its_replies() {
    let bench = Bench::new();
    let mut connection = bench.connect();
    connection.stream.write_all(STATUS.as_bytes()).expect("the server reads");
    connection.stream.shutdown(Shutdown::Write).expect("half closed");
    assert!(matches!(connection.receive(), Reply::Status(_)));
    assert_eq!(connection.try_receive(), None, "then the server parts from it");
}

#[test]
fn a_client_that_does_not_read_its_replies_is_not_read_from_and_hurts_nobody() {
    let bench = Bench::new();
    let mut deaf = bench.connect();
    deaf.stream.set_nonblocking(true).expect("non-blocking");
    let junk = [b'\n', b'x'].repeat(8 * 1024);
    let mut sent = 0;
    let quiet = Instant::now() + Duration::from_secs(20);
    let mut idle = 0;
    while idle < 50 {
        assert!(Instant::now() < quiet && sent < 64 << 20, "the server reads on: {sent}");
        if let Ok(count) = deaf.stream.write(&junk) {
            (sent, idle) = (sent + count, 0);
        } else {
            idle += 1;
            thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(matches!(bench.connect().ask(STATUS), Reply::Status(_)));
    deaf.stream.set_nonblocking(false).expect("blocking");
    for _ in 0..100 {
        assert!(
            matches!(deaf.receive(), Reply::Error { .. }),
            "what was owed to it is still there"
        );
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let bench = Bench::new();
    let mut all: Vec<_> = (0..CLIENTS_MAX).map(|_| bench.connect()).collect();
    for connection in &mut all {
        assert!(matches!(connection.ask(STATUS), Reply::Status(_)));
    }
    let mut late = bench.connect();
    assert_eq!(late.receive(), error("16 connections are open already".into()));
    assert_eq!(late.try_receive(), None);
    drop(all.pop());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut next = bench.connect();
        next.send(STATUS);
        if matches!(next.receive(), Reply::Status(_)) {
            break;
        }
        assert!(Instant::now() < deadline, "there is room again");
    }
}

#[test]
fn a_path_in_use_and_one_that_cannot_be_are_told_apart() {
    let bench = Bench::new();
    let (control, _worker) = control_channel().expect("a channel");
    let busy = ControlServer::new(Some(&bench.path), vec![], vec![control])
        .err()
        .expect("somebody listens there");
    assert!(
        matches!(&busy, ControlError::Socket(SocketError::Busy { path }) if *path == bench.path),
        "{busy:?}"
    );
    let (control, _worker) = control_channel().expect("a channel");
    let nowhere = ControlServer::new(Some(&bench.path.join("below")), vec![], vec![control])
        .err()
        .expect("not a directory");
    assert!(matches!(nowhere, ControlError::Socket(_)), "{nowhere:?}");
}

#[test]
fn a_data_path_that_has_ended_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("control");
    let (control, worker) = control_channel().expect("a channel");
    drop(worker);
    let ended = Arc::new(AtomicBool::new(false));
    let server =
        serve(ControlServer::new(Some(&path), vec![], vec![control]).expect("it starts"), &ended);
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"{\"request\":\"status\"}\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a reply");
    assert_eq!(
        serde_json::from_str::<Reply>(&line).expect("a reply"),
        error("The data path has ended".into())
    );
    ended.store(true, Ordering::Relaxed);
    server.join().expect("the server has not panicked");
}

const EVENTS: &str = r#"{"request":"events"}"#;

#[test]
fn only_those_who_asked_are_told_of_events() {
    let (control, worker) = control_channel().expect("a channel");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("control");
    let server = ControlServer::new(Some(&path), vec![], vec![control]).expect("it starts");
    let ended = Arc::new(AtomicBool::new(false));
    let server = serve(server, &ended);
    let connect = || {
        let stream = UnixStream::connect(&path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        stream
    };
    assert!(!worker.is_watched());
    let watching = connect();
    let mut lines = BufReader::new(watching.try_clone().expect("a copy")).lines();
    (&watching).write_all(format!("{EVENTS}\n").as_bytes()).expect("it is sent");
    // One that will send no more still wants to be told.
    watching.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(lines.next().expect("a line").expect("text"), r#"{"reply":"done"}"#);
    assert!(worker.is_watched());
    worker.tell(tsnic_core::time::Instant::default(), crate::net::event::Event::PortAttached);
    let line = lines.next().expect("a line").expect("text");
    assert_eq!(line, r#"{"reply":"event","pair":0,"at_ns":0,"event":"port-attached"}"#);
    drop((lines, watching));
    let patience = Instant::now() + Duration::from_secs(20);
    while worker.is_watched() {
        assert!(Instant::now() < patience, "nobody wants to know any more");
        // It learns of the end when it is to write.
        worker.tell(tsnic_core::time::Instant::default(), crate::net::event::Event::PortAttached);
        thread::sleep(Duration::from_millis(1));
    }
    ended.store(true, Ordering::Relaxed);
    server.join().expect("it ends");
}

#[test]
fn a_reader_that_does_not_keep_up_learns_how_much_it_has_missed() {
    let (stream, reader) = UnixStream::pair().expect("a pair");
    let mut client = Client::new(stream).expect("it is served");
    client.watch();
    let event = |at_ns| Event {
        pair: 0,
        at_ns,
        missed: 0,
        occurrence: tsnic_protocol::Occurrence::PortAttached,
    };
    let told = 20_000;
    for number in 0..told {
        client.event(&event(number), 0).expect("it is there");
    }
    reader.set_nonblocking(true).expect("it can");
    let (mut text, mut seen, mut missed) = (Vec::new(), 0, 0);
    let mut bytes = [0; 4096];
    while let Ok(count) = std::io::Read::read(&mut &reader, &mut bytes) {
        text.extend_from_slice(&bytes[..count]);
        client.flush().expect("it is there");
    }
    client.event(&event(told), 5).expect("it is there");
    while let Ok(count) = std::io::Read::read(&mut &reader, &mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    for line in text.lines() {
        let reply = serde_json::from_str(&line.expect("text")).expect("a reply");
        let Reply::Event(event) = reply else { panic!("{reply:?}") };
        seen += 1;
        missed += event.missed;
        assert_eq!(event.missed == 0, event.at_ns < told, "{event:?}");
    }
    assert_eq!(seen + missed, told + 1 + 5);
    assert!(missed > 5);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs against a scripted driver: a busy-polling receiver, and an interrupt handler on "another
//! CPU".

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tsnic::control::channel::{Answer, Command};
use tsnic_abi::{offset, phase, point};
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{
    Flow, InjectionReport, InjectionSpec, MonitorSpec, NaturalSpec, Outcome, Stimulus,
};

use crate::support::{Device, Guest, Options, eventually};

/// How the driver's interrupt takes the NAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Test-and-set `SCHED`; when it is owned, nothing.
    V4_10,
    /// The same, and `MISSED` when it is owned.
    V4_11,
}

/// A driver with one NAPI and a receiver that polls busily.
struct Driver {
    guest: Guest,
    mode: Mode,
    sched: bool,
    missed: bool,
    arrivals: u32,
    /// The receiver has got something, asks for more, and polls busily until then. After that it
    /// sleeps.
    busy_until: Option<Instant>,
    received: Vec<Vec<u8>>,
}

/// `SO_BUSY_POLL` of the receiver. Only the last poll completes, and so comes to the rendezvous;
/// only it is played here.
const BUSY_POLL: Duration = Duration::from_micros(500);

impl Driver {
    fn start(device: &Device, mode: Mode) -> Self {
        let mut guest = Guest::start(device, Options::default());
        guest.register();
        guest.rx.interrupts();
        guest.arm();
        Self {
            guest,
            mode,
            sched: false,
            missed: false,
            arrivals: 0,
            busy_until: None,
            received: Vec::new(),
        }
    }

    /// Until `stop`: what the receiver's CPU does.
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.interrupted() {
                self.poll();
            }
            if !self.sched && self.busy_until.is_some_and(|until| Instant::now() >= until) {
                self.busy_until = None;
                self.sched = true;
                self.poll();
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// The interrupt handler, if an interrupt has come. True when it has taken the NAPI.
    fn interrupted(&mut self) -> bool {
        if self.guest.rx.interrupts() == 0 {
            return false;
        }
        let fired = self.guest.cell(offset::FIRED);
        let owned = std::mem::replace(&mut self.sched, true);
        if owned {
            self.guest.set_cell(offset::IRQ_OWNED, fired);
            self.missed |= self.mode == Mode::V4_11;
        }
        self.guest.set_cell(offset::IRQ_SEEN, fired);
        !owned
    }

    /// Polls until the NAPI is given up.
    fn poll(&mut self) {
        loop {
            self.guest.set_cell(offset::PHASE, phase::POLL);
            while let Some(received) = self.guest.try_receive() {
                self.received.push(received.frame);
                self.busy_until = Some(Instant::now() + BUSY_POLL);
                self.guest.post(1, 2048);
            }
            self.rendezvous();
            self.guest.set_cell(offset::PHASE, phase::IDLE);
            if !std::mem::take(&mut self.missed) {
                break;
            }
        }
        self.sched = false;
        self.guest.arm();
    }

    /// The entry of `napi_complete_done`, where the test module waits if it is asked to. Interrupts
    /// nest.
    fn rendezvous(&mut self) {
        if self.guest.cell(offset::REQUESTED) != point::BEFORE_COMPLETE {
            return;
        }
        self.arrivals += 1;
        self.guest.set_cell(offset::ARRIVED_POINT, point::BEFORE_COMPLETE);
        self.guest.set_cell(offset::ARRIVED, self.arrivals);
        self.guest.rx.kick();
        for _ in 0..50_000 {
            self.interrupted();
            if self.guest.cell(offset::RELEASED) == self.arrivals {
                return;
            }
            std::thread::sleep(Duration::from_micros(10));
        }
    }
}

fn flow() -> Flow {
    Flow {
        guest_mac: [2, 0, 0, 0, 0, 1],
        guest_ip: Ipv4Addr::new(192, 0, 2, 2),
        guest_port: 9000,
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_ip: Ipv4Addr::new(192, 0, 2, 1),
        peer_port: 9001,
    }
}

/// Runs `test` beside a driver in this mode; returns the frames it has received.
fn beside_driver(device: &Device, mode: Mode, test: impl FnOnce()) -> Vec<Vec<u8>> {
    let mut driver = Driver::start(device, mode);
    eventually("the driver has armed", || device.status().armed.then_some(()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| driver.run(&stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    driver.guest.leave();
    driver.received
}

fn finish(device: &Device) -> Finished {
    loop {
        match device.answer() {
            Answer::Finished(finished) => return *finished,
            Answer::Progress { .. } | Answer::Stopping => {}
            answer => panic!("{answer:?}"),
        }
    }
}

fn injection(mode: Mode, rounds: u32, stimulus: Stimulus) -> (InjectionReport, Vec<Vec<u8>>) {
    let device = Device::new();
    let mut report = None;
    let received = beside_driver(&device, mode, || {
        let run = InjectionSpec { seed: 7, rounds, flow: flow(), stimulus, stuck_us: (1000, 3000) };
        assert_eq!(device.ask(Command::Start(RunRequest::Injection(run))), Answer::Started);
        match finish(&device) {
            Finished::Injection(injection) => report = Some(injection),
            other => panic!("{other:?}"),
        }
    });
    (report.unwrap(), received)
}

#[test]
fn every_injected_packet_is_lost_before_the_fix() {
    for stimulus in [Stimulus::Udp, Stimulus::GroHeld] {
        let (report, received) = injection(Mode::V4_10, 20, stimulus);
        for round in &report.rounds {
            assert_eq!(round.outcome, Outcome::Lost, "{round:?}");
            assert!(round.stuck_ns.unwrap() >= 1_000_000, "{round:?}");
        }
        assert_eq!(report.rounds.len(), 20);
        // An injected packet and the one after it a round, and the stimuli, at least; each of them
        // once.
        assert!(received.len() as u32 >= 40 + report.stimuli);
        let mut distinct = received.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), received.len());
    }
}

#[test]
fn no_injected_packet_is_lost_after_the_fix() {
    let (report, _) = injection(Mode::V4_11, 20, Stimulus::Udp);
    for round in &report.rounds {
        assert_eq!(round.outcome, Outcome::Delivered, "{round:?}");
        assert!(round.delivered_ns.unwrap() > 0);
    }
    assert_eq!(report.rounds.len(), 20);
}

fn natural() -> NaturalSpec {
    NaturalSpec {
        seed: 1,
        trials: 30,
        flow: flow(),
        burst: 20,
        burst_us: (10, 100),
        straggler_us: (10, 500),
        interrupt_us: (0, 100),
        stuck_us: (0, 0),
        nudges: false,
    }
}

#[test]
fn a_natural_run_publishes_a_burst_at_once_and_delivers_every_packet_after_the_fix() {
    let device = Device::new();
    let received = beside_driver(&device, Mode::V4_11, || {
        assert_eq!(device.ask(Command::Start(RunRequest::Natural(natural()))), Answer::Started);
        let Finished::Natural(report) = finish(&device) else { panic!("not a natural report") };
        assert_eq!((report.trials.len(), report.lost, report.rescued), (30, 0, 0));
        assert!(report.trials.iter().all(|trial| trial.outcome == Outcome::Delivered));
    });
    // A segment for GRO, one that ends it, the burst, the straggler.
    assert_eq!(received.len(), 30 * 23);
}

fn request(serial: u32, port: u16) -> Vec<u8> {
    let flow = flow();
    let builder = etherparse::PacketBuilder::ethernet2(flow.peer_mac, flow.guest_mac)
        .ipv4(flow.peer_ip.octets(), flow.guest_ip.octets(), 64)
        .tcp(40_000, port, serial, 1000)
        .ack(1);
    let mut frame = Vec::new();
    builder.write(&mut frame, &serial.to_le_bytes()).unwrap();
    frame
}

#[test]
fn watched_requests_are_injected_and_nothing_on_the_wire_is_lost_or_reordered() {
    for (mode, outcome) in [(Mode::V4_10, Outcome::Lost), (Mode::V4_11, Outcome::Delivered)] {
        let device = Device::new();
        let mut followers = 0;
        let received = beside_driver(&device, mode, || {
            let run = MonitorSpec { seed: 3, port: 5000, inject_per_mille: 500 };
            assert_eq!(device.ask(Command::Start(RunRequest::Monitor(run))), Answer::Started);
            for serial in 0..30 {
                device.host.send(&request(serial, 6000));
                device.host.send(&request(serial, 5000));
                std::thread::sleep(Duration::from_millis(3));
            }
            // What follows the last request frees it, if it was lost. Of 4.10, a follower may be
            // lost as well.
            eventually("everything is consumed", || {
                let status = device.status();
                if followers > 0
                    && status.produced == 60 + followers
                    && status.ci == status.produced
                {
                    return Some(());
                }
                if status.produced == 60 + followers {
                    device.host.send(&request(30 + followers, 6000));
                    followers += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                None
            });
            assert!(device.control.send(Command::StopMonitor));
            let Finished::Monitor(report) = finish(&device) else {
                panic!("not a traffic monitor report")
            };
            assert_eq!(report.requests, 30, "{report:?}");
            // How many the guest comes to the rendezvous for depends on the machine.
            assert!(!report.injected.is_empty(), "{report:?}");
            for injected in &report.injected {
                assert_eq!(injected.outcome, outcome, "{report:?}");
            }
        });
        let mut expected: Vec<_> =
            (0..30).flat_map(|serial| [request(serial, 6000), request(serial, 5000)]).collect();
        expected.extend((0..followers).map(|follower| request(30 + follower, 6000)));
        assert_eq!(received.len(), expected.len());
        assert!(received == expected);
    }
}

/// Starts a traffic monitor that injects as often as this, beside a guest that has this many
/// receive buffers of 256 bytes.
fn watched(device: &Device, buffers: u64, inject_per_mille: u32) -> Guest {
    let mut guest = Guest::start_with(device, Options::default(), buffers, 256);
    guest.register();
    guest.arm();
    let run = MonitorSpec { seed: 3, port: 5000, inject_per_mille };
    assert_eq!(device.ask(Command::Start(RunRequest::Monitor(run))), Answer::Started);
    guest
}

/// Ends the traffic monitor: the requests it has counted.
fn requests(device: &Device, guest: Guest) -> u32 {
    assert!(device.control.send(Command::StopMonitor));
    let Finished::Monitor(report) = finish(device) else { panic!("not a traffic monitor report") };
    guest.leave();
    report.requests
}

/// A request of 600 bytes: three buffers of 256.
fn large_request(serial: u32) -> Vec<u8> {
    let mut frame = request(serial, 5000);
    // The Ethernet and IP headers tell where the segment ends.
    let len = 600_u16 - 14;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame.resize(600, 0);
    frame
}

#[test]
fn a_request_that_waited_for_buffers_is_counted() {
    let device = Device::new();
    let mut guest = watched(&device, 2, 0);
    device.host.send(&large_request(1));
    eventually("it has been looked at and waits", || guest.rx.wants_kick().then_some(()));
    assert_eq!(device.counter("rx_frames"), 0);
    guest.post(3, 256);
    assert_eq!(guest.receive().frame, large_request(1));
    assert_eq!(requests(&device, guest), 1);
}

#[test]
fn a_request_that_was_held_for_a_injection_and_then_waited_for_buffers_is_counted() {
    let device = Device::new();
    let mut guest = watched(&device, 1, 1000);
    device.host.send(&request(1, 5000));
    guest.receive();
    guest.arm();
    eventually("the next request is to be injected", || {
        (guest.cell(offset::REQUESTED) != 0).then_some(())
    });
    device.host.send(&request(2, 5000));
    eventually("it is given up", || (guest.cell(offset::REQUESTED) == 0).then_some(()));
    guest.post(1, 256);
    assert_eq!(guest.receive().frame, request(2, 5000));
    assert_eq!(requests(&device, guest), 2);
}

#[test]
fn a_request_that_waited_for_buffers_when_the_next_one_was_to_be_injected_is_counted() {
    let device = Device::new();
    let mut guest = watched(&device, 3, 1000);
    device.host.send(&request(1, 5000));
    device.host.send(&large_request(2));
    guest.receive();
    eventually("it has been looked at and waits", || guest.rx.wants_kick().then_some(()));
    guest.arm();
    // It is the next one: held, and let go when no guest is at the rendezvous.
    eventually("it is to be injected", || (guest.cell(offset::REQUESTED) != 0).then_some(()));
    guest.post(3, 256);
    assert_eq!(guest.receive().frame, large_request(2));
    assert_eq!(requests(&device, guest), 2);
}

#[test]
fn a_run_without_a_page_is_refused_with_advice() {
    let device = Device::new();
    let guest = Guest::start(&device, Options::default());
    let Answer::Refused(why) = device.ask(Command::Start(RunRequest::Natural(natural()))) else {
        panic!("it was started")
    };
    assert!(why.contains("tsnic driver"), "{why}");
    guest.leave();
}

#[test]
fn a_front_end_that_leaves_ends_the_run() {
    let device = Device::new();
    let mut started = false;
    beside_driver(&device, Mode::V4_11, || {
        let run = InjectionSpec {
            seed: 7,
            rounds: 100_000,
            flow: flow(),
            stimulus: Stimulus::Udp,
            stuck_us: (1000, 3000),
        };
        started = device.ask(Command::Start(RunRequest::Injection(run))) == Answer::Started;
    });
    assert!(started);
    // Nobody says anything: what the run itself waits for must do.
    let mut timers: Vec<_> =
        device.backend.timers().map(|timer| PollFd::new(timer, PollFlags::POLLIN)).collect();
    eventually("the run has ended", || {
        if poll(&mut timers, PollTimeout::ZERO) != Ok(0) {
            device.backend.serve_alone();
        }
        match device.control.try_recv() {
            Some(Answer::Finished(_)) => Some(()),
            _ => None,
        }
    });
}

#[test]
fn a_receive_queue_that_breaks_ends_the_run() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    guest.arm();
    let run = InjectionSpec {
        seed: 7,
        rounds: 100_000,
        flow: flow(),
        stimulus: Stimulus::Udp,
        stuck_us: (1000, 3000),
    };
    assert_eq!(device.ask(Command::Start(RunRequest::Injection(run))), Answer::Started);
    guest.rx.store(guest.rx.available + 2, guest.rx.next_avail.wrapping_add(100));
    eventually("the run has ended", || match device.control.try_recv() {
        Some(Answer::Finished(_)) => Some(()),
        _ => None,
    });
    assert_eq!(device.counter("queues_broken"), 1);
    guest.leave();
}

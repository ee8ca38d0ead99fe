// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/stalls.md: the verdicts of the stall detector on guests that do one thing wrong, and on
//! right ones.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tsnic::control::channel::{Answer, Command, PathCommand};
use tsnic::frame::NetHeader;
use tsnic_abi::{Counter, offset};
use tsnic_core::policy::spec::PolicySpec;
use tsnic_protocol::stall::{VectorStalls, Verdict};
use tsnic_protocol::{Stalls, Vector};

use crate::support::{BUFFERS, Device, DriverQueue, EVENT_IDX, Guest, Options, eventually, frame};

/// When the detector looks closer. These guests have to be quicker than that to be right, and eight
/// times as quick to answer a nudge at once: on a busy machine, too.
const AFTER: Duration = Duration::from_millis(640);

const DROP: PolicySpec = PolicySpec::Drop { per_mille: 1000 };

/// Indices that wrap, and never 0 to begin with: what an event index of 0 means is not clear.
const OPTIONS: Options = Options { without: 0, size: 64, start: 0xfffe };

fn set_policies(device: &Device, rx: Vec<PolicySpec>, tx: Vec<PolicySpec>) {
    let command = Command::Paths(PathCommand::Policies(1, [rx, tx]));
    assert_eq!(device.ask(command), Answer::Paths(None));
}

/// A guest that runs, and whose lines have been raised for its start.
fn started(device: &Device, options: Options) -> Guest {
    quiet(Guest::start(device, options))
}

fn quiet(guest: Guest) -> Guest {
    guest.rx.interrupts();
    guest.tx.interrupts();
    guest
}

fn stalls(device: &Device) -> Stalls {
    device.status().stalls.expect("the detector is on")
}

fn of(device: &Device, vector: Vector) -> VectorStalls {
    let Stalls { rx, tx } = stalls(device);
    if vector == Vector::Rx { rx } else { tx }
}

/// The first verdict on this vector; there is none on the other.
fn verdict(device: &Device, vector: Vector) -> (Verdict, VectorStalls) {
    let latest = eventually("a verdict", || of(device, vector).latest);
    let (it, Stalls { rx, tx }) = (of(device, vector), stalls(device));
    let other = if vector == Vector::Rx { tx } else { rx };
    assert_eq!(other.latest, None, "{it:?}");
    assert_eq!(device.counter("stalls"), 1, "{it:?}");
    assert_eq!(device.counter("nudges"), it.nudges + other.nudges);
    (latest.verdict, it)
}

fn interrupted(queue: &DriverQueue) {
    eventually("an interrupt", || (queue.interrupts() > 0).then_some(()));
}

/// The guest has consumed everything and asks for an interrupt with the next entry.
fn ask(queue: &DriverQueue) {
    queue.set_used_event(queue.next_used);
}

/// The guest sends a frame, reclaims it when it has left, and asks for the next interrupt.
fn send(guest: &mut Guest) {
    guest.send(NetHeader::default(), &frame(7, 64));
    ask(&guest.tx);
}

fn receive(guest: &mut Guest) {
    guest.receive();
    ask(&guest.rx);
    guest.post(1, 2048);
}

#[test]
fn a_dropped_receive_interrupt_is_lost_to_the_policy() {
    // Without the event index, posting buffers is the progress that shows.
    for without in [0, EVENT_IDX] {
        let device = Device::with_stall_detector(AFTER);
        let mut guest = started(&device, Options { without, ..OPTIONS });
        set_policies(&device, vec![DROP], Vec::new());
        device.host.send(&frame(1, 64));
        interrupted(&guest.rx);
        receive(&mut guest);
        let (verdict, rx) = verdict(&device, Vector::Rx);
        assert_eq!(verdict, Verdict::Lost);
        assert_eq!((rx.lost, rx.by_policy, rx.nudges), (1, 1, 1));
        let evidence = rx.latest.unwrap();
        assert_eq!((evidence.published, evidence.intents), (0xffff, 1));
        assert!(evidence.waited_ns >= AFTER.as_nanos() as u64);
        guest.leave();
    }
}

#[test]
fn a_dropped_transmit_interrupt_is_lost_to_the_policy() {
    let device = Device::with_stall_detector(AFTER);
    let mut guest = started(&device, OPTIONS);
    set_policies(&device, Vec::new(), vec![DROP]);
    guest.tx.add(&[(BUFFERS, 100, false)]);
    guest.tx.kick();
    device.host.receive();
    interrupted(&guest.tx);
    guest.tx.take().expect("it has left");
    ask(&guest.tx);
    let (verdict, tx) = verdict(&device, Vector::Tx);
    assert_eq!((verdict, tx.by_policy, tx.nudges), (Verdict::Lost, 1, 1));
    guest.leave();
}

/// A driver that has missed its interrupt, as after an interrupt controller that lost it.
#[test]
fn an_interrupt_that_gets_lost_on_its_way_is_lost_and_no_policy_s() {
    let device = Device::with_stall_detector(AFTER);
    let mut guest = started(&device, OPTIONS);
    device.host.send(&frame(1, 64));
    // This one does not count.
    interrupted(&guest.rx);
    interrupted(&guest.rx);
    receive(&mut guest);
    let (verdict, rx) = verdict(&device, Vector::Rx);
    assert_eq!((verdict, rx.by_policy, rx.nudges), (Verdict::Lost, 0, 1));
    guest.leave();
}

#[test]
fn a_guest_that_posts_no_buffers_does_not_refill() {
    let device = Device::with_stall_detector(AFTER);
    let mut guest = quiet(Guest::start_with(&device, OPTIONS, 2, 2048));
    for tag in 0..3 {
        device.host.send(&frame(tag, 64));
    }
    for _ in 0..2 {
        guest.receive();
    }
    ask(&guest.rx);
    let (verdict, rx) = verdict(&device, Vector::Rx);
    assert_eq!((verdict, rx.not_refilled), (Verdict::NotRefilled, 1));
    // Nothing is missing in the end.
    guest.post(1, 2048);
    assert_eq!(guest.receive().frame, frame(2, 64));
    guest.leave();
}

#[test]
fn an_empty_ring_that_no_frame_waits_for_is_no_stall() {
    let device = Device::with_stall_detector(AFTER / 2);
    let mut guest = quiet(Guest::start_with(&device, OPTIONS, 1, 2048));
    device.host.send(&frame(0, 64));
    guest.receive();
    ask(&guest.rx);
    sleep(2 * AFTER);
    assert_eq!(device.counter("stalls"), 0, "{:?}", stalls(&device));
    guest.leave();
}

#[test]
fn a_guest_that_forgets_to_kick_is_found_out() {
    for without in [0, EVENT_IDX] {
        let device = Device::with_stall_detector(AFTER);
        let mut guest = started(&device, Options { without, ..OPTIONS });
        send(&mut guest);
        device.host.receive();
        assert!(guest.tx.wants_kick());
        guest.tx.add(&[(BUFFERS, 100, false)]);
        device.host.receive();
        eventually("it has left", || guest.tx.take());
        ask(&guest.tx);
        // Alive, whatever the ring's features.
        device.host.send(&frame(1, 64));
        receive(&mut guest);
        let (verdict, tx) = verdict(&device, Vector::Tx);
        assert_eq!((verdict, tx.kick_lost), (Verdict::KickLost, 1), "{tx:?}");
        guest.leave();
    }
}

#[test]
fn a_guest_that_ignores_one_of_its_interrupts_is_told_from_one_that_has_stopped() {
    for alive in [true, false] {
        let device = Device::with_stall_detector(AFTER);
        let mut guest = started(&device, OPTIONS);
        device.host.send(&frame(1, 64));
        for _ in 0..=3 {
            interrupted(&guest.rx);
            if alive {
                send(&mut guest);
                device.host.receive();
            }
        }
        let (verdict, rx) = verdict(&device, Vector::Rx);
        assert_eq!(verdict, if alive { Verdict::Ignored } else { Verdict::Stopped });
        assert_eq!((rx.nudges, rx.ignored + rx.stopped), (3, 1));
        guest.leave();
    }
}

#[test]
fn a_guest_that_turns_interrupts_off_and_forgets_its_packets_is_told() {
    for without in [0, EVENT_IDX] {
        let device = Device::with_stall_detector(AFTER);
        let mut guest = started(&device, Options { without, ..OPTIONS });
        guest.rx.set_available_flags(1);
        guest.rx.set_used_event(guest.rx.next_used.wrapping_sub(100));
        device.host.send(&frame(1, 64));
        eventually("it is published", || (device.counter("rx_frames") == 1).then_some(()));
        sleep(Duration::from_millis(20));
        send(&mut guest);
        let (verdict, rx) = verdict(&device, Vector::Rx);
        assert_eq!((verdict, rx.nudges, rx.suppressed), (Verdict::Suppressed, 0, 1));
        guest.leave();
    }
}

#[test]
fn a_slow_guest_is_slow_and_the_nudge_gets_no_credit() {
    let device = Device::with_stall_detector(Duration::from_millis(160));
    let mut guest = started(&device, OPTIONS);
    device.host.send(&frame(1, 64));
    interrupted(&guest.rx);
    interrupted(&guest.rx);
    sleep(Duration::from_millis(60));
    receive(&mut guest);
    let (verdict, rx) = verdict(&device, Vector::Rx);
    assert_eq!((verdict, rx.slow, rx.lost), (Verdict::Slow, 1, 0));
    guest.leave();
}

#[test]
fn an_interrupt_that_a_policy_holds_is_no_stall() {
    let device = Device::with_stall_detector(AFTER);
    let mut guest = started(&device, OPTIONS);
    set_policies(&device, vec![PolicySpec::FixedDelay { delay_us: 1_500_000 }], Vec::new());
    device.host.send(&frame(1, 64));
    interrupted(&guest.rx);
    receive(&mut guest);
    assert_eq!((device.counter("nudges"), device.counter("stalls")), (0, 0));
    assert_eq!(device.counter("interrupts_held"), 1);
    guest.leave();
}

#[test]
fn a_right_guest_has_no_stalls() {
    for options in Options::ring_variants() {
        let device = Device::with_stall_detector(AFTER);
        let mut guest = started(&device, Options { start: 0xff00, ..options });
        let start = Instant::now();
        let mut rounds = 0;
        while start.elapsed() < Duration::from_secs(2) {
            rounds += 1;
            for tag in 0..4 {
                device.host.send(&frame(tag, 64));
            }
            for _ in 0..4 {
                receive(&mut guest);
            }
            send(&mut guest);
            device.host.receive();
        }
        assert!(rounds > 50, "{rounds}");
        sleep(2 * AFTER);
        let Stalls { rx, tx } = stalls(&device);
        // Without the event index nothing shows that the guest has reclaimed the last frame sent:
        // one nudge finds out.
        let unclear = options.without & EVENT_IDX != 0;
        let reclaimed = VectorStalls { nudges: unclear.into(), ..VectorStalls::default() };
        assert_eq!((rx, tx), (VectorStalls::default(), reclaimed), "{options:?}");
        guest.leave();
    }
}

#[test]
fn with_a_page_both_detectors_say_lost() {
    let device = Device::with_stall_detector(AFTER);
    let mut guest = started(&device, OPTIONS);
    guest.ci = Counter(OPTIONS.start.into());
    guest.register();
    guest.rx.interrupts();
    guest.arm();
    device.host.send(&frame(0, 64));
    interrupted(&guest.rx);
    // The handler finds the NAPI owned, and the owner arms without the packet.
    let fired = guest.cell(offset::FIRED);
    guest.set_cell(offset::IRQ_OWNED, fired);
    guest.set_cell(offset::IRQ_SEEN, fired);
    guest.arm();
    interrupted(&guest.rx);
    guest.receive();
    guest.handle_interrupt();
    guest.arm();
    let (verdict, rx) = verdict(&device, Vector::Rx);
    assert_eq!((verdict, rx.nudges, rx.by_policy), (Verdict::Lost, 1, 0));
    let counters = device.status().counters;
    assert_eq!((counters.lost, counters.rescued, counters.detector_disagreements), (1, 0, 0));
    guest.leave();
}

#[test]
fn without_the_option_nobody_looks() {
    let device = Device::new();
    let guest = started(&device, OPTIONS);
    device.host.send(&frame(1, 64));
    interrupted(&guest.rx);
    sleep(Duration::from_millis(50));
    assert_eq!(device.status().stalls, None);
    assert_eq!(device.counter("nudges"), 0);
    guest.leave();
}

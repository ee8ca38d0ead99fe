// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/interface.md, "Interrupts on a queue with a page", as a driver sees them. The rules
//! themselves are tested on the state machine; this is about the worker that drives it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, FromRawFd as _, IntoRawFd as _};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tsnic::control::channel::{Answer, Command, PathCommand};
use tsnic::frame::NetHeader;
use tsnic::net::pair::InterruptConfig;
use tsnic_abi::{Counter, RX_RECORDS, offset};
use tsnic_core::moderation::{Limits, Setting};
use tsnic_core::policy::spec::PolicySpec;
use tsnic_protocol::Vector;
use vhost::VhostBackend as _;
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::support::{A_WHILE, AREA, BUFFERS, Device, Guest, Options, eventually, frame};

fn with_page(device: &Device, options: Options) -> Guest {
    let mut guest = Guest::start(device, options);
    guest.register();
    guest.rx.interrupts();
    guest
}

fn expect_interrupt(guest: &Guest) {
    eventually("an interrupt", || (guest.rx.interrupts() > 0).then_some(()));
}

fn expect_none(guest: &Guest) {
    sleep(A_WHILE);
    assert_eq!(guest.rx.interrupts(), 0);
}

#[test]
fn one_arm_gives_one_interrupt_and_no_arm_none() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = with_page(&device, options);
        device.host.send(&frame(0, 64));
        guest.receive();
        expect_none(&guest);
        guest.arm();
        expect_none(&guest);
        device.host.send(&frame(1, 64));
        expect_interrupt(&guest);
        assert_eq!(guest.cell(offset::FIRED), 1);
        device.host.send(&frame(2, 64));
        expect_none(&guest);
        guest.receive();
        guest.receive();
        guest.handle_interrupt();
        guest.arm();
        expect_none(&guest);
        let status = device.status();
        assert_eq!((status.produced, status.signaled, status.ci, status.fired), (3, 3, 3, 1));
        assert!(status.armed);
        guest.leave();
    }
}

#[test]
fn an_arm_behind_what_is_published_fires_at_once() {
    let device = Device::new();
    let mut guest = with_page(&device, Options::default());
    device.host.send(&frame(0, 64));
    device.host.send(&frame(1, 64));
    guest.receive();
    eventually("both are published", || (device.status().produced == 2).then_some(()));
    guest.arm();
    expect_interrupt(&guest);
    guest.leave();
}

#[test]
fn the_device_never_signals_a_completion_twice() {
    let device = Device::new();
    let mut guest = with_page(&device, Options::default());
    guest.arm();
    device.host.send(&frame(0, 64));
    expect_interrupt(&guest);
    // The driver found nothing, whatever it did: the arm does not cover the packet, and no
    // interrupt follows.
    guest.arm();
    expect_none(&guest);
    let status = device.status();
    assert!(status.armed && status.produced == status.signaled && status.ci == 0);
    assert_eq!(status.counters.loss_candidates, 1);
    // The next packet frees it.
    device.host.send(&frame(1, 64));
    expect_interrupt(&guest);
    guest.leave();
}

#[test]
fn a_packet_is_judged_by_what_the_driver_has_done_until_the_next_one_comes() {
    for arms_meanwhile in [true, false] {
        let device = Device::new();
        let mut guest = with_page(&device, Options::default());
        guest.arm();
        device.host.send(&frame(0, 64));
        expect_interrupt(&guest);
        // The handler finds the NAPI owned, and the owner arms without the packet.
        guest.set_cell(offset::IRQ_OWNED, 1);
        guest.set_cell(offset::IRQ_SEEN, 1);
        guest.arm();
        eventually("it looks lost", || {
            (device.status().counters.loss_candidates == 1).then_some(())
        });
        // Another owner finds it and arms, while the device has the next packet in its hands
        // already.
        guest.receive();
        let (memory, ci, arm) = (guest.memory.clone(), guest.ci, guest.arm.plus(1));
        device.host.meanwhile(move || {
            if arms_meanwhile {
                for (cell, value) in [(offset::CI, ci), (offset::ARM, arm)] {
                    memory
                        .store(value.0, GuestAddress(AREA + cell as u64), Ordering::Release)
                        .unwrap();
                }
            }
        });
        device.host.send(&frame(1, 64));
        guest.receive();
        let counters = device.status().counters;
        let (lost, rescued) = (counters.lost, counters.rescued);
        assert_eq!((lost, rescued), if arms_meanwhile { (0, 1) } else { (1, 0) });
        guest.leave();
    }
}

#[test]
fn rule_6_without_a_page_virtios_rules_apply_and_no_other() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        for after_a_page in [false, true] {
            if after_a_page {
                guest.register();
                let header = guest.registration_header();
                assert_eq!(
                    guest.post_registration(
                        &zerocopy::IntoBytes::as_bytes(&header)[..39],
                        &[(AREA, 32768)]
                    ),
                    0
                );
                assert_eq!(device.status().page, None);
            }
            for tag in 0..3 {
                guest.rx.set_available_flags(0);
                guest.rx.set_used_event(guest.rx.next_used);
                device.host.send(&frame(tag, 64));
                guest.receive();
                expect_interrupt(&guest);
                guest.rx.set_available_flags(1);
                guest.rx.set_used_event(guest.rx.next_used.wrapping_sub(100));
                device.host.send(&frame(tag, 64));
                guest.receive();
                // An arm that no page is there for asks for nothing.
                guest.arm();
                expect_none(&guest);
            }
            assert_eq!(device.status().counters.arms, 0);
        }
        guest.leave();
    }
}

#[test]
fn interrupts_of_a_page_do_not_follow_virtio_suppression() {
    let device = Device::new();
    let mut guest = with_page(&device, Options::default());
    guest.rx.set_available_flags(1);
    guest.rx.set_used_event(guest.rx.next_used.wrapping_sub(100));
    guest.arm();
    device.host.send(&frame(0, 64));
    expect_interrupt(&guest);
    guest.leave();
}

#[test]
fn an_arm_written_before_the_registration_was_processed_counts() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    device.host.send(&frame(0, 64));
    guest.receive();
    let header = guest.registration_header();
    // The kick of this arm comes before the page is known.
    guest.arm();
    guest.rx.interrupts();
    device.status();
    assert_ne!(
        guest.post_registration(zerocopy::IntoBytes::as_bytes(&header), &[(AREA, 32768)]),
        0
    );
    eventually("the arm is seen", || device.status().armed.then_some(()));
    device.host.send(&frame(1, 64));
    expect_interrupt(&guest);
    guest.leave();
}

#[test]
fn interrupts_are_numbered_on_from_what_the_handler_saw_last() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.set_cell(offset::IRQ_SEEN, 41);
    guest.register();
    assert_eq!(guest.cell(offset::FIRED), 41);
    guest.arm();
    device.host.send(&frame(0, 64));
    eventually("the interrupt", || (guest.cell(offset::FIRED) == 42).then_some(()));
    guest.leave();
}

#[test]
fn rx_usecs_holds_the_interrupt_back_and_rx_frames_lets_it_go() {
    let device = Device::with_limits(200_000, 3);
    let mut guest = with_page(&device, Options::default());
    guest.arm();
    let start = Instant::now();
    device.host.send(&frame(0, 64));
    guest.receive();
    expect_none(&guest);
    expect_interrupt(&guest);
    assert!(start.elapsed() >= Duration::from_millis(200));
    guest.arm();
    let start = Instant::now();
    for tag in 0..3 {
        device.host.send(&frame(tag, 64));
    }
    expect_interrupt(&guest);
    assert!(start.elapsed() < Duration::from_millis(200));
    guest.leave();
}

#[test]
fn moderation_is_for_every_driver_in_both_directions() {
    for options in Options::ring_variants() {
        let limits = Limits { usecs: 900_000, frames: 3 };
        let device = Device::with_interrupts(InterruptConfig {
            moderation: [limits.into(), limits.into()],
            ..InterruptConfig::default()
        });
        let mut guest = Guest::start(&device, options);
        // A start raises each line once, whatever is in the ring.
        device.running();
        guest.rx.interrupts();
        guest.tx.interrupts();
        let before = device.status().counters;
        for round in 0..3 {
            for queue in [&mut guest.rx, &mut guest.tx] {
                queue.set_used_event(queue.next_used);
            }
            for tag in 0..3 {
                assert_eq!(guest.rx.interrupts(), 0, "{options:?}, round {round}");
                device.host.send(&frame(tag, 64));
                guest.receive();
            }
            eventually("the receive interrupt", || (guest.rx.interrupts() == 1).then_some(()));
            for tag in 0..3 {
                assert_eq!(guest.tx.interrupts(), 0, "{options:?}, round {round}");
                guest.send(NetHeader::default(), &frame(tag, 64));
                device.host.receive();
            }
            eventually("the transmit interrupt", || (guest.tx.interrupts() == 1).then_some(()));
            guest.post(3, 2048);
        }
        let counters = device.status().counters;
        assert_eq!(counters.rx_interrupts - before.rx_interrupts, 3);
        assert_eq!(counters.tx_interrupts - before.tx_interrupts, 3);
        guest.leave();
    }
}

#[test]
fn frames_that_are_sent_together_count_one_by_one() {
    let [rx, tx] = [0, 3].map(|frames| Limits { usecs: 1_000_000, frames });
    let device = Device::with_interrupts(InterruptConfig {
        moderation: [rx.into(), tx.into()],
        ..InterruptConfig::default()
    });
    let mut guest = Guest::start(&device, Options::default());
    device.running();
    // What waits for time only, from now on.
    device.host.send(&frame(0, 64));
    guest.receive();
    guest.rx.interrupts();
    guest.tx.interrupts();
    for sent in [2, 1] {
        assert_eq!(guest.tx.interrupts(), 0, "before the last {sent}");
        for tag in 0..sent {
            // A header of zeros, and a frame.
            let len = frame(tag, 64).len() as u32;
            guest.tx.add(&[(BUFFERS, 12 + len, false)]);
        }
        guest.tx.kick();
        for _ in 0..sent {
            device.host.receive();
        }
    }
    eventually("the transmit interrupt", || (guest.tx.interrupts() == 1).then_some(()));
    assert_eq!(guest.rx.interrupts(), 0, "it came by the number of frames");
    guest.leave();
}

#[test]
fn how_late_a_placed_interrupt_was_is_told() {
    let device = Device::new();
    let mut guest = with_page(&device, Options::default());
    let policies = |delay_us| {
        let hold = vec![PolicySpec::FixedDelay { delay_us }];
        let command = Command::Paths(PathCommand::Policies(1, [hold, Vec::new()]));
        assert_eq!(device.ask(command), Answer::Paths(None));
    };
    assert!(device.status().lateness.is_empty());
    for (delay_us, count) in [(100, 3), (200, 2)] {
        // Those of the policies before are not counted any more.
        policies(delay_us);
        for tag in 0..count {
            guest.arm();
            device.host.send(&frame(tag, 64));
            expect_interrupt(&guest);
            guest.receive();
        }
        let told = device.status().lateness;
        let [late] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((late.vector, late.count), (Vector::Rx, count.into()));
        assert!(0 < late.median_ns && late.median_ns <= late.p99_ns && late.p99_ns <= late.max_ns);
    }
    guest.leave();
}

#[test]
fn adaptive_moderation_is_told_with_the_limits_that_it_has_chosen() {
    let adaptive = Setting { adaptive: true, ..Setting::default() };
    let device = Device::with_interrupts(InterruptConfig {
        moderation: [adaptive, Setting::default()],
        ..InterruptConfig::default()
    });
    let mut guest = with_page(&device, Options::default());
    let chosen = || device.status().moderation[0];
    assert!(chosen().adaptive && !device.status().moderation[1].adaptive);
    // A sample is 64 interrupts, and one before it.
    for tag in 0..=64 {
        assert_eq!(chosen().usecs, 0, "before interrupt {tag}");
        guest.arm();
        device.host.send(&frame(tag, 64));
        expect_interrupt(&guest);
        guest.receive();
        guest.post(1, 2048);
    }
    assert_ne!(chosen().usecs, 0);
    guest.leave();
}

#[test]
fn a_full_ring_does_not_wait_for_more_packets_than_it_holds() {
    let device = Device::with_limits(900_000, 100);
    let mut guest = with_page(&device, Options::default());
    guest.arm();
    for tag in 0..63 {
        device.host.send(&frame(tag, 64));
    }
    eventually("all are published", || (device.status().produced == 63).then_some(()));
    expect_none(&guest);
    device.host.send(&frame(63, 64));
    expect_interrupt(&guest);
    guest.leave();
}

#[test]
fn on_a_longer_ring_more_packets_than_there_are_records_are_not_waited_for() {
    // As many buffers as a driver with a page has out; or as many as the ring has entries, which is
    // against the rules.
    for buffers in [u64::from(RX_RECORDS), 1024] {
        let device = Device::with_limits(900_000, 600);
        let mut guest =
            Guest::start_with(&device, Options { size: 1024, ..Options::default() }, buffers, 2048);
        guest.register();
        guest.rx.interrupts();
        guest.arm();
        for tag in 1..RX_RECORDS {
            device.host.send(&frame(tag.into(), 64));
        }
        eventually("all have come", || {
            (device.status().produced == u32::from(RX_RECORDS) - 1).then_some(())
        });
        expect_none(&guest);
        device.host.send(&frame(0, 64));
        expect_interrupt(&guest);
        assert_eq!(device.status().signaled, u32::from(RX_RECORDS));
        guest.leave();
    }
}

#[test]
fn an_arm_that_cannot_be_true_is_counted_and_does_no_harm() {
    let device = Device::new();
    let mut guest = with_page(&device, Options::default());
    guest.ci = Counter(1000);
    guest.arm();
    eventually("it is counted", || (device.status().counters.ci_errors == 1).then_some(()));
    device.host.send(&frame(0, 64));
    expect_interrupt(&guest);
    guest.leave();
}

/// A pipe whose write blocks, as user-mode Linux has for a call descriptor: full.
fn full_pipe() -> (File, EventFd) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut writer = File::from(writer);
    let set = |file: &File, flags| fcntl(file.as_fd(), FcntlArg::F_SETFL(flags)).unwrap();
    set(&writer, OFlag::O_NONBLOCK);
    while writer.write(&[0; 4096]).is_ok() {}
    set(&writer, OFlag::empty());
    // SAFETY: the descriptor is open, and given away by its only owner.
    (File::from(reader), unsafe { EventFd::from_raw_fd(writer.into_raw_fd()) })
}

#[test]
fn a_line_that_is_full_and_would_block_does_not_stop_the_worker() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    let (reader, call) = full_pipe();
    guest.frontend.set_vring_call(0, &call).unwrap();
    for tag in 0..3 {
        device.host.send(&frame(tag, 64));
        guest.receive();
    }
    assert_eq!(device.status().counters.rx_frames, 3);
    assert_eq!(guest.stop_queues(), [3, 0]);
    drop(reader);
    guest.leave();
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts, stops, resets, reconnects and new memory tables. "A page never outlives the driver that
//! posted it."

use std::thread::sleep;

use tsnic::frame::NetHeader;
use tsnic_abi::offset;
use vhost::VhostBackend as _;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::IntoBytes as _;

use crate::support::{A_WHILE, AREA, Device, Guest, Options, eventually, frame};

fn traffic(device: &Device, guest: &mut Guest, tag: u32) {
    device.host.send(&frame(tag, 100));
    assert_eq!(guest.receive().frame, frame(tag, 100));
    guest.send(NetHeader::default(), &frame(tag, 200));
    assert_eq!(device.host.receive().1, frame(tag, 200));
}

#[test]
fn a_stopped_queue_is_not_touched_and_says_where_it_was() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    traffic(&device, &mut guest, 1);
    let bases = guest.stop_queues();
    assert_eq!(bases, [1, 2]);
    let before = guest.read(0, 8 << 20);
    guest.tx.add(&[(AREA, 100, false)]);
    guest.tx.kick();
    guest.set_cell(offset::ARM, 99);
    device.host.send(&frame(2, 100));
    sleep(A_WHILE);
    let after = guest.read(0, 8 << 20);
    let changed = before.iter().zip(&after).enumerate().filter(|(_, (one, other))| one != other);
    // Only what the guest wrote itself: its ring and its arm.
    assert!(
        changed
            .map(|(at, _)| at as u64)
            .all(|at| (0x2_0000..0x2_8000).contains(&at) || at == AREA + offset::ARM as u64)
    );
    assert!(!device.status().running);
    guest.leave();
}

#[test]
fn a_page_is_kept_when_the_same_bases_come_back_with_a_new_memory_table() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        let header = guest.register();
        guest.arm();
        traffic(&device, &mut guest, 1);
        let [rx, tx] = guest.stop_queues();
        guest.share_memory();
        guest.start_queues(rx, tx);
        device.running();
        assert_eq!(device.status().page, Some(header.generation.get()));
        guest.handle_interrupt();
        guest.rx.interrupts();
        guest.arm();
        traffic(&device, &mut guest, 2);
        assert_eq!(guest.rx_record(tsnic_abi::Counter(1)).number, 1);
        eventually("an interrupt by the rules of the page", || {
            (guest.rx.interrupts() > 0).then_some(())
        });
        assert_eq!(guest.cell(offset::FIRED), 2);
        guest.leave();
    }
}

#[test]
fn frames_wait_on_the_wire_for_a_queue_that_goes_on_after_a_stop() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    traffic(&device, &mut guest, 1);
    let [rx, tx] = guest.stop_queues();
    for tag in 2..10 {
        device.host.send(&frame(tag, 100));
    }
    sleep(A_WHILE);
    assert!(!device.status().running);
    guest.start_queues(rx, tx);
    // Nobody kicks, and no other frame comes: the start alone must do.
    for tag in 2..10 {
        assert_eq!(guest.receive().frame, frame(tag, 100));
    }
    assert_eq!(device.counter("rx_not_running"), 0);
    // The receive queue starts first; none of the frames came in before the page was back in use.
    let numbers: Vec<_> =
        (0..9).map(|number| guest.rx_record(tsnic_abi::Counter(number)).number).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    assert_eq!(device.status().produced, 9);
    guest.leave();
}

#[test]
fn an_interrupt_raised_before_the_queue_had_a_line_is_not_lost() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    guest.arm();
    traffic(&device, &mut guest, 1);
    guest.handle_interrupt();
    guest.arm();
    let [rx, tx] = guest.stop_queues();
    guest.rx.interrupts();
    device.host.send(&frame(2, 100));
    guest.start_queues_and(rx, tx, || {
        eventually("the interrupt is raised", || (device.status().fired == 2).then_some(()));
    });
    eventually("the interrupt comes", || (guest.rx.interrupts() > 0).then_some(()));
    assert_eq!(guest.receive().frame, frame(2, 100));
    guest.leave();
}

#[test]
fn an_interrupt_raised_into_a_line_nobody_listens_to_is_raised_again_in_the_real_one() {
    for handed_over in [true, false] {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options::default());
        if handed_over {
            guest.register();
        }
        traffic(&device, &mut guest, 1);
        let [rx, tx] = guest.stop_queues();
        // QEMU's order: its masked notifiers first, the guest's later.
        let masked = [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let real = std::mem::replace(&mut guest.rx.call, masked[0].try_clone().unwrap());
        let real_tx = std::mem::replace(&mut guest.tx.call, masked[1].try_clone().unwrap());
        guest.start_queues(rx, tx);
        guest.arm();
        device.host.send(&frame(2, 100));
        assert_eq!(guest.receive().frame, frame(2, 100));
        eventually("the interrupt is raised", || {
            (device.counter("rx_interrupts") >= 2).then_some(())
        });
        let _ = real.read();
        (guest.rx.call, guest.tx.call) = (real, real_tx);
        for (queue, call) in [&guest.rx.call, &guest.tx.call].into_iter().enumerate() {
            guest.frontend.set_vring_call(queue, call).unwrap();
        }
        eventually("the interrupt comes", || (guest.rx.interrupts() > 0).then_some(()));
        guest.leave();
    }
}

#[test]
fn a_page_is_kept_when_no_frame_had_come_before_the_stop() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    let [rx, tx] = guest.stop_queues();
    assert_eq!([rx, tx], [0, 1]);
    guest.start_queues(rx, tx);
    device.running();
    assert!(device.status().page.is_some());
    guest.leave();
}

#[test]
fn a_page_is_forgotten_when_the_queues_start_from_0() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    traffic(&device, &mut guest, 1);
    guest.stop_queues();
    guest.write(AREA, &vec![0; 32768]);
    guest.reset_rings();
    guest.share_memory();
    guest.start_queues(0, 0);
    guest.post(64, 2048);
    device.running();
    traffic(&device, &mut guest, 2);
    let status = device.status();
    assert_eq!((status.page, status.counters.pages_forgotten), (None, 1));
    assert!(guest.read(AREA, 32768).iter().all(|&byte| byte == 0), "the old page was written");
    guest.register();
    guest.leave();
}

#[test]
fn a_page_is_forgotten_when_its_memory_goes_away() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    traffic(&device, &mut guest, 1);
    let [rx, tx] = guest.stop_queues();
    guest.share(AREA + 0x1000);
    guest.start_queues(rx, tx);
    eventually("it is forgotten", || (device.counter("pages_forgotten") == 1).then_some(()));
    guest.leave();
}

/// The generation cell, after everything that makes the device forget a page while its driver is
/// still there.
#[test]
fn a_driver_can_tell_by_the_generation_that_its_page_is_forgotten() {
    type Cause = fn(&mut Guest);
    let causes: [(&str, Cause); 5] = [
        ("the receive queue breaks", |guest| {
            guest.rx.store(guest.rx.available + 2, guest.rx.next_avail.wrapping_add(100));
            guest.rx.kick();
        }),
        ("the transmit queue breaks", |guest| {
            guest.tx.store(guest.tx.available + 2, guest.tx.next_avail.wrapping_add(100));
            guest.tx.kick();
        }),
        ("another page is refused", |guest| {
            assert_eq!(guest.post_registration(&[0; 40], &[(AREA, 32768)]), 0);
        }),
        ("a queue goes on from another base", |guest| {
            let [rx, _] = guest.stop_queues();
            guest.start_queues(rx, 0);
        }),
        ("the connection is lost", |guest| {
            drop(guest.connection.take());
        }),
    ];
    for (what, cause) in causes {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options::default());
        let header = guest.register();
        traffic(&device, &mut guest, 1);
        assert_eq!(guest.cell(offset::GENERATION), header.generation.get());
        cause(&mut guest);
        eventually(what, || (guest.cell(offset::GENERATION) == 0).then_some(()));
        // It is all that is said: the rest of the page is left as it was.
        assert_eq!(guest.cell(offset::MAGIC), tsnic_abi::MAGIC, "{what}");
    }
}

#[test]
fn a_page_that_has_gone_to_somebody_else_is_not_written_when_it_is_forgotten() {
    // Its memory is something else; or it looks as it did, and is of another registration.
    for (magic, generation) in
        [(0x5a5a_5a5a, 0x5a5a_5a5a), (0x5a5a_5a5a, 1), (tsnic_abi::MAGIC, 0x5a5a_5a5a)]
    {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options::default());
        assert_eq!(guest.register().generation.get(), 1);
        traffic(&device, &mut guest, 1);
        guest.stop_queues();
        guest.write(AREA, &vec![0x5a; 32768]);
        guest.set_cell(offset::MAGIC, magic);
        guest.set_cell(offset::GENERATION, generation);
        let before = guest.read(AREA, 32768);
        guest.reset_rings();
        guest.start_queues(0, 0);
        eventually("it is forgotten", || (device.counter("pages_forgotten") == 1).then_some(()));
        assert!(guest.read(AREA, 32768) == before, "{magic:#x}, {generation:#x}");
        guest.leave();
    }
}

#[test]
fn the_old_page_is_forgotten_before_the_new_one_is_taken_into_use() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    // The same place: the new identity must not be lost.
    let second = guest.register();
    assert_eq!(guest.cell(offset::GENERATION), second.generation.get());
    // Another place.
    let third = guest.registration_header();
    assert_eq!(guest.post_registration(third.as_bytes(), &[(AREA + 0x8000, 32768)]), 32768);
    assert_eq!((guest.cell(offset::GENERATION), guest.cell(0x8000 + offset::GENERATION)), (0, 3));
    guest.leave();
}

#[test]
fn a_memory_table_may_change_while_queues_run() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    for tag in 0..20 {
        traffic(&device, &mut guest, tag);
        guest.share_memory();
        guest.post(1, 2048);
    }
    guest.leave();
}

#[test]
fn a_page_is_forgotten_when_another_is_posted() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    let first = guest.register();
    let second = guest.register();
    assert_ne!(first.generation, second.generation);
    assert_eq!(device.status().page, Some(second.generation.get()));
    guest.leave();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_front_end_may_come_back_as_often_as_it_likes() {
    let device = Device::new();
    Guest::start(&device, Options::default()).leave();
    // Other tests run beside this one, in the same process: what is looked for is growth with the
    // number of rounds.
    let before = open_descriptors();
    for round in 0..200 {
        let mut guest = Guest::start(&device, Options::default());
        if round % 20 == 0 {
            guest.register();
            traffic(&device, &mut guest, round);
        }
        guest.leave();
        device.backend.serve_alone();
    }
    assert!(
        open_descriptors() < before + 150,
        "descriptors leak: {before} before, {} after",
        open_descriptors()
    );
    assert!(device.control.send(tsnic::control::channel::Command::Status));
    device.backend.serve_alone();
    let tsnic::control::channel::Answer::Status(status) = device.answer() else {
        panic!("no status")
    };
    assert_eq!((status.running, status.page), (false, None));
    assert_eq!(status.counters.connections, 201);
}

#[test]
fn frames_that_came_before_the_guest_did_never_came() {
    let device = Device::new();
    for tag in 0..5 {
        device.host.send(&frame(tag, 100));
    }
    let mut guest = Guest::start(&device, Options::default());
    device.host.send(&frame(9, 100));
    assert_eq!(guest.receive().frame, frame(9, 100));
    guest.leave();
}

#[test]
fn a_disabled_queue_waits() {
    use vhost::vhost_user::VhostUserFrontend as _;

    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    traffic(&device, &mut guest, 1);
    guest.frontend.set_vring_enable(1, false).unwrap();
    // Nothing answers that request, but it is carried out before the next.
    guest.frontend.get_features().unwrap();
    guest.tx.add(&[(crate::support::BUFFERS, 100, false)]);
    guest.tx.kick();
    sleep(A_WHILE);
    assert!(guest.tx.take().is_none());
    guest.frontend.set_vring_enable(1, true).unwrap();
    eventually("the chain is taken", || guest.tx.take());
    guest.leave();
}

#[test]
fn set_vring_base_says_where_a_ring_starts_whatever_was_there_before() {
    use vhost::vhost_user::VhostUserFrontend as _;

    // As user-mode Linux does it when its driver is loaded anew: it never says GET_VRING_BASE.
    for with_page in [false, true] {
        let device = Device::new();
        let mut guest = Guest::start(&device, Options::default());
        if with_page {
            guest.register();
        }
        for tag in 0..300 {
            traffic(&device, &mut guest, tag);
            guest.post(1, 2048);
        }
        for queue in [0, 1] {
            guest.frontend.set_vring_enable(queue, false).unwrap();
        }
        guest.frontend.get_features().unwrap();
        guest.reset_rings();
        guest.share_memory();
        // The worker is woken, and has served, between any two of the messages.
        let wake = || {
            device.status();
        };
        guest.start_queues_with(0, 0, wake, || ());
        // Its answer comes after the messages before it have been dealt with.
        guest.frontend.get_features().unwrap();
        guest.post(64, 2048);
        device.running();
        assert_eq!(device.status().page, None, "a page does not outlive its rings");
        traffic(&device, &mut guest, 301);
        guest.leave();
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/interface.md, "Registration".

use tsnic::control::channel::{Answer, Command, PathCommand};
use tsnic_abi::{MAGIC, QUEUE_PAGE_SIZE, RX_RECORDS, VERSION, caps, offset, record_flags};
use tsnic_core::policy::spec::PolicySpec;
use zerocopy::IntoBytes as _;

use crate::support::{AREA, BUFFERS, Device, Guest, Options, eventually, frame};

/// Where a header is that the guest posts by hand.
const HEADER: u64 = 0x19_0000;

#[test]
fn a_good_page_is_identified_then_returned_with_its_length() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        let header = guest.register();
        assert_eq!(guest.cell(offset::MAGIC), MAGIC);
        assert_eq!(guest.cell(offset::VERSION), u32::from(VERSION));
        assert_eq!(guest.cell(offset::GENERATION), header.generation.get());
        let all = caps::RX_TIMESTAMP
            | caps::TX_TIMESTAMP
            | caps::RENDEZVOUS
            | caps::MAILBOX
            | caps::CLOCK;
        assert_eq!(guest.cell(offset::CAPABILITIES), all);
        let status = device.status();
        assert_eq!(status.page, Some(header.generation.get()));
        assert!(status.running && !status.armed);
        guest.leave();
    }
}

#[test]
fn anything_wrong_is_returned_with_length_0_and_leaves_plain_virtio_net() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    let good = guest.registration_header();
    let whole = [(AREA, QUEUE_PAGE_SIZE)];
    let damaged = |byte: usize| {
        let mut header = good.as_bytes().to_vec();
        header[byte] ^= 0x40;
        header
    };
    let zero_generation = tsnic_abi::Registration { generation: 0.into(), ..good };
    let cases = [
        ("magic", damaged(0), whole.to_vec()),
        ("version", damaged(4), whole.to_vec()),
        ("pair", damaged(6), whole.to_vec()),
        ("generation", zero_generation.as_bytes().to_vec(), whole.to_vec()),
        ("page size", damaged(12), whole.to_vec()),
        ("rx records", damaged(16), whole.to_vec()),
        ("tx records", damaged(18), whole.to_vec()),
        ("reserved", damaged(39), whole.to_vec()),
        ("short header", good.as_bytes()[..39].to_vec(), whole.to_vec()),
        ("long header", [good.as_bytes(), &[0]].concat(), whole.to_vec()),
        ("short page", good.as_bytes().to_vec(), vec![(AREA, QUEUE_PAGE_SIZE - 1)]),
        ("long page", good.as_bytes().to_vec(), vec![(AREA, QUEUE_PAGE_SIZE + 1)]),
        (
            "page in two",
            good.as_bytes().to_vec(),
            vec![(AREA, QUEUE_PAGE_SIZE / 2), (AREA + 0x4000, QUEUE_PAGE_SIZE / 2)],
        ),
        ("misaligned page", good.as_bytes().to_vec(), vec![(AREA + 64, QUEUE_PAGE_SIZE)]),
        ("page beyond memory", good.as_bytes().to_vec(), vec![(1 << 40, QUEUE_PAGE_SIZE)]),
        (
            "page across the end of memory",
            good.as_bytes().to_vec(),
            vec![((8 << 20) - 0x1000, QUEUE_PAGE_SIZE)],
        ),
    ];
    for (number, (what, header, page)) in cases.iter().enumerate() {
        assert_eq!(guest.post_registration(header, page), 0, "{what}");
        assert_eq!(guest.cell(offset::GENERATION), 0, "{what}");
        let status = device.status();
        assert_eq!(
            (status.page, status.counters.registrations_refused),
            (None, number as u64 + 1),
            "{what}"
        );
    }
    assert_eq!(device.counter("queues_broken"), 0);
    device.host.send(&frame(1, 64));
    assert_eq!(guest.receive().frame, frame(1, 64));
    eventually("an interrupt by virtio's rules", || (guest.rx.interrupts() > 0).then_some(()));
    guest.register();
    guest.leave();
}

#[test]
fn a_ring_may_be_longer_than_the_record_array() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options { size: 1024, ..Options::default() });
    let header = guest.registration_header();
    assert_eq!(
        guest.post_registration(header.as_bytes(), &[(AREA, QUEUE_PAGE_SIZE)]),
        QUEUE_PAGE_SIZE
    );
    guest.leave();
}

#[test]
fn records_of_a_longer_ring_are_right_while_no_more_than_they_are_out() {
    let device = Device::new();
    let mut guest = Guest::start_with(
        &device,
        Options { size: 1024, ..Options::default() },
        RX_RECORDS.into(),
        2048,
    );
    guest.register();
    // All of them at a time, once more often than the ring is long: it wraps in between, and the
    // records at each round's end.
    for round in 1..=3 {
        for tag in 0..RX_RECORDS {
            device.host.send(&frame(tag.into(), 64));
        }
        let produced = u32::from(RX_RECORDS) * round;
        eventually("all have come", || (device.status().produced == produced).then_some(()));
        let numbers: Vec<_> = (0..RX_RECORDS).map(|_| guest.receive().number).collect();
        for number in numbers {
            let record = guest.rx_record(number);
            assert_eq!((record.number, record.flags), (number.0, record_flags::TIMESTAMP));
        }
        assert_eq!(guest.ci.0, produced);
        guest.post(RX_RECORDS.into(), 2048);
    }
    guest.leave();
}

#[test]
fn a_refused_page_is_not_written() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.write(AREA, &vec![0xaa; QUEUE_PAGE_SIZE as usize]);
    let header = guest.registration_header();
    assert_eq!(guest.post_registration(&header.as_bytes()[..39], &[(AREA, QUEUE_PAGE_SIZE)]), 0);
    device.host.send(&frame(1, 64));
    guest.receive();
    assert!(guest.read(AREA, QUEUE_PAGE_SIZE as usize).iter().all(|&byte| byte == 0xaa));
    guest.leave();
}

#[test]
fn each_completion_of_a_frame_has_its_record_with_the_frames_timestamp() {
    let device = Device::new();
    let mut guest =
        Guest::start_with(&device, Options { start: 0xfffe, ..Options::default() }, 20, 256);
    // The driver's counters go on where its rings are.
    guest.ci = tsnic_abi::Counter(0x1_fffe);
    guest.register();
    let mut latest = 0;
    for tag in 0..4 {
        device.host.send(&frame(tag, 600));
        let received = guest.receive();
        assert_eq!(received.header.num_buffers.get(), 3);
        let first = guest.rx_record(received.number);
        for part in 0..3 {
            let record = guest.rx_record(received.number.plus(part));
            assert_eq!(record.number, received.number.plus(part).0);
            assert_eq!(
                (record.timestamp_ns, record.flags),
                (first.timestamp_ns, record_flags::TIMESTAMP)
            );
        }
        assert!(first.timestamp_ns > latest);
        latest = first.timestamp_ns;
    }
    assert_eq!(device.status().produced, 0x1_fffe + 12);
    guest.leave();
}

#[test]
fn transmit_completions_have_records_and_the_registration_is_one_without_a_timestamp() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.send(tsnic::frame::NetHeader::default(), &frame(0, 64));
    guest.register();
    guest.send(tsnic::frame::NetHeader::default(), &frame(1, 64));
    let record = |number| {
        let at =
            AREA + tsnic_abi::completion_offset(offset::TX, tsnic_abi::TX_RECORDS, number) as u64;
        let bytes = guest.read(at, 16);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0) != 0, word(8), word(12))
    };
    assert_eq!(record(tsnic_abi::Counter(1)), (false, 1, 0));
    assert_eq!(record(tsnic_abi::Counter(2)), (true, 2, record_flags::TIMESTAMP));
    guest.leave();
}

#[test]
fn whoever_waits_at_a_rendezvous_is_let_go_at_a_register() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.set_cell(offset::ARRIVED, 77);
    guest.set_cell(offset::REQUESTED, 1);
    guest.register();
    assert_eq!((guest.cell(offset::RELEASED), guest.cell(offset::REQUESTED)), (77, 0));
    guest.leave();
}

#[test]
fn a_plain_frame_in_a_writable_descriptor_is_no_way_in() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.tx.add(&[(BUFFERS, 100, true)]);
    guest.tx.kick();
    let (_, len) = eventually("the chain comes back", || guest.tx.take());
    assert_eq!((len, device.counter("registrations_refused")), (0, 1));
    guest.leave();
}

#[test]
fn a_page_that_is_gone_at_once_takes_no_interrupt_with_it() {
    for options in Options::ring_variants() {
        let device = Device::new();
        let mut guest = Guest::start(&device, options);
        let hold = PolicySpec::FixedDelay { delay_us: 10_000_000 };
        let policies = PathCommand::Policies(1, [vec![hold], Vec::new()]);
        assert_eq!(device.ask(Command::Paths(policies)), Answer::Paths(None));
        guest.rx.interrupts();
        device.host.send(&frame(0, 64));
        eventually("it is held", || (device.counter("interrupts_held") == 1).then_some(()));
        let none = PathCommand::Policies(1, [Vec::new(), Vec::new()]);
        let header = guest.registration_header();
        guest.write(HEADER, header.as_bytes());
        // A good one and one whose header is too short, which the device finds together.
        for len in [header.as_bytes().len() as u32, 39] {
            guest.tx.add(&[(HEADER, len, false), (AREA, QUEUE_PAGE_SIZE, true)]);
        }
        guest.tx.kick();
        let lens = [(); 2].map(|()| eventually("an answer", || guest.tx.take()).1);
        assert_eq!(lens, [QUEUE_PAGE_SIZE, 0]);
        assert_eq!(device.counter("pages_forgotten"), 1);
        assert_eq!(device.ask(Command::Paths(none)), Answer::Paths(None));
        eventually("the interrupt", || (guest.rx.interrupts() > 0).then_some(()));
        guest.leave();
    }
}

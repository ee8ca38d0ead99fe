// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::collections::{BTreeSet, VecDeque};

use tsnic_core::policy::spec::Span;

use super::*;

/// A port whose frames are made beforehand, or have no end.
#[derive(Default)]
struct Made {
    frames: VecDeque<Frame>,
    endless: bool,
    sent: Vec<Frame>,
    refuses: bool,
    /// Where the bytes of what it was asked to fill were.
    buffers: BTreeSet<usize>,
}

impl Port for Made {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        if self.endless {
            frame.bytes.resize(60, 0);
            self.buffers.insert(frame.bytes.as_ptr() as usize);
            return true;
        }
        let Some(next) = self.frames.pop_front() else { return false };
        *frame = next;
        true
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        self.sent.push(Frame { header, bytes: frame.to_vec() });
        if self.refuses { Err(io::ErrorKind::NetworkDown.into()) } else { Ok(()) }
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

const ALL: u16 = 1000;

fn at_us(us: u64) -> Instant {
    Instant::from_ns(1_000_000 + us * 1000)
}

fn late(us: u32) -> PacketSpec {
    PacketSpec::Delay(Span { from_us: us, to_us: us })
}

fn wire(port: Made, specs: &[Vec<PacketSpec>; 2]) -> Wire<Made> {
    let mut wire = Wire::new(port);
    wire.set_policies(7, specs).expect("they can be");
    wire
}

/// A datagram with a checksum that is left open, and one whose checksum is known to be right.
fn datagrams() -> [Frame; 2] {
    let flow = crate::port::frames::tests::FLOW;
    let closed = crate::port::frames::udp(&flow, 1, 40);
    let mut open = closed.clone();
    open.header = NetHeader {
        flags: 1,
        csum_start: 34.into(),
        csum_offset: 6.into(),
        ..NetHeader::default()
    };
    // What the sender leaves there: the sum of the pseudo-header, which is not asked for here.
    open.bytes[40..42].fill(0);
    [open, closed]
}

#[test]
fn a_frame_with_a_flipped_bit_says_nothing_of_its_checksum() {
    for frame in datagrams() {
        let mut complete = frame.clone();
        complete.header.complete_checksum(&mut complete.bytes).expect("it is inside");
        let port = Made { frames: [frame.clone()].into(), ..Made::default() };
        let flip = || vec![PacketSpec::Corrupt { per_mille: ALL }];
        let mut wire = wire(port, &[flip(), flip()]);
        let mut received = Frame::default();
        assert!(wire.receive(at_us(0), &mut received));
        wire.send(at_us(0), frame.header, &frame.bytes).expect("it has entered the wire");
        for flipped in [&received, &wire.port.sent[0]] {
            assert_eq!(flipped.header, NetHeader::default());
            let differ = flipped.bytes.iter().zip(&complete.bytes);
            let bits: u32 = differ.map(|(one, other)| (one ^ other).count_ones()).sum();
            assert_eq!((bits, flipped.bytes.len()), (1, complete.bytes.len()));
        }
        assert_eq!(wire.take_tally().corrupted, 2);
    }
}

#[test]
fn a_flood_of_which_nothing_comes_through_does_not_keep_the_worker_for_ever() {
    let port = Made { endless: true, ..Made::default() };
    let mut wire = wire(port, &[vec![PacketSpec::Loss { per_mille: ALL }], vec![]]);
    assert!(!wire.receive(at_us(0), &mut Frame::default()));
    assert_eq!(wire.take_tally().dropped, u64::from(LOOKS));
    assert_eq!(wire.due(), Some(at_us(0).plus(LOOK_AGAIN)), "it is looked at again");
    wire.poll(at_us(1));
    assert_eq!(wire.due(), None, "not while nobody can receive");
    assert!(!wire.receive(at_us(1), &mut Frame::default()));
    wire.set_policies(7, &Default::default()).expect("none can be");
    assert!(wire.receive(at_us(2), &mut Frame::default()));
    assert_eq!(wire.due(), None);
}

#[test]
fn the_same_allocations_are_used_again() {
    let port = Made { endless: true, ..Made::default() };
    let duplicate = PacketSpec::Duplicate { per_mille: 300, copies: 2 };
    let mut wire = wire(port, &[vec![duplicate, late(50)], vec![late(50)]]);
    let mut frame = Frame::default();
    let mut received = 0;
    for us in 0..20_000 {
        // The port never runs out of frames.
        for _ in 0..2 {
            if wire.receive(at_us(us), &mut frame) {
                received += 1;
                wire.send(at_us(us), frame.header, &frame.bytes).expect("it has entered the wire");
            }
        }
    }
    assert!(wire.port.buffers.len() <= 2 * HELD_MAX + 8, "{}", wire.port.buffers.len());
    assert!(wire.spare.0.len() <= 2 * HELD_MAX);
    assert!(received > 20_000, "{received}");
}

#[test]
fn what_the_port_refuses_at_the_end_of_the_wire_is_counted() {
    let mut wire = wire(Made { refuses: true, ..Made::default() }, &[vec![], vec![late(9)]]);
    wire.send(at_us(0), NetHeader::default(), &[1; 60]).expect("it has entered the wire");
    assert_eq!((wire.send_due(at_us(0)), wire.take_refused()), (Some(at_us(9)), 0));
    assert_eq!((wire.send_due(at_us(9)), wire.take_refused()), (None, 1));
}

#[test]
fn a_direction_without_policies_is_as_if_it_were_not_there() {
    let port = Made { frames: [Frame::default()].into(), refuses: true, ..Made::default() };
    let mut wire = wire(port, &[vec![], vec![]]);
    assert!(wire.send(at_us(0), NetHeader::default(), &[1; 60]).is_err());
    assert!(wire.receive(at_us(0), &mut Frame::default()));
    assert_eq!((wire.take_tally(), wire.take_refused()), (Tally::default(), 0));
    assert_eq!((wire.due(), wire.send_due(at_us(0)), wire.status()), (None, None, None));
    assert!(wire.spare.0.is_empty());
}

#[test]
fn policies_that_cannot_be_leave_both_directions_as_they_were() {
    let mut wire = wire(Made::default(), &[vec![late(1)], vec![late(2)]]);
    let before = wire.status();
    for specs in [[vec![late(0)], vec![]], [vec![], vec![late(0)]]] {
        wire.set_policies(1, &specs).expect_err("they cannot");
        assert_eq!(wire.status(), before);
    }
}

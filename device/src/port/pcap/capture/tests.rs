// SPDX-License-Identifier: Apache-2.0 OR MIT

use pcap_file::Endianness;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
use proptest::prelude::*;

use super::*;

fn frame(tag: u8) -> Vec<u8> {
    vec![tag; 60 + usize::from(tag)]
}

fn us(us: u64) -> Duration {
    Duration::from_secs(1_700_000_000) + Duration::from_micros(us)
}

/// A pcap file of these frames, with the times at which they were captured.
pub(in crate::port::pcap) fn pcap(frames: &[(Duration, Vec<u8>)]) -> Vec<u8> {
    pcap_as(frames, PcapHeader { snaplen: 262_144, ..PcapHeader::default() })
}

fn pcap_as(frames: &[(Duration, Vec<u8>)], header: PcapHeader) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (time, frame) in frames {
        writer.write_packet(&PcapPacket::new(*time, frame.len() as u32, frame)).unwrap();
    }
    writer.into_writer()
}

/// A pcapng file whose interface has this resolution; times in its ticks.
fn pcapng(frames: &[(u64, Vec<u8>)], resolution: Option<u8>, linktype: DataLink) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let options = resolution.map(InterfaceDescriptionOption::IfTsResol).into_iter().collect();
    let interface = InterfaceDescriptionBlock { linktype, snaplen: 0, options };
    writer.write_pcapng_block(interface).unwrap();
    for (ticks, frame) in frames {
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(*ticks),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: Vec::new(),
        };
        writer.write_pcapng_block(packet).unwrap();
    }
    writer.into_inner()
}

fn times(capture: &Capture) -> Vec<u64> {
    (0..capture.len()).map(|frame| capture.at(frame).as_nanos() as u64).collect()
}

#[test]
fn frames_and_times_are_those_of_the_file() {
    let frames = [(us(0), frame(1)), (us(1_500), frame(2)), (us(1_501), frame(3))];
    for endianness in [Endianness::Little, Endianness::Big] {
        let file = pcap_as(&frames, PcapHeader { endianness, ..PcapHeader::default() });
        let capture = Capture::parse(&file).unwrap();
        assert_eq!(times(&capture), [0, 1_500_000, 1_501_000]);
        for (number, (_, frame)) in frames.iter().enumerate() {
            assert_eq!(capture.bytes(number), frame);
        }
        assert_eq!((capture.cut(), capture.period()), (0, Duration::from_nanos(2_251_500)));
    }
}

#[test]
fn nanoseconds_are_kept() {
    let header = PcapHeader { ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
    let at = us(0) + Duration::from_nanos(7);
    let file = pcap_as(&[(us(0), frame(1)), (at, frame(2))], header);
    assert_eq!(times(&Capture::parse(&file).unwrap()), [0, 7]);
}

#[test]
fn a_pcapng_interface_says_what_its_ticks_are() {
    for (resolution, ticks, expected) in [
        (None, 3_000, 3_000_000),
        (Some(6), 3_000, 3_000_000),
        (Some(9), 3_000, 3_000),
        (Some(3), 3_000, 3_000_000_000),
        (Some(0x8a), 512, 500_000_000),
    ] {
        let file = pcapng(&[(0, frame(1)), (ticks, frame(2))], resolution, DataLink::ETHERNET);
        let capture = Capture::parse(&file).unwrap();
        assert_eq!(times(&capture), [0, expected], "{resolution:?}");
        assert_eq!(capture.bytes(1), frame(2));
    }
}

#[test]
fn time_does_not_go_back() {
    let frames = [(us(50), frame(1)), (us(20), frame(2)), (us(60), frame(3)), (us(55), frame(4))];
    assert_eq!(times(&Capture::parse(&pcap(&frames)).unwrap()), [0, 0, 10_000, 10_000]);
}

#[test]
fn a_frame_of_which_only_the_beginning_was_captured_is_counted() {
    let mut file = pcap(&[(us(0), frame(1)), (us(1), frame(2))]);
    // The original length of the first packet, and a shorter limit of the capture: the crate writes
    // big-endian files.
    file[16..20].copy_from_slice(&64u32.to_be_bytes());
    file[24 + 12..24 + 16].copy_from_slice(&1500u32.to_be_bytes());
    let capture = Capture::parse(&file).unwrap();
    assert_eq!((capture.len(), capture.cut()), (2, 1));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let two = [(us(0), frame(1)), (us(1), frame(2))];
    let ethernet = pcap(&two);
    let radio = PcapHeader { datalink: DataLink::IEEE802_11, ..PcapHeader::default() };
    let mut simple = pcapng(&[], None, DataLink::ETHERNET);
    let block = SimplePacketBlock { original_len: 60, data: frame(0).into() };
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    writer.write_pcapng_block(block).unwrap();
    simple.extend(&writer.into_inner()[28..]);
    let second = 24 + 16 + frame(1).len();
    for (file, offset, expected) in [
        (Vec::new(), 0, "the file ends in the middle of its header"),
        (vec![0x55; 60], 0, "its header is wrong"),
        (ethernet[..20].to_vec(), 0, "the file ends in the middle of its header"),
        (ethernet[..24].to_vec(), 24, "there are no packets in it"),
        (ethernet[..30].to_vec(), 24, "the file ends in the middle of what follows packet 0"),
        (
            ethernet[..ethernet.len() - 1].to_vec(),
            second,
            "the file ends in the middle of what follows packet 1",
        ),
        (pcap_as(&two, radio), 0, "link type 105"),
        (pcap(&[(us(0), vec![0; 13])]), 24, "packet 1 has 13 bytes"),
        (pcap(&[(us(0), vec![0; 65_554])]), 24, "packet 1 has 65554 bytes"),
        (pcapng(&[(0, frame(1))], None, DataLink::RAW), 48, "link type 101"),
        (simple, 48, "packet 1 has no timestamp"),
    ] {
        let (place, problem) = Capture::parse(&file).expect_err(expected);
        assert!(problem.to_string().contains(expected), "{problem}, not {expected}");
        assert_eq!(place, offset, "{problem}");
    }
}

proptest! {
    #[test]
    fn no_file_breaks_it(
        kind in 0usize..2,
        changes in proptest::collection::vec((0usize..300, any::<u8>()), 0..6),
        cut in 0usize..300,
    ) {
        let mut file = match kind {
            0 => pcap(&[(us(0), frame(1)), (us(9), frame(2))]),
            _ => pcapng(&[(0, frame(1)), (9, frame(2))], Some(9), DataLink::ETHERNET),
        };
        for (place, byte) in changes {
            if let Some(it) = file.get_mut(place) {
                *it = byte;
            }
        }
        file.truncate(file.len().saturating_sub(cut));
        if let Ok(capture) = Capture::parse(&file) {
            for frame in 0..capture.len() {
                prop_assert!(capture.bytes(frame).len() >= MIN_FRAME_LEN);
                prop_assert!(frame == 0 || capture.at(frame) >= capture.at(frame - 1));
            }
        }
    }
}

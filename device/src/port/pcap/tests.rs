// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::time::Duration;

use super::capture::tests::pcap;
use super::*;

fn capture() -> Capture {
    let frame = |us: u64, tag: u8| (Duration::from_micros(us), vec![tag; 60]);
    Capture::parse(&pcap(&[frame(5, 1), frame(105, 2), frame(205, 3)])).unwrap()
}

fn at_us(us: u64) -> Instant {
    Instant::from_ns(1_000_000_000 + us * 1000)
}

/// When frames come, microseconds, and which.
fn replayed(speed: Speed, repeat: Option<u32>, most: usize) -> Vec<(u64, u8)> {
    let mut port = Pcap::new(capture(), speed, repeat);
    let (mut frame, mut now, mut seen) = (Frame::default(), at_us(0), Vec::new());
    while seen.len() < most {
        if port.receive(now, &mut frame) {
            seen.push((now.since(at_us(0)).as_micros() as u64, frame.bytes[0]));
        } else {
            let Some(due) = port.due() else { break };
            now = due;
        }
    }
    seen
}

#[test]
fn frames_come_at_their_times() {
    assert_eq!(replayed(Speed::Times(1), Some(1), 9), [(0, 1), (100, 2), (200, 3)]);
    assert_eq!(replayed(Speed::Times(10), Some(1), 9), [(0, 1), (10, 2), (20, 3)]);
    assert_eq!(replayed(Speed::Max, Some(1), 9), [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn a_repetition_follows_after_a_gap_like_the_others() {
    let twice = replayed(Speed::Times(1), Some(2), 9);
    assert_eq!(twice, [(0, 1), (100, 2), (200, 3), (300, 1), (400, 2), (500, 3)]);
    assert_eq!(replayed(Speed::Times(1), None, 50).len(), 50);
    assert_eq!(replayed(Speed::Max, Some(2), 9).len(), 6);
}

#[test]
fn the_first_frame_waits_and_later_ones_do_not() {
    let mut port = Pcap::new(capture(), Speed::Times(1), Some(1));
    assert!(port.waits() && !port.gathers());
    assert!(port.receive(at_us(70), &mut Frame::default()));
    assert!(!port.waits());
    assert_eq!(port.due(), Some(at_us(170)));
    let port = Pcap::new(capture(), Speed::Max, Some(1));
    assert!(port.waits() && !port.gathers());
}

#[test]
fn settings_are_read_and_wrong_ones_named() {
    let config: PcapConfig = "dir/a.pcap,speed=5,repeat=forever".parse().unwrap();
    let expected = PcapConfig { file: "dir/a.pcap".into(), speed: Speed::Times(5), repeat: None };
    assert_eq!(config, expected);
    assert_eq!("a,speed=max,repeat=3".parse::<PcapConfig>().unwrap().repeat, Some(3));
    for (text, expected) in [
        ("", "the name of a capture file"),
        ("a,speed=0", "max, or 1 to 1000000 times as fast"),
        ("a,speed=+3", "max, or 1 to 1000000 times as fast"),
        ("a,repeat=0", "forever, or 1 time or more"),
        ("a,loop", "one of speed=TIMES, speed=max, repeat=TIMES and repeat=forever"),
    ] {
        assert_eq!(text.parse::<PcapConfig>().unwrap_err().expected, expected, "{text}");
    }
}

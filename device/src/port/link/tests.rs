// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_ns(1_000_000_000 + ms * 1_000_000)
}

fn frame(tag: u8) -> Vec<u8> {
    vec![tag; 60 + usize::from(tag)]
}

fn send(link: &mut Link, tag: u8) -> io::Result<()> {
    link.send(at(0), NetHeader::checked(), &frame(tag))
}

/// The frames that have come.
fn received(link: &mut Link) -> Vec<Vec<u8>> {
    let (mut next, mut frames) = (Frame::default(), Vec::new());
    link.readable();
    while link.receive(at(0), &mut next) {
        assert!(next.header.data_valid());
        frames.push(next.bytes.clone());
    }
    frames
}

fn ends() -> (tempfile::TempDir, PathBuf, Link, Link) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let (mut first, second) = (Link::open(&path, 0).unwrap(), Link::open(&path, 0).unwrap());
    assert!(first.detached().unwrap().starts_with("no other device has connected"));
    first.poll(at(0));
    assert_eq!((first.detached(), second.detached()), (None, None));
    (directory, path, first, second)
}

#[test]
fn frames_go_both_ways_whole_and_in_order() {
    let (_directory, _, mut first, mut second) = ends();
    for tag in 0..200 {
        send(&mut first, tag).unwrap();
        send(&mut second, 200 - tag).unwrap();
    }
    assert_eq!(received(&mut second), (0..200).map(frame).collect::<Vec<_>>());
    assert_eq!(received(&mut first), (1..=200).rev().map(frame).collect::<Vec<_>>());
    let longest = vec![7; MAX_FRAME_LEN];
    first.send(at(0), NetHeader::checked(), &longest).unwrap();
    assert_eq!(received(&mut second), [longest]);
}

#[test]
fn either_end_may_leave_and_come_back() {
    let (_directory, path, mut first, second) = ends();
    drop(second);
    assert!(received(&mut first).is_empty());
    assert!(first.detached().unwrap().ends_with("has left"), "{:?}", first.detached());
    assert!(send(&mut first, 1).is_err());
    let mut second = Link::open(&path, 0).unwrap();
    // The frame that waits, and who sent it.
    send(&mut second, 2).unwrap();
    assert_eq!(received(&mut first), [frame(2)]);
    assert_eq!(first.detached(), None);

    drop(first);
    assert!(send(&mut second, 3).is_err());
    assert!(second.detached().is_some() && second.due() == Some(Instant::default()));
    second.poll(at(0));
    assert!(second.detached().unwrap().contains("os error"), "{:?}", second.detached());
    let mut first = Link::open(&path, 0).unwrap();
    // Not before its time.
    second.poll(at(100));
    assert!(second.detached().is_some());
    second.poll(at(200));
    assert_eq!((second.detached(), second.due()), (None, None));
    send(&mut second, 4).unwrap();
    assert_eq!(received(&mut first), [frame(4)]);
}

#[test]
fn a_third_device_is_hung_up_on() {
    let (_directory, path, mut first, mut second) = ends();
    let mut third = Link::open(&path, 0).unwrap();
    send(&mut second, 1).unwrap();
    assert_eq!(received(&mut first), [frame(1)]);
    assert!(received(&mut third).is_empty());
    assert!(third.detached().unwrap().ends_with("has left"));
}

#[test]
fn what_is_no_frame_is_passed_over() {
    let (_directory, _, mut first, mut second) = ends();
    for len in [1, HEADER_LEN, HEADER_LEN + MIN_FRAME_LEN - 1] {
        second.peer.as_mut().unwrap().write_all(&vec![1; len]).unwrap();
    }
    send(&mut second, 9).unwrap();
    assert_eq!(received(&mut first), [frame(9)]);
}

#[test]
fn a_device_that_takes_nothing_costs_frames_and_no_more() {
    let (_directory, _, mut first, mut second) = ends();
    let sent = (0..100_000).take_while(|_| send(&mut first, 5).is_ok()).count();
    assert!((100..100_000).contains(&sent), "{sent} frames fit");
    assert_eq!(first.detached(), None);
    assert_eq!(received(&mut second).len(), sent);
}

#[test]
fn something_else_in_its_place_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    let _stream = ListeningSocket::bind(&path).unwrap();
    assert!(matches!(Link::open(&path, 0), Err(LinkError::Connect { .. })));
    let path = directory.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let error = Link::open(&path, 0).unwrap_err();
    assert!(matches!(error, LinkError::Socket(SocketError::NoSocket { .. })), "{error}");
    let long = directory.path().join("x".repeat(120));
    assert!(Link::open(&long, 0).is_err());
}

#[test]
fn each_pair_has_a_cable_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let [mut one, mut two] = [0, 0].map(|_| [0, 1].map(|pair| Link::open(&path, pair).unwrap()));
    for tag in 0..2 {
        send(&mut two[usize::from(tag)], tag).unwrap();
    }
    for tag in 0..2 {
        assert_eq!(received(&mut one[usize::from(tag)]), [frame(tag)]);
    }
}

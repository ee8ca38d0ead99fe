// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::frames::STALE_MAX;
use super::*;
use crate::clock::HostClock;
use crate::control::channel::control_channel;
use crate::frame::NetHeader;
use crate::log_limit;
use crate::net::queue_page::Refusal;
use crate::net::ring::RingError;
use tsnic_core::arming::Interrupts;

/// A port on which somebody sends faster than anybody can read.
struct Flood;

impl Port for Flood {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        frame.bytes.resize(60, 0);
        true
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, _frame: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_active(&mut self, _active: bool) -> io::Result<()> {
        Err(io::Error::other("on purpose"))
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

fn pair() -> Pair<Flood, HostClock> {
    let mut pair = Pair::new(
        0,
        Flood,
        HostClock::default(),
        control_channel().unwrap().1,
        &InterruptConfig::default(),
    );
    pair.held = HeldFrames { frames: vec![Frame::default(); 3].into(), request: true };
    pair
}

#[test]
fn a_flood_of_stale_frames_does_not_keep_the_worker_for_ever() {
    let mut pair = pair();
    pair.discard_stale_frames();
    assert_eq!(pair.counters.rx_not_running, 3 + u64::from(STALE_MAX));
    assert!(pair.held.frames.is_empty() && !pair.held.request);
}

/// Where lines of the log go, each in one write: only their number matters.
#[derive(Clone, Default)]
struct LineCount(Arc<AtomicUsize>);

impl io::Write for LineCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.ends_with(b"\n"));
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_guest_cannot_fill_the_log() {
    let lines = LineCount::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let mut pair = pair();
    // One with a queue of the port to itself.
    pair.number = 1;
    let memory = GuestMemoryMmap::new();
    let view = GuestView::new(&memory);
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..1000 {
            pair.broken(&view, RX, &RingError::NoReceiveBuffer { head: 0 });
            pair.refused(&view, &Refusal::Platform);
            let irq =
                RxIrq::new(Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0)));
            pair.use_page(PageState {
                told: [0; 2],
                address: 0,
                generation: 1,
                tx_completed: Counter(0),
                requested: 0,
                command: 0,
                irq,
            });
            pair.forget_page(Some(&view), "a test");
            pair.set_port_active(true);
            pair.set_port_active(false);
        }
    });
    // Five kinds of lines, and perhaps an interval that ends while this runs.
    let lines = lines.0.load(Ordering::Relaxed);
    let burst = 5 * log_limit::BURST as usize;
    assert!((burst..=burst + 5).contains(&lines), "{lines} lines");
    let Counters { queues_broken, registrations_refused, registrations, pages_forgotten, .. } =
        pair.counters;
    assert_eq!([queues_broken, registrations_refused, registrations, pages_forgotten], [1000; 4]);
}

#[test]
fn frames_held_back_for_a_guest_are_not_for_the_next() {
    let mut pair = pair();
    pair.disconnected(&GuestMemoryMmap::new());
    assert_eq!(pair.counters.rx_not_running, 3);
    assert!(pair.held.frames.is_empty() && !pair.held.request);
}

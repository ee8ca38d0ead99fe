// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the worker is generic over, and its interrupt lines: all of it without a system call.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tsnic::clock::Clock;
use tsnic::frame::{Frame, NetHeader};
use tsnic::net::pair::{Lines, RX};
use tsnic::port::Port;
use tsnic_core::nic_clock::{Adjustment, OutOfRange};
use tsnic_core::time::{Instant, NicTime, Now};

/// NIC time is so much ahead of timer time: whoever takes the one for the other is found out.
const NIC_AHEAD_NS: u64 = 1 << 50;

/// NIC time at an instant of timer time.
pub fn stamp(at: Instant) -> NicTime {
    NicTime::from_ns(at.as_ns() + NIC_AHEAD_NS)
}

/// A clock that stands still until it is set.
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    pub fn set(&self, now: Instant) {
        self.0.store(now.as_ns(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        let timer = Instant::from_ns(self.0.load(Ordering::Relaxed));
        Now { timer, nic: stamp(timer) }
    }

    fn rate(&self) -> i64 {
        0
    }

    fn adjust(&self, _adjustment: Adjustment) -> Result<(), OutOfRange> {
        Err(OutOfRange)
    }
}

/// A port whose frames wait until they are read, unless it is told otherwise.
#[derive(Default)]
pub struct Waiting {
    pub frames: Mutex<VecDeque<Frame>>,
    /// Frames it was given.
    pub sent: Vec<Frame>,
    /// Frames read.
    pub read: u64,
    /// Frames are lost when the guest has no buffers.
    pub loses: AtomicBool,
    /// No frame is taken.
    pub refuses: AtomicBool,
    /// It is not there.
    pub detached: AtomicBool,
}

impl Port for Waiting {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        let Some(next) = self.frames.lock().unwrap().pop_front() else { return false };
        *frame = next;
        self.read += 1;
        true
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        !self.loses.load(Ordering::Relaxed)
    }

    fn detached(&self) -> Option<&str> {
        self.detached.load(Ordering::Relaxed).then_some("It is not there")
    }

    fn send(&mut self, _now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            Err(io::ErrorKind::NetworkDown.into())
        } else {
            self.sent.push(Frame { header, bytes: frame.to_vec() });
            Ok(())
        }
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is raised on the receive line.
#[derive(Default)]
pub struct CountedLines(Cell<u32>);

impl CountedLines {
    /// Receive interrupts since the last call.
    pub fn take(&self) -> u32 {
        self.0.take()
    }
}

impl Lines for CountedLines {
    fn raise(&self, queue: usize) {
        if queue == RX {
            self.0.set(self.0.get() + 1);
        }
    }
}

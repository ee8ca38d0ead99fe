// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A port that replays a capture to the guest, each frame at its time. What the guest sends is
//! dropped.

mod capture;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tracing::warn;
use tsnic_core::time::Instant;

pub use capture::{Capture, CaptureError, Part, Problem};

use super::Port;
use crate::frame::{Frame, NetHeader};

#[cfg(test)]
mod tests;

/// Most times that a capture can be replayed faster than it was captured.
const SPEED_MAX: u32 = 1_000_000;

/// What is replayed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcapConfig {
    /// The capture.
    pub file: PathBuf,
    /// How fast.
    pub speed: Speed,
    /// How often, at least once; `None`: without end.
    pub repeat: Option<u32>,
}

/// How fast frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// So many times as fast as they were captured. Those that the guest has no buffers for are
    /// lost.
    Times(u32),
    /// As fast as the guest takes them: each waits for its buffers.
    Max,
}

/// A setting that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Replay setting {setting:?} is not {expected}")]
pub struct SettingError {
    /// As written.
    setting: String,
    /// What it may be.
    expected: &'static str,
}

impl FromStr for PcapConfig {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let mut parts = text.split(',');
        let file = parts.next().unwrap_or_default();
        if file.is_empty() {
            let expected = "the name of a capture file";
            return Err(SettingError { setting: text.into(), expected });
        }
        let mut config = Self { file: file.into(), speed: Speed::Times(1), repeat: Some(1) };
        for setting in parts {
            config
                .set(setting)
                .map_err(|expected| SettingError { setting: setting.into(), expected })?;
        }
        Ok(config)
    }
}

impl PcapConfig {
    fn set(&mut self, setting: &str) -> Result<(), &'static str> {
        let number = |value: &str, max: u32| {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            value.parse().ok().filter(|number| digits && (1..=max).contains(number))
        };
        match setting.split_once('=') {
            Some(("speed", "max")) => self.speed = Speed::Max,
            Some(("speed", value)) => {
                let times = number(value, SPEED_MAX);
                self.speed = Speed::Times(times.ok_or("max, or 1 to 1000000 times as fast")?);
            }
            Some(("repeat", "forever")) => self.repeat = None,
            Some(("repeat", value)) => {
                let times = number(value, u32::MAX);
                self.repeat = Some(times.ok_or("forever, or 1 time or more")?);
            }
            _ => return Err("one of speed=TIMES, speed=max, repeat=TIMES and repeat=forever"),
        }
        Ok(())
    }
}

/// The port. Its first frame waits for the guest's first buffer; time runs from there.
#[derive(Debug)]
pub struct Pcap {
    capture: Capture,
    speed: Speed,
    /// Repetitions still to come after this one; `None`: without end.
    repeats: Option<u32>,
    /// When this repetition began.
    start: Option<Instant>,
    /// The next frame. Behind the last one when there is none any more.
    next: usize,
}

impl Pcap {
    /// Reads the whole file.
    ///
    /// # Errors
    /// When it cannot be read, or not be replayed.
    pub fn open(config: &PcapConfig) -> Result<Self, CaptureError> {
        let capture = Capture::read(&config.file)?;
        if capture.cut() != 0 {
            let (cut, frames) = (capture.cut(), capture.len());
            warn!(
                "{}: only the beginning of {cut} of {frames} frames was captured, and is sent",
                config.file.display()
            );
        }
        Ok(Self::new(capture, config.speed, config.repeat))
    }

    fn new(capture: Capture, speed: Speed, repeat: Option<u32>) -> Self {
        let repeats = repeat.map(|times| times.saturating_sub(1));
        Self { capture, speed, repeats, start: None, next: 0 }
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next < self.capture.len() || self.repeats == Some(0) {
            return;
        }
        self.repeats = self.repeats.map(|repeats| repeats - 1);
        self.next = 0;
        if let Speed::Times(times) = self.speed {
            self.start = self.start.map(|start| start.plus(self.capture.period() / times));
        }
    }
}

impl Port for Pcap {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, now: Instant, frame: &mut Frame) -> bool {
        if self.due().is_none_or(|due| now < due) {
            return false;
        }
        self.start.get_or_insert(now);
        frame.header = NetHeader::default();
        frame.bytes.clear();
        frame.bytes.extend_from_slice(self.capture.bytes(self.next));
        self.advance();
        true
    }

    fn due(&self) -> Option<Instant> {
        let (next, speed) = (self.next, self.speed);
        (next < self.capture.len()).then(|| match (speed, self.start) {
            (Speed::Times(times), Some(start)) => start.plus(self.capture.at(next) / times),
            _ => Instant::default(),
        })
    }

    fn waits(&self) -> bool {
        self.speed == Speed::Max || self.start.is_none()
    }

    fn gathers(&self) -> bool {
        false
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, _frame: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

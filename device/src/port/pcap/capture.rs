// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A capture file (pcap or pcapng), read and checked as a whole: what is wrong with it is said at
//! the start, not in the middle of a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::Block;
use pcap_file::pcapng::PcapNgParser;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError, TsResolution};
use thiserror::Error;

use crate::frame::{MAX_FRAME_LEN, MIN_FRAME_LEN};

#[cfg(test)]
pub(super) mod tests;

/// First bytes of a pcapng file: the type of its first block, which reads the same in both byte
/// orders.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Ticks of a timestamp in a second, where a pcapng interface does not say it.
const TICKS_DEFAULT: u64 = 1_000_000;

/// Why a capture cannot be replayed.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file.
    #[error("Cannot read the capture {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error("Capture {}, byte {offset}: {problem}", .path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: usize,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What is wrong in a capture.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// It ends too early.
    #[error("the file ends in the middle of {0}")]
    CutOff(Part),
    /// It is not what such a file has.
    #[error("{part} is wrong: {why}")]
    Wrong {
        /// What.
        part: Part,
        /// Why, as the parser says it.
        why: String,
    },
    /// Frames of something else.
    #[error("its packets are of link type {0}, and Ethernet (1) is needed")]
    LinkType(u32),
    /// A packet of an interface that the file does not describe.
    #[error("packet {0} is of interface {1}, which the file does not describe")]
    Interface(usize, u32),
    /// A packet without a timestamp.
    #[error("packet {0} has no timestamp (a Simple Packet Block)")]
    NoTime(usize),
    /// A frame that cannot be.
    #[error("packet {number} has {len} bytes: a frame has {MIN_FRAME_LEN} to {MAX_FRAME_LEN}")]
    Length {
        /// Which, from 1.
        number: usize,
        /// Its length.
        len: usize,
    },
    /// Nothing to replay.
    #[error("there are no packets in it")]
    Empty,
}

/// A part of a capture file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Part {
    /// Its head.
    #[error("its header")]
    Header,
    /// What follows packet number so many (pcapng: a block of any kind).
    #[error("what follows packet {0}")]
    After(usize),
}

/// What a capture has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    frames: Vec<Captured>,
    /// All frames, one behind the other.
    bytes: Vec<u8>,
    /// Frames of which the capture has only the beginning.
    cut: usize,
}

/// A frame of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Captured {
    /// From the first one.
    at: Duration,
    /// Where it begins.
    start: usize,
}

type Result<T> = std::result::Result<T, (usize, Problem)>;

impl Capture {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no capture, has other frames than Ethernet's or none.
    pub fn read(path: &Path) -> std::result::Result<Self, CaptureError> {
        let file = fs::read(path)
            .map_err(|source| CaptureError::Read { path: path.to_owned(), source })?;
        Self::parse(&file).map_err(|(offset, problem)| CaptureError::Wrong {
            path: path.to_owned(),
            offset,
            problem,
        })
    }

    /// What is in these bytes of a file; in an error, where.
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        let mut builder = Builder::default();
        if file.starts_with(&PCAPNG) {
            builder.pcapng(file)?;
        } else {
            builder.pcap(file)?;
        }
        builder.finish(file.len())
    }

    /// How many frames.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never: a capture without frames is an error.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames of which it has only the beginning.
    #[must_use]
    pub const fn cut(&self) -> usize {
        self.cut
    }

    /// When a frame was captured, from the first one.
    #[must_use]
    pub fn at(&self, frame: usize) -> Duration {
        self.frames.get(frame).map_or(Duration::ZERO, |it| it.at)
    }

    /// The bytes of a frame.
    #[must_use]
    pub fn bytes(&self, frame: usize) -> &[u8] {
        let start = |frame: usize| self.frames.get(frame).map_or(self.bytes.len(), |it| it.start);
        &self.bytes[start(frame)..start(frame + 1)]
    }

    /// From the first frame to the first one of a repetition: as much after the last one as there
    /// is between two on average, and at least a microsecond.
    #[must_use]
    pub fn period(&self) -> Duration {
        let last = self.at(self.len().saturating_sub(1));
        let gaps = u32::try_from(self.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        last + (last / gaps).max(Duration::from_micros(1))
    }
}

#[derive(Default)]
struct Builder {
    capture: Capture,
    /// The time of the first frame.
    first: Option<Duration>,
}

/// A parser's error, about a part that begins here.
fn wrong(offset: usize, part: Part, error: &PcapError) -> (usize, Problem) {
    let problem = match error {
        PcapError::IncompleteBuffer => Problem::CutOff(part),
        other => Problem::Wrong { part, why: other.to_string() },
    };
    (offset, problem)
}

fn ethernet(offset: usize, link: DataLink) -> Result<()> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err((offset, Problem::LinkType(other.into()))),
    }
}

impl Builder {
    /// By raw packets: the crate (pcap-file 2.0) refuses those of which the capture has only the
    /// beginning.
    fn pcap(&mut self, file: &[u8]) -> Result<()> {
        let (mut rest, parser) =
            PcapParser::new(file).map_err(|error| wrong(0, Part::Header, &error))?;
        let header = parser.header();
        ethernet(0, header.datalink)?;
        let unit = match header.ts_resolution {
            TsResolution::MicroSecond => 1_000,
            TsResolution::NanoSecond => 1,
        };
        while !rest.is_empty() {
            let offset = file.len() - rest.len();
            let part = Part::After(self.capture.len());
            let (after, packet) =
                parser.next_raw_packet(rest).map_err(|error| wrong(offset, part, &error))?;
            let fraction = Duration::from_nanos(u64::from(packet.ts_frac) * unit);
            let time = Duration::from_secs(packet.ts_sec.into()) + fraction;
            self.frame(offset, time, &packet.data, packet.orig_len)?;
            rest = after;
        }
        Ok(())
    }

    fn pcapng(&mut self, file: &[u8]) -> Result<()> {
        let (mut rest, mut parser) =
            PcapNgParser::new(file).map_err(|error| wrong(0, Part::Header, &error))?;
        while !rest.is_empty() {
            let offset = file.len() - rest.len();
            let part = Part::After(self.capture.len());
            let (after, block) =
                parser.next_block(rest).map_err(|error| wrong(offset, part, &error))?;
            let number = self.capture.len() + 1;
            match block {
                Block::EnhancedPacket(packet) => {
                    let Some(interface) = parser.packet_interface(&packet) else {
                        return Err((offset, Problem::Interface(number, packet.interface_id)));
                    };
                    ethernet(offset, interface.linktype)?;
                    // The crate (pcap-file 2.0) takes the ticks for nanoseconds, whatever they are.
                    let ticks = packet.timestamp.as_nanos();
                    let time = time(ticks, ticks_in_a_second(interface));
                    self.frame(offset, time, &packet.data, packet.original_len)?;
                }
                Block::SimplePacket(_) | Block::Packet(_) => {
                    return Err((offset, Problem::NoTime(number)));
                }
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }

    fn frame(&mut self, offset: usize, time: Duration, data: &[u8], original: u32) -> Result<()> {
        let Capture { frames, bytes, cut } = &mut self.capture;
        let (number, len) = (frames.len() + 1, data.len());
        if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err((offset, Problem::Length { number, len }));
        }
        let first = *self.first.get_or_insert(time);
        // Several interfaces, or a clock that was set: time does not go back.
        let latest = frames.last().map_or(Duration::ZERO, |it| it.at);
        let at = time.saturating_sub(first).max(latest);
        frames.push(Captured { at, start: bytes.len() });
        bytes.extend_from_slice(data);
        *cut += usize::from(original as usize > len);
        Ok(())
    }

    fn finish(self, len: usize) -> Result<Capture> {
        if self.capture.is_empty() { Err((len, Problem::Empty)) } else { Ok(self.capture) }
    }
}

/// Option `if_tsresol`: a power of ten or, with the highest bit, of two. A resolution that no clock
/// has counts as the default.
fn ticks_in_a_second(interface: &InterfaceDescriptionBlock<'_>) -> u64 {
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let Some(resolution) = resolution else { return TICKS_DEFAULT };
    let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow((resolution & 0x7f).into()).unwrap_or(TICKS_DEFAULT)
}

fn time(ticks: u128, in_a_second: u64) -> Duration {
    let nanoseconds = ticks * 1_000_000_000 / u128::from(in_a_second);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

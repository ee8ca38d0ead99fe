// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ports: where the frames of a queue pair come from and go to.

pub mod frames;
pub mod generator;
pub mod link;
pub mod null;
pub mod pcap;
pub mod reflect;
pub mod request;
pub mod tap;
pub mod wire;

use std::fmt;
use std::io;
use std::iter;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tsnic_core::time::Instant;

use crate::frame::{Frame, NetHeader};

/// Where the frames of a queue pair come from and go to. All methods are called by the pair's
/// worker and none blocks.
pub trait Port: Send {
    /// Becomes readable when frames come in, or when they no longer can. Watched edge-triggered:
    /// after an edge the worker calls [`Self::readable`], then [`Self::receive`] until it returns
    /// false, though perhaps not at once. The descriptor stays the same for the port's life. `None`
    /// for a port that only knows time.
    fn event(&self) -> Option<BorrowedFd<'_>>;

    /// The event above has been seen.
    fn readable(&mut self);

    /// Looks whether the port is there, and does what is due. Called before [`Self::detached`] is
    /// asked for somebody, and when a port that is detached is [`Self::due`].
    fn poll(&mut self, _now: Instant) {}

    /// Why no frame can come in or go out, as long as that is so.
    fn detached(&self) -> Option<&str> {
        None
    }

    /// Takes the next frame into `frame`, whose allocation is used again; false when there is none
    /// now.
    fn receive(&mut self, now: Instant, frame: &mut Frame) -> bool;

    /// When [`Self::receive`], or [`Self::poll`] of a detached port, is worth a call though no
    /// event came.
    fn due(&self) -> Option<Instant>;

    /// Frames wait, rather than get lost, while the guest has no buffers.
    fn waits(&self) -> bool;

    /// Frames gather here while nobody takes them: those from before a guest was there are stale.
    /// A port that has a beginning and is waiting with it has none.
    fn gathers(&self) -> bool {
        self.waits()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When it was not taken; it is lost then, as frames are.
    fn send(&mut self, now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()>;

    /// Sends what is on its way and is due. When there is something to be sent next.
    fn send_due(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    /// A port with several queues: whether this one takes part. What came to one that does not any
    /// more is lost.
    ///
    /// # Errors
    /// When the host refuses.
    fn set_active(&mut self, _active: bool) -> io::Result<()> {
        Ok(())
    }

    /// Whether received frames may have open checksums.
    ///
    /// # Errors
    /// When the host refuses. Frames then come with complete checksums, which is always right.
    fn allow_open_checksums(&mut self, allow: bool) -> io::Result<()>;
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        (**self).event()
    }

    fn readable(&mut self) {
        (**self).readable();
    }

    fn poll(&mut self, now: Instant) {
        (**self).poll(now);
    }

    fn detached(&self) -> Option<&str> {
        (**self).detached()
    }

    fn receive(&mut self, now: Instant, frame: &mut Frame) -> bool {
        (**self).receive(now, frame)
    }

    fn due(&self) -> Option<Instant> {
        (**self).due()
    }

    fn waits(&self) -> bool {
        (**self).waits()
    }

    fn gathers(&self) -> bool {
        (**self).gathers()
    }

    fn send(&mut self, now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        (**self).send(now, header, frame)
    }

    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        (**self).send_due(now)
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        (**self).set_active(active)
    }

    fn allow_open_checksums(&mut self, allow: bool) -> io::Result<()> {
        (**self).allow_open_checksums(allow)
    }
}

/// A port, as the command line names it.
#[derive(Clone, Debug, PartialEq)]
pub enum PortConfig {
    /// A TAP interface of the host.
    Tap(tap::TapName),
    /// Frames made up by the device.
    Generator(Box<generator::GeneratorConfig>),
    /// Frames of a capture.
    Pcap(Box<pcap::PcapConfig>),
    /// Another device.
    Link(PathBuf),
    /// The guest's own frames.
    Reflect,
    /// None.
    Null,
}

/// A port that cannot be parsed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PortParseError {
    /// No such kind.
    #[error(
        "Port {0:?} is none of tap:NAME, generator:KEY=VALUE,..., pcap:FILE, link:PATH, reflect and null"
    )]
    Kind(String),
    /// The interface name is impossible.
    #[error(transparent)]
    Tap(#[from] tap::NameError),
    /// A setting of the generator is wrong.
    #[error(transparent)]
    Generator(#[from] generator::SettingError),
    /// A setting of the replay is wrong.
    #[error(transparent)]
    Pcap(#[from] pcap::SettingError),
}

/// Why a port could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The TAP interface.
    #[error(transparent)]
    Tap(#[from] tap::OpenError),
    /// The capture.
    #[error(transparent)]
    Capture(#[from] pcap::CaptureError),
    /// The link.
    #[error(transparent)]
    Link(#[from] link::LinkError),
}

impl FromStr for PortConfig {
    type Err = PortParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "reflect" => Ok(Self::Reflect),
            None if text == "null" => Ok(Self::Null),
            Some(("tap", name)) => Ok(Self::Tap(name.parse()?)),
            Some(("generator", settings)) => Ok(Self::Generator(Box::new(settings.parse()?))),
            Some(("pcap", capture)) => Ok(Self::Pcap(Box::new(capture.parse()?))),
            Some(("link", path)) if !path.is_empty() => Ok(Self::Link(path.into())),
            _ => Err(PortParseError::Kind(text.into())),
        }
    }
}

impl fmt::Display for PortConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Generator(_) => f.write_str("generator"),
            Self::Pcap(config) => write!(f, "pcap:{}", config.file.display()),
            Self::Link(path) => write!(f, "link:{}", path.display()),
            Self::Reflect => f.write_str("reflect"),
            Self::Null => f.write_str("null"),
        }
    }
}

impl PortConfig {
    /// Opens the port for as many queue pairs. `seed` decides every random choice it makes.
    ///
    /// # Errors
    /// When the host does not provide it: says what, and what can be done.
    pub fn open(&self, seed: u64, pairs: u16) -> Result<Vec<Box<dyn Port>>, OpenError> {
        Ok(match self {
            Self::Tap(name) if pairs == 1 => vec![Box::new(tap::Tap::open(name)?)],
            Self::Tap(name) => tap::Tap::open_queues(name, pairs)?.into_iter().map(boxed).collect(),
            Self::Pcap(config) => iter::once(boxed(pcap::Pcap::open(config)?))
                .chain((1..pairs).map(|_| boxed(null::Null)))
                .collect(),
            Self::Link(path) => (0..pairs)
                .map(|pair| link::Link::open(path, pair).map(boxed))
                .collect::<Result<_, _>>()?,
            Self::Reflect => (0..pairs).map(|_| boxed(reflect::Reflect::default())).collect(),
            Self::Null => (0..pairs).map(|_| boxed(null::Null)).collect(),
            Self::Generator(config) => (0..pairs)
                .map(|pair| {
                    boxed(generator::Generator::new(config, seed.wrapping_add(pair.into())))
                })
                .collect(),
        })
    }
}

fn boxed(port: impl Port + 'static) -> Box<dyn Port> {
    Box::new(port)
}

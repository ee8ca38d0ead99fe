// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run is told and what it may ask for: the vocabulary between the adversary and the worker
//! that obeys it.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use tsnic_abi::Counter;

use crate::progress::Progress;
use crate::rx_irq::RxIrq;
use crate::spec::{
    InjectionReport, InjectionSpec, MonitorReport, MonitorSpec, NaturalReport, NaturalSpec,
    Stimulus,
};
use crate::time::{Instant, NicTime};

/// The `arrived` and `point` cells, copied out of the page once. Read `arrived` (acquire) before
/// `point`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Sequence number of the rendezvous.
    pub number: u32,
    /// [`tsnic_abi::point`].
    pub point: u32,
}

/// What is known of a shared queue page.
#[derive(Clone, Copy, Debug)]
pub struct PageView<'a> {
    /// Generation of the accepted registration.
    pub generation: u32,
    /// Interrupt state, the doorbell taken over after `progress` was read.
    pub irq: &'a RxIrq,
    /// Progress cells.
    pub progress: Progress,
    /// Rendezvous cells.
    pub arrival: Arrival,
}

/// Frames the worker has read from the port and holds back, as [`PortPolicy::Hold`] told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldFrames {
    /// How many.
    pub count: u32,
    /// The last of them is a request: a TCP segment with payload to the traffic monitor's port. The
    /// worker reads no further then.
    pub request: bool,
}

/// What a run is shown at each step.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The shared queue page; `None` while there is none, or the rings do not run.
    pub page: Option<PageView<'a>>,
    /// Frames held back.
    pub held: HeldFrames,
}

/// What the worker does with frames from the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortPolicy {
    /// Frames held back are published, in order; then frames go to the guest as they come. Of each
    /// request among them the worker tells [`super::adversary::Adversary::request_published`].
    #[default]
    Open,
    /// Nothing is read from the port. Frames already held stay held.
    Shut,
    /// Frames are read and held back, up to and including the next request, and no more than
    /// [`HELD_FRAMES_MAX`]. They have not entered the port yet: they are given their timestamp when
    /// they are released.
    Hold,
}

/// The worker holds back no more frames than this.
pub const HELD_FRAMES_MAX: u32 = 64;

/// A frame the device makes up, belonging to the run's flow
/// ([`super::adversary::Adversary::flow`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// Starts a round.
    Stimulus(Stimulus),
    /// The UDP datagram that is injected.
    Injected,
    /// The UDP datagram that follows a lost one.
    Next,
    /// The UDP datagram that is to arrive after a poll's last look.
    Straggler,
}

/// What to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// One generated frame. `serial` differs from frame to frame of a run; put it into the frame,
    /// so that no two are alike.
    Generated {
        /// Which.
        kind: Generated,
        /// Number of the frame in its run, from 0.
        serial: u32,
    },
    /// Frames that one poll is to find: a segment that ends what GRO holds of the flow, then
    /// datagrams. They become visible together.
    Burst {
        /// `serial` of the segment that GRO holds.
        segment: u32,
        /// `serial` of the first datagram.
        serial: u32,
        /// How many.
        datagrams: u32,
    },
    /// All frames held back, in order.
    Held,
}

/// Answer to a [`Publish`]: [`super::adversary::Adversary::published`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// `produced` after the (last) frame.
    pub end: Counter,
    /// When the (last) frame entered the port.
    pub at: Instant,
    /// The same moment as its record has it.
    pub timestamp: NicTime,
}

/// What the worker is to do, in the order of the fields. `requested`, `port` and `hold` are levels:
/// they hold until the next step says otherwise. The others are done once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actions {
    /// Value of the page's `requested` cell. Write it when the cell does not have it (a new page
    /// has 0).
    pub requested: u32,
    /// What to do with the port.
    pub port: PortPolicy,
    /// Publish this and tell [`super::adversary::Adversary::published`], or tell `publish_failed`
    /// when the guest has not posted buffers for all of it, or the session may read no more of
    /// them. Frames of a burst may have been published then. Do the rest of the fields, then step
    /// again at once.
    pub publish: Option<Publish>,
    /// If the publish went well, raise the interrupt without regard to moderation and policies
    /// ([`crate::path::Path::poll`]).
    pub fire: bool,
    /// Raise no interrupt but that of `fire`.
    pub hold: bool,
    /// Write this to the page's `released` cell.
    pub release: Option<u32>,
    /// Step again at this time at the latest; in any case after a kick. The worker sleeps until
    /// then, it never spins.
    pub wake: Option<Instant>,
    /// The run goes on: done, total.
    pub progress: Option<(u32, u32)>,
    /// The run is over; the adversary has forgotten it.
    pub finished: Option<Box<Finished>>,
}

impl Actions {
    /// Asks to be stepped again `after` from `now` at the latest.
    pub(super) fn step_again(&mut self, now: Instant, after: Duration) {
        self.wake_at(now.plus(after));
    }

    /// Asks to be stepped again at `when` at the latest.
    pub(super) fn wake_at(&mut self, when: Instant) {
        self.wake = Some(self.wake.map_or(when, |wake| wake.min(when)));
    }
}

/// Says when a progress report is due: not more often than ten times a second.
#[derive(Debug)]
pub(super) struct Ticker {
    last: Instant,
}

impl Ticker {
    const PERIOD: Duration = Duration::from_millis(100);

    /// The first report is due one period from `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: now }
    }

    /// True when a report is due; then the next one is a period later.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = now.since(self.last) >= Self::PERIOD;
        if due {
            self.last = now;
        }
        due
    }
}

/// A run to start.
#[derive(Clone, Debug, PartialEq)]
pub enum RunRequest {
    /// Rounds at the rendezvous.
    Injection(InjectionSpec),
    /// Trials with no rendezvous.
    Natural(NaturalSpec),
    /// Monitor requests from the port.
    Monitor(MonitorSpec),
}

/// Result of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Finished {
    /// Of an injection run.
    Injection(InjectionReport),
    /// Of a natural run.
    Natural(NaturalReport),
    /// Of a traffic monitor.
    Monitor(MonitorReport),
    /// The run could not go on: what, and why.
    Failed(String),
}

/// Why a run was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Another one has not ended.
    #[error("Another run is on")]
    Busy,
    /// There is no shared queue page.
    #[error(
        "The guest has not registered a shared queue page: is the tsnic driver loaded and its interface up?"
    )]
    NoPage,
    /// A field of the request is out of range.
    #[error("Field {field} is {value}, not {expected}")]
    Field {
        /// Its name in the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

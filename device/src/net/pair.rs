// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A queue pair: everything about it that outlives a session.

use tracing::debug;
use tsnic_abi::Counter;
use tsnic_core::adversary::Adversary;
use tsnic_core::arming::Rearm;
use tsnic_core::counters::Counters;
use tsnic_core::moderation::Setting;
use tsnic_core::path::Path;
use tsnic_core::run;
use tsnic_core::rx_irq::RxIrq;
use tsnic_core::stall::Detector;
use tsnic_core::time::Instant;
use vm_memory::GuestMemoryMmap;

use super::empty_kicks::EmptyKicks;
use super::event::Event;
use super::features::Features;
use super::held_frames::HeldFrames;
use super::index::Index;
use super::lateness::Lateness;
use super::memory::GuestView;
use super::ring::{RingConfig, RingState};
use super::status::PairStatus;
use crate::clock::Clock;
use crate::control::channel::{Answer, PathCommand, WorkerEnd};
use crate::frame::Frame;
use crate::log_limit::LogLimit;
use crate::port::Port;
use crate::port::wire::Wire;

mod command;
mod frames;
mod page;
mod queues;
mod stalls;
mod state;
#[cfg(test)]
mod tests;

pub(super) use command::path_command;
pub(super) use state::Parts;

/// The receive queue of a pair.
pub const RX: usize = 0;
/// The transmit queue of a pair.
pub const TX: usize = 1;

/// How the device interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptConfig {
    /// Moderation of [`RX`] and [`TX`].
    pub moderation: [Setting; 2],
    /// What an arm does.
    pub rearm: Rearm,
}

/// A queue as the VMM has set it up, enabled and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSetup {
    /// Where it is.
    pub config: RingConfig,
    /// Number of its start: another one than that of the running queue is a start, even in the same
    /// place.
    pub start: u32,
    /// Available entries that were taken before it was started.
    pub next_avail: Index,
}

/// The interrupt lines of a pair.
pub trait Lines {
    /// Raises the line of [`RX`] or [`TX`].
    fn raise(&self, queue: usize);
}

/// When the pair wants to be served next, if nothing else happens before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// When something happens.
    #[default]
    Event,
    /// At this time.
    At(Instant),
    /// At this time, and no later if that can be: an interrupt is placed there.
    Placed(Instant),
    /// At once: a budget was used up.
    AtOnce,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    running: Option<Running>,
    /// Where it was when it was stopped.
    stopped: Option<(RingConfig, RingState)>,
}

#[derive(Debug)]
struct Running {
    config: RingConfig,
    start: u32,
    state: RingState,
    broken: bool,
    /// Kicks while the ring has never had an entry; `None` once it has.
    empty_kicks: Option<EmptyKicks>,
}

/// What a guest can cause lines of the log by, as often as it likes.
#[derive(Debug, Default)]
struct Limited {
    broken: LogLimit,
    unshared: LogLimit,
    empty: LogLimit,
    refused: LogLimit,
    accepted: LogLimit,
    forgotten: LogLimit,
    port: LogLimit,
    port_queue: LogLimit,
    stalls: LogLimit,
}

/// A shared queue page in use.
#[derive(Debug)]
pub(super) struct PageState {
    /// Guest physical address.
    pub address: u64,
    /// Generation of its registration.
    pub generation: u32,
    /// Number of the next transmit completion.
    pub tx_completed: Counter,
    /// What its `requested` cell holds.
    pub requested: u32,
    /// Number of the latest command.
    pub command: u32,
    /// Interrupt state of the receive queue.
    pub irq: RxIrq,
    /// Verdicts "lost" and "rescued" that an event has told of.
    pub told: [u64; 2],
}

/// One queue pair.
pub struct Pair<P, C> {
    pub(super) number: u16,
    pub(super) features: Features,
    /// What an arm does.
    pub(super) rearm: Rearm,
    pub(super) queues: [Queue; 2],
    /// The interrupt path of each queue.
    pub(super) paths: [Path; 2],
    /// How late placed interrupts of each queue were.
    pub(super) lateness: [Lateness; 2],
    /// Kicks of each queue.
    pub(super) kicks: [u32; 2],
    /// Kicks of [`TX`] when the guest was asked to kick for the next entry; `None` when it was not.
    pub(super) kick_asked: Option<u32>,
    /// Stall detector of each queue.
    pub(super) stalls: Option<[Detector; 2]>,
    /// A frame has found no buffers, and none has been delivered since.
    pub(super) starved: bool,
    pub(super) page: Option<PageState>,
    pub(super) adversary: Adversary,
    pub(super) control: WorkerEnd,
    pub(super) commands_wait: bool,
    pub(super) port: Wire<P>,
    /// The port has been told to use this pair's queue.
    port_active: bool,
    /// What has been told of the port: why it is detached.
    pub(super) port_detached: Option<String>,
    pub(super) clock: C,
    pub(super) port_policy: run::PortPolicy,
    pub(super) held: HeldFrames,
    pub(super) counters: Counters,
    limited: Limited,
    /// Scratch space.
    pub(super) rx_frame: Frame,
    /// Scratch space.
    pub(super) tx_frame: Vec<u8>,
}

impl<P: Port, C: Clock> Pair<P, C> {
    /// A pair whose queues do not run yet.
    #[must_use]
    pub fn new(
        number: u16,
        port: P,
        clock: C,
        control: WorkerEnd,
        interrupts: &InterruptConfig,
    ) -> Self {
        Self {
            number,
            features: Features::default(),
            rearm: interrupts.rearm,
            queues: [Queue::default(), Queue::default()],
            paths: interrupts.moderation.map(Path::new),
            lateness: Default::default(),
            kicks: [0; 2],
            kick_asked: None,
            stalls: None,
            starved: false,
            page: None,
            adversary: Adversary::default(),
            control,
            commands_wait: false,
            port: Wire::new(port),
            port_active: number == 0,
            port_detached: None,
            clock,
            port_policy: run::PortPolicy::Open,
            held: HeldFrames::default(),
            counters: Counters::default(),
            limited: Limited::default(),
            rx_frame: Frame::default(),
            tx_frame: Vec::new(),
        }
    }

    /// Carries out what is asked of the interrupt paths and of the wire.
    pub fn path_command(&mut self, command: PathCommand) -> Answer {
        let now = self.now();
        path_command(&self.clock, &mut self.paths, &mut self.lateness, &mut self.port, command, now)
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> &P {
        self.port.port()
    }

    /// The data path's end of the control channel.
    #[must_use]
    pub const fn control(&self) -> &WorkerEnd {
        &self.control
    }

    /// The control channel's event has been seen.
    pub const fn commands_wait(&mut self) {
        self.commands_wait = true;
    }

    /// A run is on: it has to be served in time even when no front end is connected.
    #[must_use]
    pub const fn run_is_on(&self) -> bool {
        self.adversary.is_active()
    }

    /// A front end has connected.
    pub fn connected(&mut self) {
        self.counters.connections += 1;
        self.tell(|| Event::Connected);
    }

    /// The front end is gone, without a word or after stopping both queues: nothing of the guest is
    /// kept. `memory` is what it was there with. It is not touched when both queues were stopped:
    /// the vhost-user specification forbids it from then on, and the driver learns of the lost page
    /// from the link, which goes down and up.
    pub fn disconnected(&mut self, memory: &GuestMemoryMmap) {
        let running = self.queues.iter().any(|queue| queue.running.is_some());
        self.tell(|| Event::Disconnected);
        self.queues = [Queue::default(), Queue::default()];
        self.discard_held();
        self.set_port_active(false);
        // Nobody looks after it until the next one connects.
        self.port.send_all(self.clock.now().timer);
        let view = GuestView::new(memory);
        self.forget_page(running.then_some(&view), "the front end left");
    }

    /// Takes over the negotiated features.
    pub fn set_features(&mut self, features: Features) {
        self.features = features;
        if let Err(error) = self.port.allow_open_checksums(features.guest_csum()) {
            // It goes on delivering complete checksums, which is always right.
            debug!(%error, "The port cannot change whether checksums may be open");
        }
    }

    /// Tells those of an event who want to know, if there are any.
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.control.is_watched() {
            self.control.tell(self.now(), event());
        }
    }

    /// Counts what the policies of a queue have done.
    pub(super) fn count_policies(&mut self, queue: usize) {
        let tally = self.paths[queue].take_tally();
        self.counters.interrupts_held += tally.held;
        self.counters.interrupts_dropped += tally.dropped;
        self.counters.interrupts_spurious += tally.spurious;
    }

    /// Timer time.
    pub(super) fn now(&self) -> Instant {
        self.clock.now().timer
    }

    /// The state of the pair.
    #[must_use]
    pub fn status(&self) -> PairStatus {
        Parts {
            number: self.number,
            queues: &self.queues,
            paths: &self.paths,
            lateness: &self.lateness,
            page: self.page.as_ref(),
            port_detached: self.port_detached.as_ref(),
            wire: self.port.status(),
            stalls: self.stalls.as_ref(),
            clock: (self.clock.now(), self.clock.rate()),
            counters: &self.counters,
        }
        .status()
    }
}

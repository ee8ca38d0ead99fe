// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A queue pair: everything about it that outlives a session.

use std::time::Duration;

use tracing::{debug, info, warn};
use tsnic_abi::{Counter, RX_RECORDS};
use tsnic_core::adversary::Adversary;
use tsnic_core::arming::Rearm;
use tsnic_core::counters::Counters;
use tsnic_core::moderation::Setting;
use tsnic_core::path::Path;
use tsnic_core::policy::Policies;
use tsnic_core::run;
use tsnic_core::rx_irq::RxIrq;
use tsnic_core::stall::{Detector, Look};
use tsnic_core::time::Instant;
use tsnic_core::wire;
use vm_memory::GuestMemoryMmap;

use super::empty_kicks::EmptyKicks;
use super::features::Features;
use super::held_frames::HeldFrames;
use super::index::Index;
use super::memory::{GuestView, MemoryError};
use super::queue_page::{QueuePage, Refusal};
use super::ring::{Ring, RingConfig, RingError, RingState};
use super::status::{PageStatus, PairStatus};
use crate::clock::Clock;
use crate::control::channel::{Answer, PathCommand, WorkerEnd};
use crate::frame::Frame;
use crate::log_limit::LogLimit;
use crate::port::Port;
use crate::port::wire::{Directions, Wire};

#[cfg(test)]
mod tests;

/// Frames that came in while no guest was there, discarded at a time. More than a host queues by
/// default; a sender that is faster than they are discarded must not keep the worker here.
const STALE_MAX: u32 = 4096;

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

    /// Finds out why a queue does not go on from now on: looks closer when its guest shows no
    /// progress for `after`, at least a microsecond.
    pub fn watch_for_stalls(&mut self, after: Duration) {
        self.stalls = Some([RX, TX].map(|_| Detector::new(after)));
    }

    /// Carries out what is asked of the interrupt paths and of the wire.
    pub fn path_command(&mut self, command: PathCommand) -> Answer {
        let now = self.now();
        path_command(&mut self.paths, &mut self.port, command, now)
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

    /// The port's event has been seen.
    pub fn port_readable(&mut self) {
        self.port.readable();
    }

    /// The receive queue is enabled, or not: a port with several queues is to use this pair's, or
    /// the others. The first pair's is always used.
    pub fn set_port_active(&mut self, active: bool) {
        let active = active || self.number == 0;
        if active == self.port_active {
            return;
        }
        self.port_active = active;
        if !active {
            self.discard_stale_frames();
        }
        if let Err(error) = self.port.set_active(active) {
            warn!(pair = self.number, %error, "The port's queue cannot be switched on or off");
        }
    }

    /// Lets the port look for its interface when it has none or somebody wants to know, and tells
    /// what has become of it.
    pub(super) fn poll_port_state(&mut self) {
        if self.commands_wait || self.port.detached().is_some() {
            let now = self.now();
            self.port.poll(now);
        }
        self.note_port_state();
    }

    /// Counts and logs that the port has gone or come back. Call it after anything that uses the
    /// port.
    pub(super) fn note_port_state(&mut self) {
        let reason = self.port.detached();
        if reason == self.port_detached.as_deref() {
            return;
        }
        let line = self.limited.port.line(self.clock.now().timer);
        if let Some(reason) = reason {
            self.counters.port_detached += u64::from(self.port_detached.is_none());
            if let Some(line) = line {
                let left_out = line.left_out;
                warn!(
                    pair = self.number,
                    left_out, "No frames go in or out until the port is back: {reason}"
                );
            }
        } else {
            self.counters.port_reattached += 1;
            if let Some(line) = line {
                warn!(pair = self.number, left_out = line.left_out, "The port is back");
            }
        }
        self.port_detached = reason.map(ToOwned::to_owned);
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

    /// The stall detector may look on, and nudge.
    pub(super) const fn allows_nudges(&self) -> bool {
        self.adversary.allows_nudges()
    }

    /// A front end has connected.
    pub const fn connected(&mut self) {
        self.counters.connections += 1;
    }

    /// The front end is gone, without a word or after stopping both queues: nothing of the guest is
    /// kept. `memory` is what it was there with. It is not touched when both queues were stopped:
    /// the vhost-user specification forbids it from then on, and the driver learns of the lost page
    /// from the link, which goes down and up.
    pub fn disconnected(&mut self, memory: &GuestMemoryMmap) {
        let running = self.queues.iter().any(|queue| queue.running.is_some());
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

    /// Stops a queue. Nothing touches it, or the page, until [`super::session::service`] is told
    /// that both run again.
    pub fn stop(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if let Some(running) = queue.running.take() {
            queue.stopped = (!running.broken).then_some((running.config, running.state));
        }
    }

    /// The start of a queue that runs, and the available entries taken: what it has to be told to
    /// start from after a stop.
    #[must_use]
    pub fn next_avail(&self, queue: usize) -> Option<(u32, Index)> {
        self.queues[queue].running.as_ref().map(|running| (running.start, running.state.next_avail))
    }

    /// Opens a session of one ring, starting the ring first when it does not run yet.
    pub(super) fn open<'m>(
        &mut self,
        view: &GuestView<'m>,
        queue: usize,
        setup: QueueSetup,
    ) -> Option<Ring<'m>> {
        let opened = match &self.queues[queue].running {
            Some(running) if running.config == setup.config && running.start == setup.start => {
                if running.broken {
                    return None;
                }
                Ring::open(view, running.config, running.state)
            }
            _ => self.start(view, queue, setup),
        };
        opened.inspect_err(|error| self.broken(view, queue, error)).ok()
    }

    fn start<'m>(
        &mut self,
        view: &GuestView<'m>,
        queue: usize,
        setup: QueueSetup,
    ) -> Result<Ring<'m>, RingError> {
        // A set-up that changed under a running queue is a stop nobody told of.
        let restarted = self.queues[queue].running.take().is_some();
        let stopped = self.queues[queue].stopped.take().filter(|_| !restarted);
        let config = setup.config;
        let state = RingState::starting_at(setup.next_avail, Index(0));
        self.queues[queue].running = Some(Running {
            config,
            start: setup.start,
            state,
            broken: false,
            empty_kicks: Some(EmptyKicks::new(self.clock.now().timer)),
        });
        self.reset_stalls(queue);
        let ring = Ring::start(view, config, setup.next_avail)?;
        // Now, for the session may put this ring off to a later one.
        self.keep(queue, ring.state());
        let resumed = stopped.is_some_and(|(stopped_config, stopped)| {
            let now = ring.state();
            stopped_config == config
                && stopped.next_avail == now.next_avail
                && stopped.next_used == now.next_used
        });
        // The registration itself moved the transmit queue on from 0, so 0 there means a reset even
        // if the queue was stopped at 0, which it may have been after 65,536 chains. Forgetting is
        // the safe error of the two.
        if !resumed || (queue == TX && setup.next_avail == Index(0)) {
            self.paths[queue].reset(config.entries.max(1));
            self.forget_page(Some(view), "a queue was reset");
            if queue == RX {
                self.discard_stale_frames();
            }
        }
        debug!(pair = self.number, queue, next_avail = %setup.next_avail, resumed, "Queue started");
        Ok(ring)
    }

    /// Discards the frames that came in before the guest could receive.
    fn discard_stale_frames(&mut self) {
        self.discard_held();
        if self.port.waits() {
            for _ in 0..STALE_MAX {
                if !self.port.receive(self.clock.now().timer, &mut self.rx_frame) {
                    break;
                }
                self.counters.rx_not_running += 1;
            }
        }
    }

    /// Frames that were held back for a guest that is gone.
    fn discard_held(&mut self) {
        self.counters.rx_not_running += self.held.frames.len() as u64;
        self.held = HeldFrames::default();
    }

    /// Keeps what has to outlive a session.
    pub(super) fn keep(&mut self, queue: usize, state: RingState) {
        if let Some(running) = &mut self.queues[queue].running {
            running.state = state;
        }
    }

    /// Leaves a queue alone until its reset.
    pub(super) fn broken(&mut self, view: &GuestView<'_>, queue: usize, error: &RingError) {
        if let Some(running) = &mut self.queues[queue].running {
            running.broken = true;
        }
        self.counters.queues_broken += 1;
        self.forget_page(Some(view), "a queue is broken");
        let name = if queue == RX { "receive" } else { "transmit" };
        if let Some(line) = self.limited.broken.line(self.now()) {
            warn!(
                pair = self.number,
                left_out = line.left_out,
                error = error as &dyn std::error::Error,
                "The guest has broken its {name} queue, which is left alone until its reset"
            );
        }
    }

    /// A buffer was not in memory that the front end shares, and its frame is lost.
    pub(super) fn unshared(&mut self, error: &MemoryError) {
        if let Some(line) = self.limited.unshared.line(self.clock.now().timer) {
            let error = error as &dyn std::error::Error;
            let (pair, left_out) = (self.number, line.left_out);
            warn!(
                pair,
                left_out,
                error,
                "A frame is lost: the front end does not share this memory (QEMU: share=on)"
            );
        }
    }

    /// The guest has kicked a queue.
    pub fn kicked(&mut self, queue: usize) {
        self.kicks[queue] = self.kicks[queue].wrapping_add(1);
        let running = self.queues[queue].running.as_mut();
        if let Some(kicks) = running.and_then(|running| running.empty_kicks.as_mut()) {
            kicks.kicked(self.clock.now().timer);
        }
    }

    /// A queue that the guest kicks and that has never had an entry: says once what that means.
    pub(super) fn look_for_emptiness(&mut self, queue: usize, ring: &Ring<'_>) {
        let Some(running) = &mut self.queues[queue].running else { return };
        if !ring.is_untouched() {
            running.empty_kicks = None;
        }
        if running.empty_kicks.is_none_or(|kicks| !kicks.are_the_guests()) {
            return;
        }
        running.empty_kicks = None;
        if let Some(line) = self.limited.empty.line(self.clock.now().timer) {
            let name = if queue == RX { "receive" } else { "transmit" };
            warn!(
                pair = self.number,
                left_out = line.left_out,
                "The guest kicks its {name} queue, which stays empty: is its memory shared with the device (QEMU: share=on)?"
            );
        }
    }

    /// A registration was refused.
    pub(super) fn refused(&mut self, view: &GuestView<'_>, refusal: &Refusal) {
        self.counters.registrations_refused += 1;
        if let Some(line) = self.limited.refused.line(self.now()) {
            let error = refusal as &dyn std::error::Error;
            warn!(pair = self.number, left_out = line.left_out, error, "Shared queue page refused");
        }
        self.forget_page(Some(view), "the driver posted another one");
    }

    /// Stops using the page, if there is one, and says so in it, if it is still guest memory that
    /// may be written.
    pub(super) fn forget_page(&mut self, view: Option<&GuestView<'_>>, why: &'static str) {
        if let Some(page) = self.page.take() {
            if let Some(Ok(cells)) = view.map(|view| QueuePage::open(view, page.address)) {
                cells.forget(page.generation);
            }
            self.counters.add_losses(&page.irq);
            self.counters.pages_forgotten += 1;
            // What is unsignaled goes by the virtio gate from here on, which asks once more.
            if let Some(running) = &self.queues[RX].running {
                self.paths[RX].reset(running.config.entries.max(1));
            }
            self.reset_stalls(RX);
            if let Some(line) = self.limited.forgotten.line(self.now()) {
                let generation = page.generation;
                info!(
                    pair = self.number,
                    left_out = line.left_out,
                    generation,
                    why,
                    "Shared queue page forgotten"
                );
            }
        }
    }

    /// Counts what the policies of a queue have done.
    pub(super) fn count_policies(&mut self, queue: usize) {
        let tally = self.paths[queue].take_tally();
        self.counters.interrupts_held += tally.held;
        self.counters.interrupts_dropped += tally.dropped;
        self.counters.interrupts_spurious += tally.spurious;
    }

    /// Counts what the policies of the wire have done.
    pub(super) fn count_packets(&mut self) {
        let wire::Tally { dropped, duplicated, reordered, corrupted, delayed, not_held } =
            self.port.take_tally();
        let counters = &mut self.counters;
        counters.frames_dropped_by_policy += dropped;
        counters.frames_duplicated += duplicated;
        counters.frames_reordered += reordered;
        counters.frames_corrupted += corrupted;
        counters.frames_delayed += delayed;
        counters.frames_not_held += not_held;
        counters.tx_port_errors += self.port.take_refused();
    }

    /// What was seen of a queue does not count any more.
    fn reset_stalls(&mut self, queue: usize) {
        if let Some(detectors) = &mut self.stalls {
            detectors[queue].reset();
        }
        if queue == RX {
            self.starved = false;
        } else {
            self.kick_asked = None;
        }
    }

    /// The stall detector of a queue has found something out.
    pub(super) fn note_stall(&mut self, queue: usize, look: &Look) {
        self.counters.nudges += u64::from(look.nudge);
        self.counters.detector_disagreements += u64::from(look.disagrees);
        let Some(evidence) = look.evidence else { return };
        self.counters.stalls += 1;
        if let Some(line) = self.limited.stalls.line(self.now()) {
            let guest = &evidence.seen.guest;
            warn!(
                pair = self.number,
                left_out = line.left_out,
                by_policy = evidence.by_policy,
                waited = ?evidence.waited,
                answered = ?evidence.answered,
                nudges = evidence.nudges,
                published = evidence.seen.published,
                available = guest.available,
                asked = guest.asked,
                kicks = guest.kicks,
                raised = evidence.seen.raised,
                "The {} queue stalled: {}",
                if queue == RX { "receive" } else { "transmit" },
                evidence.verdict
            );
        }
    }

    /// Uses this page from now on.
    pub(super) fn use_page(&mut self, page: PageState) {
        // However long the ring is, its driver has no more out than the page has records.
        self.paths[RX].reset(RX_RECORDS);
        self.reset_stalls(RX);
        self.counters.registrations += 1;
        if let Some(line) = self.limited.accepted.line(self.now()) {
            let (generation, ci) = (page.generation, page.irq.interrupts().ci().0);
            info!(
                pair = self.number,
                left_out = line.left_out,
                generation,
                ci,
                "Shared queue page taken into use"
            );
        }
        self.page = Some(page);
    }

    /// Timer time.
    pub(super) fn now(&self) -> Instant {
        self.clock.now().timer
    }

    /// The state of the pair.
    #[must_use]
    pub fn status(&self) -> PairStatus {
        let (page, port_detached) = (self.page.as_ref(), self.port_detached.as_ref());
        let (wire, stalls) = (self.port.status(), self.stalls.as_ref());
        let queues = (self.number, &self.queues);
        status(queues, &self.paths, page, port_detached, wire, stalls, &self.counters)
    }
}

/// The state of a pair, from the parts of a [`Pair`] that make it up.
pub(super) fn status(
    (number, queues): (u16, &[Queue; 2]),
    paths: &[Path; 2],
    page: Option<&PageState>,
    port_detached: Option<&String>,
    wire: Option<Directions>,
    stalls: Option<&[Detector; 2]>,
    counters: &Counters,
) -> PairStatus {
    let mut counters = counters.clone();
    if let Some(page) = page {
        counters.add_losses(&page.irq);
    }
    PairStatus {
        number,
        running: queues
            .iter()
            .all(|queue| queue.running.as_ref().is_some_and(|running| !running.broken)),
        port_detached: port_detached.cloned(),
        wire,
        page: page.map(|page| PageStatus::new(page.generation, &page.irq)),
        moderation: [RX, TX].map(|queue| paths[queue].moderation_in_force()),
        stalls: stalls.map(|detectors| [RX, TX].map(|queue| *detectors[queue].tally())),
        counters,
    }
}

/// Carries out what the control socket asks of the interrupt paths and of the wire.
pub(super) fn path_command<P: Port>(
    paths: &mut [Path; 2],
    wire: &mut Wire<P>,
    command: PathCommand,
    now: Instant,
) -> Answer {
    match command {
        PathCommand::Moderation(queue, setting) => paths[queue].set_moderation(setting),
        PathCommand::Policies(seed, stacks) => {
            // A seed of its own for each queue, so that none follows the other.
            let seeds = [seed, !seed];
            let stacks = [RX, TX].map(|queue| Policies::new(&stacks[queue], seeds[queue], now));
            match stacks {
                [Ok(rx), Ok(tx)] => {
                    for (path, policies) in paths.iter_mut().zip([rx, tx]) {
                        path.set_policies(policies, now);
                    }
                }
                [Err(error), _] | [_, Err(error)] => return Answer::Refused(error.to_string()),
            }
        }
        PathCommand::Packets(seed, specs) => {
            if let Err(error) = wire.set_policies(seed, &specs) {
                return Answer::Refused(error.to_string());
            }
        }
        PathCommand::Schedule(queue) => {
            return Answer::Paths(Some(paths[queue].schedule().clone()));
        }
    }
    Answer::Paths(None)
}

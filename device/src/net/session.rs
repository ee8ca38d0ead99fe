// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session: what the worker does between waking up and going to sleep.
//!
//! The rings and the area are borrowed from one snapshot of guest memory and never outlive the call, so a queue that is
//! stopped, or a memory table that is replaced, between two sessions cannot be touched by mistake.

use tracing::{info, warn};
use tsnic_abi::Counter;

use super::area::{Area, Refusal, check_hand_over};
use super::chain::{Chain, ChainError};
use super::memory::GuestView;
use super::pair::{AreaState, Lines, Next, Pair, RX, TX, status};
use super::ring::{Ring, RingError};
use super::rx::{Delivery, Receiver};
use super::tx::{self, Taken};
use crate::clock::Instant;
use crate::irq::queue::{Request, RxIrq};
use crate::irq::request::is_request;
use crate::irq::run::{
    Actions, AreaView, Generated, HeldFrames, Here, Observation, Progress, Publish, Published, Wire,
};
use crate::wire::{Frame, frames};

/// Chains of the transmit queue taken in one session.
const TX_BUDGET: u32 = 256;

/// Frames taken from the wire in one session.
const RX_BUDGET: u32 = 256;

/// Frames published together.
const RX_BATCH: u32 = 32;

/// Steps of the adversary in one session.
const STEP_BUDGET: u32 = 64;

/// Bytes of payload of a datagram the adversary has made up.
const DATAGRAM_LEN: u16 = 32;

pub(super) struct Session<'m, 's> {
    pair: &'s mut Pair,
    view: GuestView<'m>,
    lines: &'s dyn Lines,
    rx: Option<Ring<'m>>,
    tx: Option<Ring<'m>>,
    cells: Option<Area<'m>>,
    receiver: Receiver<'m>,
    chain: Chain<'m>,
    progress: Progress,
    here: Here,
    /// A budget was used up.
    again: bool,
    /// Work comes at this time at the latest.
    due: Option<Instant>,
}

/// What became of a pass over the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing the adversary has to know.
    Quiet,
    /// It has to look again.
    Changed,
}

impl<'m, 's> Session<'m, 's> {
    pub fn new(
        pair: &'s mut Pair,
        view: GuestView<'m>,
        lines: &'s dyn Lines,
        rx: Option<Ring<'m>>,
        tx: Option<Ring<'m>>,
    ) -> Self {
        let mut session = Self {
            pair,
            view,
            lines,
            rx,
            tx,
            cells: None,
            receiver: Receiver::default(),
            chain: Chain::default(),
            progress: Progress::default(),
            here: Here::default(),
            again: false,
            due: None,
        };
        session.open_area();
        session
    }

    /// Resolves the area anew, for the memory may be another since the last session. Only while both rings run.
    fn open_area(&mut self) {
        let Some(area) = self.pair.area.as_ref().filter(|_| self.rx.is_some() && self.tx.is_some()) else { return };
        match Area::open(&self.view, area.address) {
            Ok(cells) => self.cells = Some(cells),
            Err(_) => self.pair.forget_area("it is no longer guest memory"),
        }
    }

    pub fn run(mut self) -> Next {
        if let Err(error) = self.transmit() {
            self.pair.broken(TX, &error);
            self.tx = None;
            self.cells = None;
        }
        if let Err(error) = self.receive() {
            self.pair.broken(RX, &error);
            self.rx = None;
            self.cells = None;
        }
        for (queue, ring) in [(RX, &self.rx), (TX, &self.tx)] {
            if let Some(ring) = ring {
                self.pair.keep(queue, ring.state());
            }
        }
        match self.due {
            _ if self.again => Next::AtOnce,
            Some(due) => Next::At(due),
            None => Next::Event,
        }
    }

    // ---- transmit ----

    fn transmit(&mut self) -> Result<(), RingError> {
        let Some(mut ring) = self.tx.take() else { return Ok(()) };
        let mut taken = 0;
        let result = loop {
            let mut frame = std::mem::take(&mut self.pair.tx_frame);
            let chain = tx::take(&mut ring, &self.view, &mut self.chain, self.pair.features, &mut frame);
            self.pair.tx_frame = frame;
            let chain = match chain {
                Ok(chain) => chain,
                Err(error) => break Err(error),
            };
            if let Some(chain) = chain {
                self.transmit_one(&mut ring, &chain);
                taken += 1;
                if taken < TX_BUDGET {
                    continue;
                }
                self.again = true;
            }
            self.publish_transmitted(&mut ring);
            match ring.ask_for_kicks() {
                Ok(true) if !self.again => {}
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
            // What was sent before the ring broke is given back all the same.
            self.publish_transmitted(&mut ring);
        }
        self.tx = Some(ring);
        result
    }

    fn publish_transmitted(&mut self, ring: &mut Ring<'m>) {
        ring.publish();
        if ring.must_tell() {
            self.pair.counters.tx_interrupts += 1;
            self.lines.raise(TX);
        }
    }

    fn transmit_one(&mut self, ring: &mut Ring<'m>, taken: &Taken) {
        let pair = &mut *self.pair;
        let (mut left, mut used_len) = (None, 0);
        match taken {
            Taken::Frame(header) => {
                pair.counters.tx_frames += 1;
                pair.counters.tx_bytes += pair.tx_frame.len() as u64;
                left = Some(Instant::now());
                if pair.wire.send(*header, &pair.tx_frame).is_err() {
                    pair.counters.tx_wire_errors += 1;
                }
            }
            Taken::Bad(_) => pair.counters.tx_malformed += 1,
            Taken::HandOver => used_len = self.hand_over(ring),
            Taken::BadHandOver(error) => self.refuse(&Refusal::Memory(*error)),
        }
        if let (Some(cells), Some(area)) = (&self.cells, &mut self.pair.area) {
            cells.record_tx(area.tx_completed, left);
            area.tx_completed = area.tx_completed.plus(1);
        }
        ring.put_used(self.chain.head, used_len);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.pair.refused(refusal);
        self.cells = None;
    }

    /// Takes an area over. Returns the length the chain is given back with.
    fn hand_over(&mut self, ring: &Ring<'m>) -> u32 {
        let rx_size = self.rx.as_ref().map(Ring::size);
        let checked = check_hand_over(&self.chain, self.pair.number, self.pair.features, rx_size, ring.size())
            .and_then(|(header, address)| {
                let cells = Area::open(&self.view, address)
                    .map_err(|source| Refusal::Memory(ChainError::Memory { writable: true, source }))?;
                let rx_used = self.rx.as_ref().ok_or(Refusal::NoReceiveQueue)?.next_used();
                Ok((header, address, cells, rx_used))
            });
        let (header, address, cells, rx_used) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                self.refuse(&refusal);
                return 0;
            }
        };
        self.pair.forget_area("the driver posted another one");
        let (ci, arm) = (Counter(header.rx_ci.get()), Counter(header.arm.get()));
        let irq = RxIrq::at_handover(ci, rx_used.0, arm, cells.progress().irq_seen, self.pair.limits);
        let generation = header.generation.get();
        cells.accept(self.pair.number, generation, irq.interrupts().fired());
        let tx_completed = Counter(header.tx_ci.get()).widen(ring.next_used().0);
        self.pair.area = Some(AreaState { address, generation, tx_completed, want: 0, irq });
        self.pair.counters.handovers += 1;
        self.cells = Some(cells);
        info!(pair = self.pair.number, generation, ci = ci.0, "Queue area taken into use");
        tsnic_abi::AREA_SIZE
    }

    // ---- receive ----

    fn receive(&mut self) -> Result<(), RingError> {
        for _ in 0..STEP_BUDGET {
            let now = Instant::now();
            self.due = None;
            self.look(now);
            let mut actions = self.step(now);
            self.pair.control.report(&mut actions);
            let changed = self.obey(&actions)?;
            let changed = changed || self.pass_wire(&actions)? == Pass::Changed;
            self.interrupt();
            if !changed {
                self.wake_at(actions.wake);
                return Ok(());
            }
        }
        self.again = true;
        Ok(())
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        self.due = match (self.due, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Copies the driver's cells and takes an arm over.
    fn look(&mut self, now: Instant) {
        let (Some(cells), Some(area)) = (&self.cells, &mut self.pair.area) else { return };
        // The doorbell last: an arm that was written before the guest came to a rendezvous must not be missed.
        self.here = cells.here();
        self.progress = cells.progress();
        let doorbell = cells.doorbell();
        if area.irq.doorbell(doorbell.arm, doorbell.ci, &self.progress, now) {
            self.pair.counters.arms += 1;
        }
    }

    /// Serves the control socket and asks the adversary.
    fn step(&mut self, now: Instant) -> Actions {
        let Pair { area, adversary, control, queues, counters, held, commands_wait, .. } = &mut *self.pair;
        let seen = Observation {
            area: area.as_ref().filter(|_| self.cells.is_some()).map(|area| AreaView {
                generation: area.generation,
                irq: &area.irq,
                progress: self.progress,
                here: self.here,
            }),
            held: HeldFrames { count: held.frames.len() as u32, request: held.request },
        };
        if std::mem::take(commands_wait) {
            control.serve(adversary, now, &seen, || status(queues, area.as_ref(), counters));
        }
        adversary.step(now, &seen)
    }

    /// Carries out one step of the adversary. True when it has to be stepped again at once.
    fn obey(&mut self, actions: &Actions) -> Result<bool, RingError> {
        if let (Some(cells), Some(area)) = (&self.cells, &mut self.pair.area)
            && area.want != actions.want
        {
            area.want = actions.want;
            cells.set_want(actions.want);
        }
        self.pair.wire_policy = actions.wire;
        if let Some(publish) = actions.publish {
            match self.publish(publish)? {
                Some(published) => self.pair.adversary.published(published),
                None => self.pair.adversary.publish_failed(Instant::now()),
            }
        }
        if actions.fire
            && let Some(area) = &mut self.pair.area
        {
            let request = area.irq.force();
            self.carry_out(request);
        }
        if let (Some(ack), Some(cells)) = (actions.ack, &self.cells) {
            cells.set_ack(ack);
            self.pair.counters.acks += 1;
        }
        Ok(actions.publish.is_some())
    }

    /// Publishes what the adversary asked for; `None` when there were no buffers.
    fn publish(&mut self, publish: Publish) -> Result<Option<Published>, RingError> {
        match publish {
            Publish::Generated { kind, serial } => {
                let Some(flow) = self.pair.adversary.flow() else { return Ok(None) };
                let mut frame = match kind {
                    Generated::Starter(crate::control::protocol::Starter::GroHeld) => frames::gro_held(&flow, serial),
                    _ => frames::udp(&flow, serial, DATAGRAM_LEN),
                };
                let timestamp = Instant::now();
                let staged = self.stage(&mut frame, timestamp)?;
                self.flush();
                Ok(if staged == Staged::Done { self.published(timestamp) } else { None })
            }
            Publish::Held => self.release(),
        }
    }

    /// Publishes every frame held back; `None` when there were none, or buffers ran out.
    fn release(&mut self) -> Result<Option<Published>, RingError> {
        let mut latest = None;
        while let Some(mut frame) = self.pair.held.frames.pop_front() {
            let timestamp = Instant::now();
            match self.stage(&mut frame, timestamp)? {
                Staged::Done => latest = Some(timestamp),
                Staged::Dropped => {}
                Staged::NoBuffers => {
                    self.pair.held.frames.push_front(frame);
                    self.flush();
                    return Ok(None);
                }
            }
        }
        self.pair.held.request = false;
        self.flush();
        Ok(latest.and_then(|timestamp| self.published(timestamp)))
    }

    fn published(&self, timestamp: Instant) -> Option<Published> {
        let area = self.pair.area.as_ref()?;
        Some(Published { end: area.irq.interrupts().produced(), timestamp })
    }

    /// Reads the wire as the adversary allows.
    fn pass_wire(&mut self, actions: &Actions) -> Result<Pass, RingError> {
        match actions.wire {
            Wire::Shut => Ok(Pass::Quiet),
            Wire::Hold => Ok(self.hold()),
            Wire::Open => self.open_wire(),
        }
    }

    /// The next frame of the wire, in the pair's scratch frame.
    fn next_frame(&mut self) -> bool {
        let pair = &mut *self.pair;
        if pair.wire_cut {
            return false;
        }
        match pair.wire.receive(Instant::now(), &mut pair.rx_frame) {
            Ok(received) => received,
            Err(error) => {
                pair.wire_cut = true;
                warn!(%error, "The wire is cut: nothing will come from it any more");
                false
            }
        }
    }

    /// Reads frames and keeps them, up to and including the next request.
    fn hold(&mut self) -> Pass {
        let port = self.pair.adversary.request_port();
        let mut pass = Pass::Quiet;
        while !self.pair.held.is_full() && self.next_frame() {
            let frame = std::mem::take(&mut self.pair.rx_frame);
            self.pair.held.request = port.is_some_and(|port| is_request(&frame.bytes, port));
            self.pair.held.frames.push_back(frame);
            pass = Pass::Changed;
        }
        let due = self.pair.wire.due();
        if !self.pair.held.is_full() {
            self.wake_at(due);
        }
        pass
    }

    /// Lets frames through to the guest.
    fn open_wire(&mut self) -> Result<Pass, RingError> {
        let mut starved = false;
        if !self.pair.held.frames.is_empty() && self.rx.is_some() {
            self.release()?;
            starved = !self.pair.held.frames.is_empty();
        }
        let port = self.pair.adversary.request_port();
        let (mut taken, mut unpublished) = (0, 0);
        while !starved {
            if self.pair.wire.waits()
                && let Some(ring) = &mut self.rx
                && ring.ready()? == 0
            {
                starved = true;
                break;
            }
            if taken == RX_BUDGET {
                self.again = true;
                break;
            }
            if !self.next_frame() {
                break;
            }
            taken += 1;
            let mut frame = std::mem::take(&mut self.pair.rx_frame);
            let request = port.is_some_and(|port| is_request(&frame.bytes, port));
            let timestamp = Instant::now();
            let staged = self.stage(&mut frame, timestamp)?;
            self.pair.rx_frame = frame;
            match staged {
                Staged::Done => unpublished += 1,
                Staged::NoBuffers if self.pair.wire.waits() => {
                    let frame = std::mem::take(&mut self.pair.rx_frame);
                    self.pair.held.frames.push_front(frame);
                    starved = true;
                }
                Staged::NoBuffers => self.pair.counters.rx_no_buffers += 1,
                Staged::Dropped => {}
            }
            if request && staged == Staged::Done {
                self.flush();
                if let Some(published) = self.published(timestamp) {
                    self.pair.adversary.request_published(published);
                    return Ok(Pass::Changed);
                }
            }
            if unpublished == RX_BATCH {
                self.flush();
                unpublished = 0;
            }
        }
        self.flush();
        let due = self.pair.wire.due();
        self.wake_at(due);
        self.settle_kicks(starved)
    }

    /// With buffers at hand a kick of the receive queue says nothing; without, it is what the device waits for.
    fn settle_kicks(&mut self, starved: bool) -> Result<Pass, RingError> {
        let Some(ring) = &mut self.rx else { return Ok(Pass::Quiet) };
        if starved {
            return Ok(if ring.ask_for_kicks()? { Pass::Changed } else { Pass::Quiet });
        }
        // A driver with an area kicks this queue to arm it.
        if self.cells.is_none() {
            ring.forgo_kicks();
        } else {
            ring.allow_kicks();
        }
        Ok(Pass::Quiet)
    }

    /// Copies a frame into the guest and writes its records. [`Self::flush`] makes it visible.
    fn stage(&mut self, frame: &mut Frame, timestamp: Instant) -> Result<Staged, RingError> {
        let pair = &mut *self.pair;
        let Some(ring) = &mut self.rx else {
            pair.counters.rx_not_running += 1;
            return Ok(Staged::Dropped);
        };
        if !pair.features.guest_csum() && frame.header.complete_checksum(&mut frame.bytes).is_err() {
            pair.counters.rx_malformed += 1;
            return Ok(Staged::Dropped);
        }
        let completions = match self.receiver.deliver(ring, &self.view, pair.features, frame.header, &frame.bytes)? {
            Delivery::Staged(completions) => completions,
            Delivery::NoBuffers => return Ok(Staged::NoBuffers),
            Delivery::TooBig => {
                pair.counters.rx_too_big += 1;
                return Ok(Staged::Dropped);
            }
        };
        pair.counters.rx_frames += 1;
        pair.counters.rx_bytes += frame.bytes.len() as u64;
        pair.counters.rx_completions += u64::from(completions);
        if let (Some(cells), Some(area)) = (&self.cells, &mut pair.area) {
            area.irq.due(&self.progress);
            let first = area.irq.interrupts().produced();
            for offset in 0..completions {
                cells.record_rx(first.plus(offset.into()), timestamp);
            }
            area.irq.published(completions.into(), timestamp);
        }
        Ok(Staged::Done)
    }

    /// Makes staged frames visible to the guest. Interrupts come later: see [`Self::interrupt`].
    fn flush(&mut self) {
        if let Some(ring) = &mut self.rx {
            ring.publish();
        }
    }

    /// Raises the receive interrupt if one is due.
    fn interrupt(&mut self) {
        if self.cells.is_some() {
            if let Some(area) = &mut self.pair.area {
                let request = area.irq.poll(Instant::now());
                self.carry_out(request);
            }
            if let Some(ring) = &mut self.rx {
                ring.told_by_other_means();
            }
        } else if let Some(ring) = &mut self.rx
            && ring.must_tell()
        {
            self.pair.counters.rx_interrupts += 1;
            self.lines.raise(RX);
        }
    }

    fn carry_out(&mut self, request: Request) {
        match request {
            Request::None => {}
            Request::Raise(number) => {
                if let Some(cells) = &self.cells {
                    cells.set_fired(number);
                }
                self.pair.counters.rx_interrupts += 1;
                self.lines.raise(RX);
            }
            Request::At(due) => self.wake_at(Some(due)),
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staged {
    Done,
    NoBuffers,
    Dropped,
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session: what the worker does between waking up and going to sleep.
//!
//! The rings and the page are borrowed from one snapshot of guest memory and never outlive the
//! call, so a queue that is stopped, or a memory table that is replaced, between two sessions
//! cannot be touched by mistake.

mod interrupt;
mod mailbox;
mod receive;
mod stall;
mod transmit;

use std::cell::RefCell;

use receive::{Pass, Staged};
use tsnic_core::policy::decision::Cause;
use tsnic_core::progress::Progress;
use tsnic_core::run::{
    Actions, Arrival, Generated, HeldFrames, Observation, PageView, Publish, Published,
};
use tsnic_core::spec::Stimulus;
use tsnic_core::time::Instant;
use vm_memory::GuestMemoryMmap;

use super::chain::Chain;
use super::memory::GuestView;
use super::pair::{Lines, Next, Pair, Parts, QueueSetup, RX, TX, path_command};
use super::queue_page::QueuePage;
use super::ring::{Ring, RingError};
use super::rx::Receiver;
use crate::clock::Clock;
use crate::port::{Port, frames};

/// Steps of the adversary in one session.
const STEP_BUDGET: u32 = 64;

/// Bytes of payload of a datagram the adversary has made up.
const DATAGRAM_LEN: u16 = 32;

/// Does everything that is to be done now. `setups` are the queues of the pair that are started and
/// enabled.
pub fn service<P: Port, C: Clock>(
    pair: &mut Pair<P, C>,
    memory: &GuestMemoryMmap,
    setups: [Option<QueueSetup>; 2],
    lines: &dyn Lines,
) -> Next {
    let view = GuestView::new(memory);
    let [rx, tx] =
        [RX, TX].map(|queue| setups[queue].and_then(|setup| pair.open(&view, queue, setup)));
    Session::new(pair, view, lines, rx, tx).run()
}

struct Session<'m, 's, P, C> {
    pair: &'s mut Pair<P, C>,
    view: GuestView<'m>,
    lines: &'s dyn Lines,
    rx: Option<Ring<'m>>,
    tx: Option<Ring<'m>>,
    cells: Option<QueuePage<'m>>,
    receiver: Receiver<'m>,
    chain: Chain<'m>,
    progress: Progress,
    arrival: Arrival,
    /// Frames taken from the port and passed on at once.
    frames: u32,
    /// Bytes of the frames sent that are not published yet.
    sent_bytes: u32,
    /// Transmit entries were found that the guest had not kicked for.
    unkicked: bool,
    /// A budget was used up, or the paths have changed.
    again: bool,
    /// Work comes at this time at the latest.
    due: Option<Instant>,
}

impl<'m, 's, P: Port, C: Clock> Session<'m, 's, P, C> {
    fn new(
        pair: &'s mut Pair<P, C>,
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
            arrival: Arrival::default(),
            frames: 0,
            sent_bytes: 0,
            unkicked: false,
            again: false,
            due: None,
        };
        session.open_page();
        session
    }

    /// Resolves the page anew, for the memory may be another since the last session.
    ///
    /// The page counts what both rings complete. So while only one of them has been started again
    /// after a stop, that one waits for the other: a completion the page knows nothing of would put
    /// its numbers out of step for good.
    fn open_page(&mut self) {
        let Some(page) = &self.pair.page else { return };
        if self.rx.is_none() || self.tx.is_none() {
            (self.rx, self.tx) = (None, None);
            return;
        }
        match QueuePage::open(&self.view, page.address) {
            Ok(cells) => self.cells = Some(cells),
            Err(_) => self.pair.forget_page(Some(&self.view), "it is no longer guest memory"),
        }
    }

    fn run(mut self) -> Next {
        self.pair.poll_port_state();
        if let Err(error) = self.transmit() {
            self.pair.broken(&self.view, TX, &error);
            self.tx = None;
            self.cells = None;
        }
        // Before the receive queue: other limits are for the packets that wait, too.
        self.serve_mailbox();
        let now = self.pair.now();
        let sent_next = self.pair.port.send_due(now);
        self.wake_at(sent_next);
        let transmit_due = self.due.take();
        // Once more after the queue has broken, with no queue that could break: a run has to learn
        // of it, and say how long it waits.
        while let Err(error) = self.receive() {
            // What was staged before the ring broke is given back all the same.
            self.flush();
            self.pair.broken(&self.view, RX, &error);
            self.rx = None;
            self.cells = None;
        }
        self.look_for_stalls();
        for (queue, ring) in [(RX, &self.rx), (TX, &self.tx)] {
            if let Some(ring) = ring {
                self.pair.look_for_emptiness(queue, ring);
                self.pair.keep(queue, ring.state());
            }
        }
        self.wake_at(transmit_due);
        self.pair.count_packets();
        self.pair.tell_losses();
        self.pair.note_port_state();
        if self.pair.port.detached().is_some() {
            self.wake_at(self.pair.port.due());
        }
        match self.due {
            _ if self.again => Next::AtOnce,
            Some(due) if self.pair.paths.iter().any(|path| path.placed() == Some(due)) => {
                Next::Placed(due)
            }
            Some(due) => Next::At(due),
            None => Next::Event,
        }
    }

    fn receive(&mut self) -> Result<(), RingError> {
        for _ in 0..STEP_BUDGET {
            if self.is_spent() {
                break;
            }
            let now = self.pair.now();
            self.due = None;
            self.look(now);
            let mut actions = self.step(now);
            self.pair.control.report(&mut actions);
            let changed = self.obey(&actions)?;
            let changed = changed || self.poll_port(actions.port)? == Pass::Changed;
            if !actions.hold {
                self.interrupt(Cause::Completions);
            }
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
        let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page) else { return };
        // The doorbell last: an arm that was written before the guest came to a rendezvous must not
        // be missed.
        self.arrival = cells.arrival();
        self.progress = cells.progress();
        let doorbell = cells.doorbell();
        if page.irq.doorbell(doorbell, &self.progress, now) {
            self.pair.counters.arms += 1;
        }
    }

    /// Serves the control socket and asks the adversary.
    fn step(&mut self, now: Instant) -> Actions {
        let Pair {
            page,
            adversary,
            control,
            number,
            queues,
            paths,
            lateness,
            clock,
            counters,
            held,
            commands_wait,
            port,
            port_detached,
            stalls,
            ..
        } = &mut *self.pair;
        let seen = Observation {
            page: page.as_ref().filter(|_| self.cells.is_some()).map(|page| PageView {
                generation: page.generation,
                irq: &page.irq,
                progress: self.progress,
                arrival: self.arrival,
            }),
            held: HeldFrames { count: held.frames.len() as u32, request: held.request },
        };
        if std::mem::take(commands_wait) {
            let again = &mut self.again;
            let parts = RefCell::new((paths, lateness, port));
            control.serve(
                adversary,
                now,
                &seen,
                |command| {
                    // The transmit path and the port have been polled in this session.
                    *again = true;
                    let (paths, lateness, port) = &mut *parts.borrow_mut();
                    path_command(&*clock, paths, lateness, port, command, now)
                },
                || {
                    let (paths, lateness, port) = &*parts.borrow();
                    Parts {
                        number: *number,
                        queues,
                        paths,
                        lateness,
                        page: page.as_ref(),
                        port_detached: port_detached.as_ref(),
                        wire: port.status(),
                        stalls: stalls.as_ref(),
                        clock: (clock.now(), clock.rate()),
                        counters,
                    }
                    .status()
                },
            );
        }
        adversary.step(now, &seen)
    }

    /// Carries out one step of the adversary. True when it has to be stepped again at once.
    fn obey(&mut self, actions: &Actions) -> Result<bool, RingError> {
        if let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page)
            && page.requested != actions.requested
        {
            page.requested = actions.requested;
            cells.set_requested(actions.requested);
        }
        self.pair.port_policy = actions.port;
        let mut fire = actions.fire;
        if let Some(publish) = actions.publish {
            if let Some(published) = self.publish(publish)? {
                self.pair.adversary.published(published);
            } else {
                self.pair.adversary.publish_failed(self.pair.now());
                fire = false;
            }
        }
        if fire {
            self.interrupt(Cause::Injection);
        }
        if let (Some(number), Some(cells)) = (actions.release, &self.cells) {
            cells.release(number);
            self.pair.counters.releases += 1;
        }
        Ok(actions.publish.is_some())
    }

    /// Publishes what the adversary asked for; `None` when not all of it could be: see
    /// [`Self::release`].
    fn publish(&mut self, publish: Publish) -> Result<Option<Published>, RingError> {
        match publish {
            Publish::Generated { kind, serial } => {
                let Some(flow) = self.pair.adversary.flow() else { return Ok(None) };
                let mut frame = match kind {
                    Generated::Stimulus(Stimulus::GroHeld) => frames::gro_held(&flow, serial),
                    _ => frames::udp(&flow, serial, DATAGRAM_LEN),
                };
                let now = self.pair.clock.now();
                let staged = self.stage(&mut frame, now)?;
                self.flush();
                Ok(if staged == Staged::Done { self.published(now) } else { None })
            }
            Publish::Burst { segment, serial, datagrams } => {
                let Some(flow) = self.pair.adversary.flow() else { return Ok(None) };
                let mut frame = frames::gro_end(&flow, segment);
                let now = self.pair.clock.now();
                let mut staged = self.stage(&mut frame, now)?;
                for offset in 0..datagrams {
                    if staged != Staged::Done {
                        break;
                    }
                    let serial = serial.wrapping_add(offset);
                    staged = self.stage(&mut frames::udp(&flow, serial, DATAGRAM_LEN), now)?;
                }
                self.flush();
                Ok(if staged == Staged::Done { self.published(now) } else { None })
            }
            Publish::Held => self.release(),
        }
    }
}

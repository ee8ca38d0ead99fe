// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The queues of a pair: started, stopped, broken, kicked.

use tracing::{debug, warn};

use super::{Pair, QueueSetup, RX, Running, TX};
use crate::clock::Clock;
use crate::net::empty_kicks::EmptyKicks;
use crate::net::event::Event;
use crate::net::index::Index;
use crate::net::memory::GuestView;
use crate::net::ring::{Ring, RingError, RingState};
use crate::port::Port;

impl<P: Port, C: Clock> Pair<P, C> {
    /// Stops a queue. Nothing touches it, or the page, until [`crate::net::session::service`] is told
    /// that both run again.
    pub fn stop(&mut self, queue: usize) {
        let stopped = &mut self.queues[queue];
        if let Some(running) = stopped.running.take() {
            stopped.stopped = (!running.broken).then_some((running.config, running.state));
            self.tell(|| Event::Stopped(queue));
        }
    }

    /// The start of a queue that runs, and the available entries taken: what it has to be told to
    /// start from after a stop.
    #[must_use]
    pub fn next_avail(&self, queue: usize) -> Option<(u32, Index)> {
        self.queues[queue].running.as_ref().map(|running| (running.start, running.state.next_avail))
    }

    /// Opens a session of one ring, starting the ring first when it does not run yet.
    pub(in crate::net) fn open<'m>(
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
        self.tell(|| Event::Started(queue));
        debug!(pair = self.number, queue, next_avail = %setup.next_avail, resumed, "Queue started");
        Ok(ring)
    }

    /// Keeps what has to outlive a session.
    pub(in crate::net) fn keep(&mut self, queue: usize, state: RingState) {
        if let Some(running) = &mut self.queues[queue].running {
            running.state = state;
        }
    }

    /// Leaves a queue alone until its reset.
    pub(in crate::net) fn broken(&mut self, view: &GuestView<'_>, queue: usize, error: &RingError) {
        if let Some(running) = &mut self.queues[queue].running {
            running.broken = true;
        }
        self.counters.queues_broken += 1;
        self.tell(|| Event::Broken(queue, error.to_string()));
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

    /// The guest has kicked a queue.
    pub fn kicked(&mut self, queue: usize) {
        self.kicks[queue] = self.kicks[queue].wrapping_add(1);
        let running = self.queues[queue].running.as_mut();
        if let Some(kicks) = running.and_then(|running| running.empty_kicks.as_mut()) {
            kicks.kicked(self.clock.now().timer);
        }
    }

    /// A queue that the guest kicks and that has never had an entry: says once what that means.
    pub(in crate::net) fn look_for_emptiness(&mut self, queue: usize, ring: &Ring<'_>) {
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

    /// What was seen of a queue does not count any more.
    pub(super) fn reset_stalls(&mut self, queue: usize) {
        if let Some(detectors) = &mut self.stalls {
            detectors[queue].reset();
        }
        if queue == RX {
            self.starved = false;
        } else {
            self.kick_asked = None;
        }
    }
}

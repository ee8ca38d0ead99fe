// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The receive side of a session: frames from the port into the guest, or held back for the
//! adversary.

use tsnic_core::policy::decision::Cause;
use tsnic_core::run::{PortPolicy, Published};
use tsnic_core::time::{NicTime, Now};

use super::Session;
use crate::clock::Clock;
use crate::frame::Frame;
use crate::net::pair::RX;
use crate::net::ring::{Ring, RingError};
use crate::net::rx::Delivery;
use crate::port::Port;
use crate::port::request::is_request;

/// Frames taken from the port in one session and passed on at once.
const BUDGET: u32 = 256;

/// Frames published together.
const BATCH: u32 = 32;

/// What became of a pass over the port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nothing the adversary has to know.
    Quiet,
    /// It has to be stepped again.
    Changed,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Staged {
    Done,
    NoBuffers,
    /// Lost, but its buffers have been given back.
    Unshared,
    Dropped,
}

impl<P: Port, C: Clock> Session<'_, '_, P, C> {
    /// Reads the port as the adversary allows.
    pub(super) fn poll_port(&mut self, policy: PortPolicy) -> Result<Pass, RingError> {
        match policy {
            PortPolicy::Shut => Ok(Pass::Quiet),
            PortPolicy::Hold => Ok(self.hold()),
            PortPolicy::Open => self.poll_open_port(),
        }
    }

    /// The next frame of the port, in the pair's scratch frame. Without a receive queue frames stay
    /// in the port: the queue may go on where it was stopped (a VMM's stop and cont), and no frame
    /// is to be missing then.
    fn next_frame(&mut self) -> bool {
        let pair = &mut *self.pair;
        self.rx.is_some() && pair.port.receive(pair.clock.now().timer, &mut pair.rx_frame)
    }

    /// The next frame for the guest, and whether it waits when there are no buffers: one that was
    /// held back does, and one from a port that waits.
    fn next_for_guest(&mut self) -> Option<(Frame, bool)> {
        if let Some(frame) = self.pair.held.pop() {
            return Some((frame, true));
        }
        let waits = self.pair.port.waits();
        self.next_frame().then(|| (std::mem::take(&mut self.pair.rx_frame), waits))
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
        let due = self.pair.port.due().filter(|_| self.rx.is_some());
        if !self.pair.held.is_full() {
            self.wake_at(due);
        }
        pass
    }

    /// Lets frames through to the guest.
    fn poll_open_port(&mut self) -> Result<Pass, RingError> {
        if self.rx.is_none() {
            return Ok(Pass::Quiet);
        }
        // The guest had no buffers for a frame; and one is waiting for them.
        let (mut no_buffers, mut starved) = (false, false);
        let port = self.pair.adversary.request_port();
        let mut unpublished = 0;
        loop {
            if self.pair.port.waits()
                && let Some(ring) = &mut self.rx
                && ring.ready()? == 0
            {
                starved = true;
                self.keep_one_waiting(port);
                break;
            }
            if self.frames == BUDGET || self.is_spent() {
                self.again = true;
                break;
            }
            let Some((mut frame, waits)) = self.next_for_guest() else { break };
            self.frames += 1;
            let request = port.is_some_and(|port| is_request(&frame.bytes, port));
            let now = self.pair.clock.now();
            let staged = self.stage(&mut frame, now)?;
            self.pair.starved = staged == Staged::NoBuffers;
            if staged == Staged::NoBuffers && waits {
                self.pair.held.put_back(frame, request);
                starved = true;
                break;
            }
            self.pair.rx_frame = frame;
            match staged {
                Staged::Done | Staged::Unshared => unpublished += 1,
                Staged::NoBuffers => {
                    self.pair.counters.rx_no_buffers += 1;
                    no_buffers = true;
                }
                Staged::Dropped => {}
            }
            if request && staged == Staged::Done {
                self.flush();
                if let Some(published) = self.published(now) {
                    self.pair.adversary.request_published(published);
                    return Ok(Pass::Changed);
                }
            }
            if unpublished == BATCH {
                self.flush();
                unpublished = 0;
            }
        }
        self.flush();
        if starved || no_buffers {
            // The ring is full of packets that no interrupt has signaled: moderation must not wait
            // for more of them.
            self.interrupt(Cause::OutOfBuffers);
        }
        if !starved {
            // Otherwise what is due has to wait, for buffers.
            let due = self.pair.port.due();
            self.wake_at(due);
        }
        self.settle_kicks(starved)
    }

    /// There are no buffers. The stall detector has to know whether a frame waits for them: only
    /// who reads the port does.
    fn keep_one_waiting(&mut self, request_port: Option<u16>) {
        if self.pair.stalls.is_none() || !self.pair.port.gathers() {
            return;
        }
        if self.pair.held.frames.is_empty() && self.next_frame() {
            let frame = std::mem::take(&mut self.pair.rx_frame);
            let request = request_port.is_some_and(|port| is_request(&frame.bytes, port));
            self.pair.held.put_back(frame, request);
        }
        self.pair.starved = !self.pair.held.frames.is_empty();
    }

    /// The receive queue's descriptors of this session are used up.
    pub(super) fn is_spent(&self) -> bool {
        self.rx.as_ref().is_some_and(Ring::is_spent)
    }

    /// With buffers at hand a kick of the receive queue says nothing; without, it is what the
    /// device waits for.
    fn settle_kicks(&mut self, starved: bool) -> Result<Pass, RingError> {
        let Some(ring) = &mut self.rx else { return Ok(Pass::Quiet) };
        if starved {
            return Ok(if ring.enable_notification()? { Pass::Changed } else { Pass::Quiet });
        }
        // A driver with a page kicks this queue to arm it.
        if self.cells.is_none() {
            ring.disable_notification();
        } else {
            ring.allow_kicks();
        }
        Ok(Pass::Quiet)
    }

    /// Copies a frame into the guest and writes its records. [`Self::flush`] makes it visible.
    pub(super) fn stage(&mut self, frame: &mut Frame, now: Now) -> Result<Staged, RingError> {
        let pair = &mut *self.pair;
        let Some(ring) = &mut self.rx else {
            pair.counters.rx_not_running += 1;
            return Ok(Staged::Dropped);
        };
        // The port does not bring the first kind.
        if frame.header.is_segmented()
            || !pair.features.guest_csum()
                && frame.header.complete_checksum(&mut frame.bytes).is_err()
        {
            pair.counters.rx_malformed += 1;
            return Ok(Staged::Dropped);
        }
        let completions = match self.receiver.deliver(
            ring,
            &self.view,
            pair.features,
            frame.header,
            &frame.bytes,
        )? {
            Delivery::Staged(completions) => completions,
            Delivery::NoBuffers => return Ok(Staged::NoBuffers),
            Delivery::Unshared(completions, error) => {
                pair.counters.rx_unshared += 1;
                pair.counters.rx_completions += u64::from(completions);
                pair.unshared(&error);
                self.complete(completions, 0, now, None);
                return Ok(Staged::Unshared);
            }
            Delivery::TooBig => {
                pair.counters.rx_too_big += 1;
                return Ok(Staged::Dropped);
            }
        };
        pair.counters.rx_frames += 1;
        pair.counters.rx_bytes += frame.bytes.len() as u64;
        pair.counters.rx_completions += u64::from(completions);
        let bytes = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        self.complete(completions, bytes, now, Some(now.nic));
        Ok(Staged::Done)
    }

    /// A frame of `completions` and `bytes` has been staged: writes its records and tells the
    /// interrupt state.
    fn complete(&mut self, completions: u16, bytes: u32, now: Now, entered: Option<NicTime>) {
        self.look_before_the_verdict();
        if let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page) {
            page.irq.due(&self.progress);
            let first = page.irq.interrupts().produced();
            for offset in 0..completions {
                cells.record_rx(first.plus(offset.into()), entered);
            }
            page.irq.published(completions.into());
        }
        self.pair.paths[RX].published(completions.into(), bytes, now.timer);
    }

    /// A frame ends an open loss candidate, and the driver has had time since this step began.
    /// Without a candidate nothing hangs on it.
    fn look_before_the_verdict(&mut self) {
        if self.pair.page.as_ref().is_some_and(|page| page.irq.detector().is_open()) {
            self.look(self.pair.now());
        }
    }

    /// Makes staged frames visible to the guest. Interrupts come later: see [`Self::interrupt`].
    pub(super) fn flush(&mut self) {
        if let Some(ring) = &mut self.rx {
            ring.publish();
        }
    }

    /// Publishes every frame held back; `None` when there were none, or not all of them could be:
    /// buffers ran out, or the session's descriptors. The rest stays held.
    pub(super) fn release(&mut self) -> Result<Option<Published>, RingError> {
        let port = self.pair.adversary.request_port();
        let mut latest = None;
        while !self.is_spent()
            && let Some(mut frame) = self.pair.held.pop()
        {
            let now = self.pair.clock.now();
            match self.stage(&mut frame, now)? {
                Staged::Done => latest = Some(now),
                Staged::Dropped | Staged::Unshared => {}
                Staged::NoBuffers => {
                    let request = port.is_some_and(|port| is_request(&frame.bytes, port));
                    self.pair.held.put_back(frame, request);
                    break;
                }
            }
        }
        self.flush();
        if !self.pair.held.frames.is_empty() {
            return Ok(None);
        }
        Ok(latest.and_then(|now| self.published(now)))
    }

    pub(super) fn published(&self, now: Now) -> Option<Published> {
        let page = self.pair.page.as_ref()?;
        Some(Published { end: page.irq.interrupts().produced(), at: now.timer, timestamp: now.nic })
    }
}

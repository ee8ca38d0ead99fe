// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The port of a pair, and the frames of its that get lost.

use tracing::warn;
use tsnic_core::wire;

use super::Pair;
use crate::clock::Clock;
use crate::net::event::Event;
use crate::net::held_frames::HeldFrames;
use crate::net::memory::MemoryError;
use crate::port::Port;

/// Frames that came in while no guest was there, discarded at a time. More than a host queues by
/// default; a sender that is faster than they are discarded must not keep the worker here.
pub(super) const STALE_MAX: u32 = 4096;

impl<P: Port, C: Clock> Pair<P, C> {
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
        if let Err(error) = self.port.set_active(active)
            && let Some(line) = self.limited.port_queue.line(self.clock.now().timer)
        {
            let (pair, left_out) = (self.number, line.left_out);
            warn!(pair, left_out, %error, "The port's queue cannot be switched on or off");
        }
    }

    /// Lets the port look for its interface when it has none or somebody wants to know, and tells
    /// what has become of it.
    pub(in crate::net) fn poll_port_state(&mut self) {
        if self.commands_wait || self.port.detached().is_some() {
            let now = self.now();
            self.port.poll(now);
        }
        self.note_port_state();
    }

    /// Counts and logs that the port has gone or come back. Call it after anything that uses the
    /// port.
    pub(in crate::net) fn note_port_state(&mut self) {
        let reason = self.port.detached();
        if reason == self.port_detached.as_deref() {
            return;
        }
        let line = self.limited.port.line(self.clock.now().timer);
        if let Some(reason) = reason {
            self.counters.port_detached += u64::from(self.port_detached.is_none());
            self.tell(|| Event::PortDetached(reason.to_owned()));
            if let Some(line) = line {
                let left_out = line.left_out;
                warn!(
                    pair = self.number,
                    left_out, "No frames go in or out until the port is back: {reason}"
                );
            }
        } else {
            self.counters.port_reattached += 1;
            self.tell(|| Event::PortAttached);
            if let Some(line) = line {
                warn!(pair = self.number, left_out = line.left_out, "The port is back");
            }
        }
        self.port_detached = reason.map(ToOwned::to_owned);
    }

    /// Discards the frames that came in before the guest could receive.
    pub(super) fn discard_stale_frames(&mut self) {
        self.discard_held();
        if self.port.gathers() {
            for _ in 0..STALE_MAX {
                if !self.port.receive(self.clock.now().timer, &mut self.rx_frame) {
                    break;
                }
                self.counters.rx_not_running += 1;
            }
        }
    }

    /// Frames that were held back for a guest that is gone.
    pub(super) fn discard_held(&mut self) {
        self.counters.rx_not_running += self.held.frames.len() as u64;
        self.held = HeldFrames::default();
    }

    /// A buffer was not in memory that the front end shares, and its frame is lost.
    pub(in crate::net) fn unshared(&mut self, error: &MemoryError) {
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

    /// Counts what the policies of the wire have done.
    pub(in crate::net) fn count_packets(&mut self) {
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
}

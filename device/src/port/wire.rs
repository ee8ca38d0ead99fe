// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wire between a port and the device: a port round another one, with packet policies for both
//! directions.
//!
//! A frame from the port enters the device's MAC, where it is stamped, when it has come to the end
//! of the wire. A frame from the guest has left the MAC, and is stamped, when it enters it: what
//! happens to it then the device does not see.

use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tsnic_core::policy::spec::SpecError;
use tsnic_core::time::Instant;
use tsnic_core::wire::spec::{PacketSpec, check};
use tsnic_core::wire::{self, HELD_MAX, Medium, Tally};

use super::Port;
use crate::frame::{Frame, NetHeader};

#[cfg(test)]
mod tests;

/// Frames of the port looked at in one call though the policies let none of them through. A sender
/// must not keep the worker here.
const LOOKS: u32 = 64;

/// The port is looked at again so long after that.
const LOOK_AGAIN: Duration = Duration::from_micros(1);

/// What a direction of the wire does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Names of its policies, in their order.
    pub policies: Vec<&'static str>,
    /// Frames on it.
    pub frames: usize,
}

/// Both directions: that of the receive queue, and that of the transmit queue.
pub type Directions = [Direction; 2];

/// A port with a wire.
#[derive(Debug)]
pub struct Wire<P> {
    port: P,
    /// To the guest.
    rx: wire::Wire<Frame>,
    /// From the guest.
    tx: wire::Wire<Frame>,
    spare: Spare,
    /// The port may have more frames.
    look_again: Option<Instant>,
    /// Frames that the port did not take at the end of the wire.
    refused: u64,
}

impl<P: Port> Wire<P> {
    /// Round `port`, without policies.
    pub fn new(port: P) -> Self {
        Self {
            port,
            rx: wire::Wire::default(),
            tx: wire::Wire::default(),
            spare: Spare::default(),
            look_again: None,
            refused: 0,
        }
    }

    /// The port it is round.
    pub const fn port(&self) -> &P {
        &self.port
    }

    /// Other policies for frames to the guest, and from it. What was on the wire has come to its
    /// end.
    ///
    /// # Errors
    /// When a field is out of range; nothing has changed then.
    pub fn set_policies(
        &mut self,
        seed: u64,
        specs: &[Vec<PacketSpec>; 2],
    ) -> Result<(), SpecError> {
        let [to_guest, from_guest] = specs;
        check(from_guest)?;
        // A seed of its own for each direction, so that none follows the other.
        self.rx.set_policies(to_guest, seed)?;
        self.tx.set_policies(from_guest, !seed)
    }

    /// What it does; `None` when it does nothing.
    pub fn status(&self) -> Option<Directions> {
        let direction = |wire: &wire::Wire<Frame>| Direction {
            policies: wire.policies().map(PacketSpec::name).collect(),
            frames: wire.frames(),
        };
        let plain = self.rx.is_plain() && self.tx.is_plain();
        (!plain).then(|| [&self.rx, &self.tx].map(direction))
    }

    /// What the policies have done since the last call.
    pub fn take_tally(&mut self) -> Tally {
        let (rx, tx) = (self.rx.take_tally(), self.tx.take_tally());
        Tally {
            dropped: rx.dropped + tx.dropped,
            duplicated: rx.duplicated + tx.duplicated,
            reordered: rx.reordered + tx.reordered,
            corrupted: rx.corrupted + tx.corrupted,
            delayed: rx.delayed + tx.delayed,
            not_held: rx.not_held + tx.not_held,
        }
    }

    /// Frames that the port has not taken at the end of the wire since the last call.
    pub fn take_refused(&mut self) -> u64 {
        mem::take(&mut self.refused)
    }

    /// Sends what is on its way from the guest, due or not.
    pub fn send_all(&mut self, now: Instant) {
        self.tx.end_holds();
        self.send_out(now);
    }

    /// Gives the port what has come to the end of the wire.
    fn send_out(&mut self, now: Instant) {
        while let Some(frame) = self.tx.take(now, &mut self.spare) {
            let sent = self.port.send(now, frame.header, &frame.bytes);
            self.refused += u64::from(sent.is_err());
            self.spare.discard(frame);
        }
    }
}

impl<P: Port> Port for Wire<P> {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        self.port.event()
    }

    fn readable(&mut self) {
        self.port.readable();
    }

    fn poll(&mut self, now: Instant) {
        self.port.poll(now);
        self.rx.advance(now, &mut self.spare);
        self.look_again = None;
    }

    fn detached(&self) -> Option<&str> {
        self.port.detached()
    }

    fn receive(&mut self, now: Instant, frame: &mut Frame) -> bool {
        self.look_again = None;
        if self.rx.is_plain() {
            return self.port.receive(now, frame);
        }
        for _ in 0..LOOKS {
            if let Some(arrived) = self.rx.take(now, &mut self.spare) {
                let scratch = mem::replace(frame, arrived);
                self.spare.discard(scratch);
                return true;
            }
            let mut next = self.spare.take();
            if !self.port.receive(now, &mut next) {
                self.spare.discard(next);
                return false;
            }
            self.rx.put(next, now, &mut self.spare);
        }
        self.look_again = Some(now.plus(LOOK_AGAIN));
        false
    }

    fn due(&self) -> Option<Instant> {
        [self.port.due(), self.rx.due(), self.look_again].into_iter().flatten().min()
    }

    fn waits(&self) -> bool {
        self.port.waits()
    }

    fn gathers(&self) -> bool {
        self.port.gathers()
    }

    /// With policies it never fails: the frame has entered the wire.
    fn send(&mut self, now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        if self.tx.is_plain() {
            return self.port.send(now, header, frame);
        }
        let mut entering = self.spare.take();
        entering.header = header;
        entering.bytes.clear();
        entering.bytes.extend_from_slice(frame);
        self.tx.put(entering, now, &mut self.spare);
        self.send_out(now);
        Ok(())
    }

    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        if self.tx.is_plain() {
            return self.port.send_due(now);
        }
        self.send_out(now);
        [self.port.send_due(now), self.tx.due()].into_iter().flatten().min()
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.port.set_active(active)
    }

    fn allow_open_checksums(&mut self, allow: bool) -> io::Result<()> {
        self.port.allow_open_checksums(allow)
    }
}

/// Frames whose allocations are used again: as many as can be on the wire in both directions.
#[derive(Debug, Default)]
struct Spare(Vec<Frame>);

impl Spare {
    fn take(&mut self) -> Frame {
        self.0.pop().unwrap_or_default()
    }
}

impl Medium for Spare {
    type Frame = Frame;

    fn copy(&mut self, frame: &Frame) -> Frame {
        let mut copy = self.take();
        copy.header = frame.header;
        copy.bytes.clone_from(&frame.bytes);
        copy
    }

    /// A wire has no checksums that are still open, nor any that have been checked: with the bit
    /// the receiver gets what it needs to find out.
    fn flip(&mut self, frame: &mut Frame, draw: u64) {
        let bits = 8 * frame.bytes.len() as u64;
        // A checksum outside of the frame is found by who looks at its header later.
        if bits != 0 && frame.header.complete_checksum(&mut frame.bytes).is_ok() {
            let bit = draw % bits;
            frame.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }

    fn discard(&mut self, frame: Frame) {
        if self.0.len() < 2 * HELD_MAX {
            self.0.push(frame);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupt moderation, with the meaning of `ethtool -C`.

use alloc::collections::VecDeque;
use core::time::Duration;

use tsnic_abi::{Counter, RX_RECORDS};

use crate::time::Instant;

#[cfg(test)]
mod tests;

/// When a requested interrupt may be raised. The default, both 0, is: at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `rx-usecs`: microseconds from the first unsignaled packet. 0: no limit of time.
    pub rx_usecs: u32,
    /// `rx-frames`: unsignaled packets. 0: no limit of packets; more than [`RX_RECORDS`] is as much
    /// as that.
    ///
    /// Alone, with `rx_usecs` 0, it is bounded by [`FRAMES_ALONE_USECS`]: a request whose sender
    /// waits for the answer has no second packet behind it.
    pub rx_frames: u32,
}

/// Microseconds from the first unsignaled packet at which `rx-frames` without `rx-usecs` stops
/// waiting for more packets.
pub const FRAMES_ALONE_USECS: u32 = 1_000;

impl Limits {
    /// The limit of time in force, microseconds.
    #[must_use]
    pub const fn usecs(self) -> u32 {
        if self.rx_usecs == 0 && self.rx_frames != 0 { FRAMES_ALONE_USECS } else { self.rx_usecs }
    }
}

/// The answer to a requested interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Raise it now.
    Now,
    /// Raise it then, if nothing happens before.
    At(Instant),
}

/// Moderation of one receive queue.
#[derive(Clone, Debug)]
pub struct Moderation {
    limits: Limits,
    /// The unsignaled packets, oldest first: end completion number and time of publication. Empty
    /// while moderation is off, and never longer than [`RX_RECORDS`].
    packets: VecDeque<(Counter, Instant)>,
}

impl Moderation {
    /// Nothing published yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, packets: VecDeque::new() }
    }

    /// Whether [`Self::published`] has any effect.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.limits == Limits::default()
    }

    /// A packet has been published whose completions end before number `end`.
    pub fn published(&mut self, end: Counter, now: Instant) {
        if !self.is_off() {
            // The driver never has more descriptors out than this, however long the ring is. So it
            // has consumed the oldest one, though it has never armed since to say so. One that has
            // more out is interrupted when it has no more.
            if self.packets.len() == usize::from(RX_RECORDS) {
                self.packets.pop_front();
            }
            self.packets.push_back((end, now));
        }
    }

    /// Everything before `signaled` is covered, by an interrupt or by an arm.
    pub fn signaled(&mut self, signaled: Counter) {
        while self.packets.front().is_some_and(|(end, _)| !end.is_after(signaled)) {
            self.packets.pop_front();
        }
    }

    /// When an interrupt that is requested now may be raised.
    #[must_use]
    pub fn moment(&self, now: Instant) -> Moment {
        // Completions of unknown age, published before the registration, are not held back.
        let Some(&(_, first)) = self.packets.front() else { return Moment::Now };
        let rx_frames = self.limits.rx_frames;
        if rx_frames != 0 && self.packets.len() >= rx_frames.min(RX_RECORDS.into()) as usize {
            return Moment::Now;
        }
        let due = first.plus(Duration::from_micros(self.limits.usecs().into()));
        if now >= due { Moment::Now } else { Moment::At(due) }
    }
}

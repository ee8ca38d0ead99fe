// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupt moderation, with the meaning of `ethtool -C`.

use alloc::collections::VecDeque;
use core::time::Duration;

use tsnic_abi::Counter;

use crate::time::Instant;

mod adaptive;
#[cfg(test)]
mod tests;

use adaptive::Adaptive;

/// When a requested interrupt may be raised. The default, both 0, is: at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `rx-usecs`, `tx-usecs`: microseconds from the first unsignaled packet. 0: no limit of time.
    pub usecs: u32,
    /// `rx-frames`, `tx-frames`: unsignaled packets. 0: no limit of packets; more than the guest can
    /// have outstanding is as much as that.
    ///
    /// Alone, with `usecs` 0, it is bounded by [`FRAMES_ALONE_USECS`]: a request whose sender
    /// waits for the answer has no second packet behind it.
    pub frames: u32,
}

/// Microseconds from the first unsignaled packet at which frames without usecs stop
/// waiting for more packets.
pub const FRAMES_ALONE_USECS: u32 = 1_000;

/// Longest that an interrupt may be held back: one second.
pub const USECS_MAX: u32 = 1_000_000;

/// Most packets that an interrupt may be held back for: a ring of the usual size.
pub const FRAMES_MAX: u32 = 256;

impl Limits {
    /// The limit of time in force, microseconds.
    #[must_use]
    pub const fn bound_usecs(self) -> u32 {
        if self.usecs == 0 && self.frames != 0 { FRAMES_ALONE_USECS } else { self.usecs }
    }
}

/// How interrupts of one vector are moderated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// The limits in force when it is not adaptive.
    pub limits: Limits,
    /// The device chooses the limits by the traffic.
    pub adaptive: bool,
}

impl From<Limits> for Setting {
    fn from(limits: Limits) -> Self {
        Self { limits, adaptive: false }
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

/// Moderation of one queue.
#[derive(Clone, Debug)]
pub struct Moderation {
    /// The limits when it is not adaptive.
    fixed: Limits,
    adaptive: Option<Adaptive>,
    /// Most completions that the guest can have outstanding.
    outstanding: u16,
    /// The unsignaled packets, oldest first: end completion number and time of publication. Empty
    /// while moderation is off, and never longer than `outstanding`.
    packets: VecDeque<(Counter, Instant)>,
}

impl Moderation {
    /// Nothing published yet, by a device whose guest can have `outstanding` completions that it
    /// has not consumed (1 or more).
    #[must_use]
    pub fn new(setting: Setting, outstanding: u16) -> Self {
        Self {
            fixed: setting.limits,
            adaptive: setting.adaptive.then(Adaptive::default),
            outstanding,
            packets: VecDeque::new(),
        }
    }

    /// Moderates so from now on, also the packets that wait. What was adaptive and stays so goes on
    /// from where it is.
    pub fn set(&mut self, setting: Setting) {
        self.fixed = setting.limits;
        self.adaptive = setting.adaptive.then(|| self.adaptive.take().unwrap_or_default());
        if self.is_off() {
            self.packets.clear();
        }
    }

    /// How it moderates.
    #[must_use]
    pub const fn setting(&self) -> Setting {
        Setting { limits: self.fixed, adaptive: self.adaptive.is_some() }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.adaptive.as_ref().map_or(self.fixed, Adaptive::limits)
    }

    /// No packet has to be known: none is held back, now or later.
    #[must_use]
    fn is_off(&self) -> bool {
        self.adaptive.is_none() && self.fixed == Limits::default()
    }

    /// A packet of `bytes` has been published whose completions end before number `end`.
    pub fn published(&mut self, end: Counter, bytes: u32, now: Instant) {
        if self.is_off() {
            return;
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.published(1, bytes);
        }
        // The guest has consumed the oldest one, though it has not said so since.
        if self.packets.len() == usize::from(self.outstanding) {
            self.packets.pop_front();
        }
        self.packets.push_back((end, now));
    }

    /// An interrupt has been let through.
    pub fn interrupted(&mut self, now: Instant) {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.interrupted(now);
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
        let limits = self.limits();
        let enough = limits.frames.min(self.outstanding.into()) as usize;
        if limits.frames != 0 && self.packets.len() >= enough {
            return Moment::Now;
        }
        let due = first.plus(Duration::from_micros(limits.bound_usecs().into()));
        if now >= due { Moment::Now } else { Moment::At(due) }
    }
}

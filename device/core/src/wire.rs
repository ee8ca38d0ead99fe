// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wire: what becomes of a frame in one direction between the port and the device's MAC.
//!
//! A row of packet policies. A frame goes through them in their order; what one of them lets out,
//! copies included, is what the next one is given. Each is a seeded state machine: what happens to
//! the n-th frame that it is given follows from its seed and n.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::policy::spec::SpecError;
use crate::time::Instant;

pub mod spec;
mod stage;
#[cfg(test)]
mod tests;

use spec::PacketSpec;
use stage::{Fate, Stage};

/// Most frames that are on one direction of the wire, whatever the policies.
pub const HELD_MAX: usize = 256;

/// What frames are made of, and where they come from and go to when they are copied or lost.
pub trait Medium {
    /// A frame.
    type Frame;

    /// The same frame once more.
    fn copy(&mut self, frame: &Self::Frame) -> Self::Frame;

    /// Flips one bit of a frame, which `draw`, evenly distributed, chooses.
    fn flip(&mut self, frame: &mut Self::Frame, draw: u64);

    /// The frame is lost.
    fn discard(&mut self, frame: Self::Frame);
}

/// What the policies have done to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lost.
    pub dropped: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Held for later ones to overtake.
    pub reordered: u64,
    /// With a flipped bit.
    pub corrupted: u64,
    /// Held for a time.
    pub delayed: u64,
    /// Not held as long as they should have been, or not copied, because [`HELD_MAX`] were on the
    /// wire.
    pub not_held: u64,
}

/// One direction of the wire.
#[derive(Debug)]
pub struct Wire<F> {
    stages: Vec<Stage<F>>,
    /// What has come out at the end, in its order.
    out: VecDeque<F>,
    /// Frames that have entered or been copied, and have neither been lost nor taken.
    frames: usize,
    tally: Tally,
}

impl<F> Default for Wire<F> {
    fn default() -> Self {
        Self { stages: Vec::new(), out: VecDeque::new(), frames: 0, tally: Tally::default() }
    }
}

impl<F> Wire<F> {
    /// Other policies, from now on. What is held has come out.
    ///
    /// # Errors
    /// When a field is out of range; nothing has changed then.
    pub fn set_policies(&mut self, specs: &[PacketSpec], seed: u64) -> Result<(), SpecError> {
        spec::check(specs)?;
        self.end_holds();
        self.stages =
            specs.iter().enumerate().map(|(place, spec)| Stage::new(*spec, seed, place)).collect();
        Ok(())
    }

    /// What is held has come out: what was farther along comes first.
    pub fn end_holds(&mut self) {
        for stage in self.stages.iter_mut().rev() {
            self.out.extend(stage.end_holds());
        }
    }

    /// The policies, in their order.
    pub fn policies(&self) -> impl Iterator<Item = &PacketSpec> {
        self.stages.iter().map(Stage::spec)
    }

    /// Frames go through as if it were not there, and none is on it.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.stages.is_empty() && self.frames == 0
    }

    /// Frames on it: at most [`HELD_MAX`] once all that has come out is taken.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// When a frame that is held comes out, or goes on to the next policy.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.stages.iter().filter_map(Stage::due).min()
    }

    /// What the policies have done since the last call.
    pub fn take_tally(&mut self) -> Tally {
        core::mem::take(&mut self.tally)
    }

    /// A frame enters. Take out what has come out, [`Self::take`], before the next one.
    pub fn put<M: Medium<Frame = F>>(&mut self, frame: F, now: Instant, medium: &mut M) {
        self.advance(now, medium);
        self.frames += 1;
        self.give(0, frame, now, medium);
    }

    /// The next frame that has come out by `now`.
    pub fn take<M: Medium<Frame = F>>(&mut self, now: Instant, medium: &mut M) -> Option<F> {
        if self.out.is_empty() {
            self.advance(now, medium);
        }
        let frame = self.out.pop_front()?;
        self.frames -= 1;
        Some(frame)
    }

    /// Frames whose time has come go on: those that are farther along first.
    pub fn advance<M: Medium<Frame = F>>(&mut self, now: Instant, medium: &mut M) {
        for place in (0..self.stages.len()).rev() {
            while let Some(frame) = self.stages[place].take_due(now) {
                self.give(place + 1, frame, now, medium);
            }
        }
    }

    /// Gives a frame to the policy at `place`; beyond the last one it has come out.
    fn give<M: Medium<Frame = F>>(
        &mut self,
        place: usize,
        mut frame: F,
        now: Instant,
        medium: &mut M,
    ) {
        let Some(stage) = self.stages.get_mut(place) else {
            self.out.push_back(frame);
            return;
        };
        match stage.fate() {
            Fate::Pass => self.pass(place, frame, now, medium),
            Fate::Lost => {
                self.tally.dropped += 1;
                self.frames -= 1;
                medium.discard(frame);
            }
            Fate::Flipped(draw) => {
                self.tally.corrupted += 1;
                medium.flip(&mut frame, draw);
                self.pass(place, frame, now, medium);
            }
            Fate::Copied(copies) => {
                for _ in 0..copies {
                    if self.frames < HELD_MAX {
                        self.tally.duplicated += 1;
                        self.frames += 1;
                        let copy = medium.copy(&frame);
                        self.pass(place, copy, now, medium);
                    } else {
                        self.tally.not_held += 1;
                    }
                }
                self.pass(place, frame, now, medium);
            }
            Fate::Overtaken { frames, latest } if self.frames <= HELD_MAX => {
                self.tally.reordered += 1;
                stage.hold(frame, now.plus(latest), Some(frames));
            }
            Fate::Delayed(delay) if self.frames <= HELD_MAX => {
                self.tally.delayed += 1;
                stage.hold(frame, now.plus(delay), None);
            }
            Fate::Overtaken { .. } => {
                self.tally.not_held += 1;
                self.pass(place, frame, now, medium);
            }
            Fate::Delayed(delay) => {
                self.tally.not_held += 1;
                // The first one goes on in its stead, for none overtakes another here.
                let first = match stage.take_first() {
                    Some(first) => {
                        self.tally.delayed += 1;
                        stage.hold(frame, now.plus(delay), None);
                        first
                    }
                    None => frame,
                };
                self.give(place + 1, first, now, medium);
            }
        }
    }

    /// The policy at `place` lets a frame through, and with it those that it has held long enough.
    fn pass<M: Medium<Frame = F>>(&mut self, place: usize, frame: F, now: Instant, medium: &mut M) {
        self.give(place + 1, frame, now, medium);
        self.stages[place].passed();
        while let Some(frame) = self.stages[place].take_overtaken() {
            self.give(place + 1, frame, now, medium);
        }
    }
}

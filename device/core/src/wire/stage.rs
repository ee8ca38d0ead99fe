// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One packet policy at work.

use alloc::collections::VecDeque;
use core::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::spec::PacketSpec;
use crate::policy::distribution::{chance, within};
use crate::time::Instant;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Pass,
    /// It is lost.
    Lost,
    /// So many copies of it are made.
    Copied(u16),
    /// The bit chosen by this is flipped.
    Flipped(u64),
    /// It is held until so many have passed, or for so long.
    Overtaken { frames: u16, latest: Duration },
    /// It is held for so long, and not less than the one before.
    Delayed(Duration),
}

/// A policy with its state.
#[derive(Debug)]
pub(super) struct Stage<F> {
    spec: PacketSpec,
    rng: Pcg64Mcg,
    /// By the time when they are due.
    held: VecDeque<HeldFrame<F>>,
}

#[derive(Debug)]
struct HeldFrame<F> {
    frame: F,
    due: Instant,
    /// Frames that are still to overtake it; `None` when it only waits for its time.
    frames: Option<u16>,
}

impl<F> Stage<F> {
    pub(super) fn new(spec: PacketSpec, seed: u64, place: usize) -> Self {
        let seed = seed.wrapping_add((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { spec, rng: Pcg64Mcg::seed_from_u64(seed), held: VecDeque::new() }
    }

    pub(super) const fn spec(&self) -> &PacketSpec {
        &self.spec
    }

    /// The fate of the next frame.
    pub(super) fn fate(&mut self) -> Fate {
        let rng = &mut self.rng;
        match self.spec {
            PacketSpec::Delay(span) => {
                let delay = within(span, rng);
                if delay.is_zero() && self.held.is_empty() {
                    Fate::Pass
                } else {
                    Fate::Delayed(delay)
                }
            }
            PacketSpec::Loss { per_mille } if chance(per_mille, rng) => Fate::Lost,
            PacketSpec::Duplicate { per_mille, copies } if chance(per_mille, rng) => {
                Fate::Copied(copies)
            }
            PacketSpec::Corrupt { per_mille } if chance(per_mille, rng) => {
                Fate::Flipped(rng.random())
            }
            PacketSpec::Reorder { per_mille, frames, latest_us } if chance(per_mille, rng) => {
                Fate::Overtaken {
                    frames: rng.random_range(1..=frames),
                    latest: Duration::from_micros(latest_us.into()),
                }
            }
            _ => Fate::Pass,
        }
    }

    /// Holds a frame until `due`, but no less than the one before it, or until `frames` have passed.
    pub(super) fn hold(&mut self, frame: F, due: Instant, frames: Option<u16>) {
        let due = self.held.back().map_or(due, |last| last.due.max(due));
        self.held.push_back(HeldFrame { frame, due, frames });
    }

    /// A frame has been let through.
    pub(super) fn passed(&mut self) {
        for frames in self.held.iter_mut().filter_map(|held| held.frames.as_mut()) {
            *frames = frames.saturating_sub(1);
        }
    }

    /// The first that has been overtaken by as many as it should be.
    pub(super) fn take_overtaken(&mut self) -> Option<F> {
        let place = self.held.iter().position(|held| held.frames == Some(0))?;
        self.held.remove(place).map(|held| held.frame)
    }

    /// The first that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<F> {
        if self.due()? > now { None } else { self.take_first() }
    }

    /// The first, due or not.
    pub(super) fn take_first(&mut self) -> Option<F> {
        self.held.pop_front().map(|held| held.frame)
    }

    /// All of them.
    pub(super) fn end_holds(&mut self) -> impl Iterator<Item = F> {
        self.held.drain(..).map(|held| held.frame)
    }

    /// When the first is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.front().map(|held| held.due)
    }
}

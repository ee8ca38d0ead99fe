// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A stall, from the first look that suspects it to its verdict.

use super::seen::{Seen, Wish};
use crate::time::Instant;

/// What the guest should be doing something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// [`Wish::Waits`].
    Waits,
    /// [`Wish::Unclear`].
    Unclear,
    /// [`Wish::Off`].
    Off,
    /// Frames find no buffers.
    NoBuffers,
}

impl Trouble {
    /// Used entries before index `settled` need no interrupt as far as can be told.
    pub(super) fn of(seen: &Seen, settled: u16) -> Option<Self> {
        let unsettled = seen.published != settled;
        match seen.wish {
            _ if seen.due => None,
            Wish::Waits => Some(Self::Waits),
            Wish::Unclear if unsettled => Some(Self::Unclear),
            // A guest may reclaim what it has sent whenever it likes.
            Wish::Off if unsettled && seen.receive => Some(Self::Off),
            _ if seen.starved => Some(Self::NoBuffers),
            _ => None,
        }
    }
}

/// The guest is in trouble and shows no progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) trouble: Trouble,
    pub(super) since: Instant,
    pub(super) stage: Stage,
}

/// How far the detector is with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// The guest may be about to go on.
    New,
    /// It has been nudged.
    Nudged(Nudged),
    /// It has had its verdict.
    Told,
}

impl Stage {
    pub(super) const fn nudged(self) -> Option<Nudged> {
        match self {
            Self::Nudged(nudged) => Some(nudged),
            Self::New | Self::Told => None,
        }
    }
}

/// A guest that has been nudged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nudged {
    pub(super) first: Instant,
    pub(super) latest: Instant,
    /// How the vector was when it was nudged first.
    pub(super) before: Seen,
    /// A look has found that the guest did not go on at once.
    pub(super) in_vain: bool,
}

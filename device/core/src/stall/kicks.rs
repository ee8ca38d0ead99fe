// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries that the guest had been asked to kick for and has not kicked for.

use core::time::Duration;

use super::Seen;
use crate::time::Instant;

/// Waits for a kick that may be on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kicks {
    /// When entries were found, and the kicks until then.
    found: Option<(Instant, u32)>,
}

impl Kicks {
    /// When entries were found for which no kick will come: none came for `after`, though the guest
    /// was `alive` later.
    pub(super) fn look(
        &mut self,
        seen: &Seen,
        alive: Option<Instant>,
        after: Duration,
        now: Instant,
    ) -> Option<Instant> {
        if let Some((at, kicks)) = self.found {
            if kicks != seen.guest.kicks {
                self.found = None;
            } else if now >= at.plus(after) && alive > Some(at) {
                self.found = None;
                return Some(at);
            }
        }
        if seen.unkicked && self.found.is_none() {
            self.found = Some((now, seen.guest.kicks));
        }
        None
    }
}

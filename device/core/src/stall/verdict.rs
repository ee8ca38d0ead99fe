// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is said of a stall, and on what grounds.

use core::fmt;
use core::time::Duration;

use super::Seen;
use crate::time::Instant;

/// Why a queue did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest waited for an interrupt and did not get it: one nudge made it go on.
    Lost,
    /// Nudges do not help, while the guest goes on with the other queue.
    Ignored,
    /// The guest asks for no interrupts and leaves received packets alone.
    Suppressed,
    /// Frames find no buffers, and the guest, which has consumed all it had, posts none.
    NotRefilled,
    /// Entries were available for transmission, and the guest never kicked though it was to.
    KickLost,
    /// The guest went on late, and not because of a nudge.
    Slow,
    /// Nudges do not help, and the guest does nothing with the other queue either.
    Stopped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Ignored => "ignored",
            Self::Suppressed => "suppressed",
            Self::NotRefilled => "not refilled",
            Self::KickLost => "kick lost",
            Self::Slow => "slow",
            Self::Stopped => "stopped",
        })
    }
}

/// A verdict and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it was.
    pub verdict: Verdict,
    /// A policy had dropped the interrupt: the driver is not to blame.
    pub by_policy: bool,
    /// When it was passed.
    pub at: Instant,
    /// How long there was no progress until then.
    pub waited: Duration,
    /// From the first nudge until then.
    pub answered: Option<Duration>,
    /// Nudges.
    pub nudges: u8,
    /// The vector when it was nudged first or, without a nudge, at the verdict.
    pub seen: Seen,
}

/// Verdicts on one vector so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nudges.
    pub nudges: u64,
    /// [`Verdict::Lost`].
    pub lost: u64,
    /// [`Verdict::Ignored`].
    pub ignored: u64,
    /// [`Verdict::Suppressed`].
    pub suppressed: u64,
    /// [`Verdict::NotRefilled`].
    pub not_refilled: u64,
    /// [`Verdict::KickLost`].
    pub kick_lost: u64,
    /// [`Verdict::Slow`].
    pub slow: u64,
    /// [`Verdict::Stopped`].
    pub stopped: u64,
    /// Of all these but [`Verdict::Slow`], those that a policy has caused.
    pub by_policy: u64,
    /// The latest.
    pub latest: Option<Evidence>,
}

impl Tally {
    pub(super) fn add(&mut self, evidence: Evidence) {
        *match evidence.verdict {
            Verdict::Lost => &mut self.lost,
            Verdict::Ignored => &mut self.ignored,
            Verdict::Suppressed => &mut self.suppressed,
            Verdict::NotRefilled => &mut self.not_refilled,
            Verdict::KickLost => &mut self.kick_lost,
            Verdict::Slow => &mut self.slow,
            Verdict::Stopped => &mut self.stopped,
        } += 1;
        self.by_policy += u64::from(evidence.by_policy && evidence.verdict != Verdict::Slow);
        self.latest = Some(evidence);
    }
}

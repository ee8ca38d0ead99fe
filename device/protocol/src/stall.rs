// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the stall detector has found out, as the control socket says it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What it has found out on each vector of the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Of the receive queue.
    pub rx: VectorStalls,
    /// Of the transmit queue.
    pub tx: VectorStalls,
}

/// Verdicts on one vector since the start of the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorStalls {
    /// Spurious interrupts raised to see whether the guest goes on.
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
    /// Of all these but [`Verdict::Slow`], those that a policy has caused: not the driver's.
    pub by_policy: u64,
    /// The latest, with what it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Stall>,
}

/// Why a queue did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// A verdict and what it rests on. The counters are those at the first nudge or, without a nudge, at
/// the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// What it was.
    pub verdict: Verdict,
    /// A policy had dropped the interrupt.
    pub by_policy: bool,
    /// When it was passed, ns of the device's timer time.
    pub at_ns: u64,
    /// How long there was no progress until then, ns.
    pub waited_ns: u64,
    /// From the first nudge until then, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ns: Option<u64>,
    /// Nudges.
    pub nudges: u8,
    /// Used index.
    pub published: u16,
    /// Available index.
    pub available: u16,
    /// Event index or flags; with a page the number of the latest arm.
    pub asked: u32,
    /// With a page: completions consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<u32>,
    /// Kicks of the queue.
    pub kicks: u32,
    /// Interrupts raised on the vector.
    pub raised: u64,
    /// Intents of the policies in force: the latest has the number before this.
    pub intents: u64,
}

impl Stalls {
    /// Verdicts and nudges since an earlier state.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self { rx: self.rx.since(&before.rx), tx: self.tx.since(&before.tx) }
    }

    /// Verdicts but [`Verdict::Slow`]: times that a queue had come to a stop.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.rx.count() + self.tx.count()
    }

    /// Verdicts of this kind.
    #[must_use]
    pub const fn of(&self, kind: Verdict) -> u64 {
        self.rx.of(kind) + self.tx.of(kind)
    }

    /// Of these, those that a policy has caused.
    #[must_use]
    pub const fn by_policy(&self) -> u64 {
        self.rx.by_policy + self.tx.by_policy
    }
}

impl VectorStalls {
    /// Verdicts and nudges since an earlier state; the latest verdict only when it is one of them.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            nudges: self.nudges - before.nudges,
            lost: self.lost - before.lost,
            ignored: self.ignored - before.ignored,
            suppressed: self.suppressed - before.suppressed,
            not_refilled: self.not_refilled - before.not_refilled,
            kick_lost: self.kick_lost - before.kick_lost,
            slow: self.slow - before.slow,
            stopped: self.stopped - before.stopped,
            by_policy: self.by_policy - before.by_policy,
            latest: self.latest.filter(|_| self.latest != before.latest),
        }
    }

    /// Verdicts but [`Verdict::Slow`].
    #[must_use]
    pub const fn count(&self) -> u64 {
        let Self { lost, ignored, suppressed, not_refilled, kick_lost, stopped, .. } = self;
        *lost + *ignored + *suppressed + *not_refilled + *kick_lost + *stopped
    }

    /// Verdicts of this kind.
    #[must_use]
    pub const fn of(&self, kind: Verdict) -> u64 {
        match kind {
            Verdict::Lost => self.lost,
            Verdict::Ignored => self.ignored,
            Verdict::Suppressed => self.suppressed,
            Verdict::NotRefilled => self.not_refilled,
            Verdict::KickLost => self.kick_lost,
            Verdict::Slow => self.slow,
            Verdict::Stopped => self.stopped,
        }
    }

    /// The verdicts there were, with their names.
    fn verdicts(&self) -> Vec<String> {
        [
            (self.lost, "lost"),
            (self.ignored, "ignored"),
            (self.suppressed, "suppressed"),
            (self.not_refilled, "not-refilled"),
            (self.kick_lost, "kick-lost"),
            (self.slow, "slow"),
            (self.stopped, "stopped"),
        ]
        .into_iter()
        .filter(|(count, _)| *count != 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect()
    }
}

/// Each vector with a verdict: how many of which, and the evidence of the latest.
impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, vector) in [("rx", &self.rx), ("tx", &self.tx)] {
            let verdicts = vector.verdicts();
            if verdicts.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                f.write_str("; ")?;
            }
            write!(f, "{name}: {}, {} by policy", verdicts.join(", "), vector.by_policy)?;
            if let Some(latest) = &vector.latest {
                write!(f, ", latest {latest}")?;
            }
        }
        Ok(())
    }
}

/// The evidence: times, then the vector as it was.
impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.1?} without progress", Duration::from_nanos(self.waited_ns))?;
        if let Some(answered) = self.answered_ns.map(Duration::from_nanos) {
            write!(f, ", {answered:.1?} after nudge 1 of {}", self.nudges)?;
        }
        let Self { published, available, asked, kicks, raised, intents, .. } = self;
        write!(f, " (used index {published}, available index {available}, asked {asked}, ")?;
        if let Some(consumed) = self.consumed {
            write!(f, "consumed {consumed}, ")?;
        }
        write!(f, "{kicks} kicks, {raised} raised, {intents} intents)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall(at_ns: u64) -> Stall {
        Stall {
            verdict: Verdict::Lost,
            by_policy: true,
            at_ns,
            waited_ns: 1_000_400_000,
            answered_ns: Some(300_000),
            nudges: 1,
            published: 7,
            available: 256,
            asked: 6,
            consumed: None,
            kicks: 3,
            raised: 9,
            intents: 10,
        }
    }

    #[test]
    fn what_was_before_does_not_count_and_slow_is_no_stall() {
        let before =
            VectorStalls { lost: 3, slow: 1, latest: Some(stall(1)), ..Default::default() };
        let after = VectorStalls { slow: 4, ..before.clone() };
        let since = Stalls { rx: after, tx: VectorStalls::default() }
            .since(&Stalls { rx: before, tx: VectorStalls::default() });
        assert_eq!((since.count(), since.rx.slow, since.rx.latest), (0, 3, None));
    }

    #[test]
    fn the_text_has_verdicts_and_evidence_of_the_vectors_that_have_any() {
        let tx = VectorStalls {
            lost: 2,
            slow: 1,
            by_policy: 2,
            latest: Some(stall(1)),
            ..Default::default()
        };
        let stalls = Stalls { rx: VectorStalls::default(), tx };
        assert_eq!((stalls.count(), stalls.by_policy()), (2, 2));
        let text = stalls.to_string();
        assert!(
            text.starts_with("tx: 2 lost, 1 slow, 2 by policy, latest after 1.0s without"),
            "{text}"
        );
        assert!(text.contains(" progress, 300.0µs after nudge 1 of 1 (used index 7, "), "{text}");
        assert_eq!(Stalls::default().to_string(), "");
    }
}

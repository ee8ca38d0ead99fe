// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the stall detector has found out, as the control socket says it.

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
    /// Of all these, those that a policy has caused: not the driver's.
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

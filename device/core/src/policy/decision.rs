// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An intent, what a policy is told of the guest, and what is decided.

use core::time::Duration;

use tsnic_abi::Counter;

use crate::time::Instant;

/// Why an interrupt is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Completions were published.
    Completions,
    /// The guest has posted no more buffers, and a frame waits.
    OutOfBuffers,
    /// A run has chosen this moment.
    Injection,
}

/// What comes through gate and moderation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Number of the intent on its path, from 0.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// Free-running number of the completions published.
    pub produced: Counter,
    /// When.
    pub now: Instant,
}

/// How far the guest is with one queue, as can be seen of any driver. Only differences matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestProgress {
    /// Kicks of the queue.
    pub kicks: u32,
    /// Available index of the queue: what was posted.
    pub available: u16,
    /// Its event index or, without `VIRTIO_RING_F_EVENT_IDX`, its flags; with a page the arm's
    /// sequence number.
    pub asked: u32,
    /// With a page the number of the latest interrupt that a handler has seen; without, as `asked`.
    pub handled: u32,
    /// Interrupts raised on the pair's other vector.
    pub other: u64,
}

/// Something the guest does, for which an interrupt is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It kicks the queue.
    Kick,
    /// It posts entries: as a rule it has consumed some.
    Refill,
    /// It asks for interrupts: an arm or, without a page, any change of the event index or flags.
    Arm,
    /// Its handler has run or, without a page, as [`Self::Arm`].
    Handler,
    /// The other vector of the pair is raised.
    OtherVector,
}

impl Until {
    /// The guest has done it between the two.
    #[must_use]
    pub const fn has_come(self, before: &GuestProgress, now: &GuestProgress) -> bool {
        match self {
            Self::Kick => before.kicks != now.kicks,
            Self::Refill => before.available != now.available,
            Self::Arm => before.asked != now.asked,
            Self::Handler => before.handled != now.handled,
            Self::OtherVector => before.other != now.other,
        }
    }
}

/// How long an interrupt is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Until the guest does this, and no longer than that time.
    pub until: Option<(Until, Duration)>,
    /// And for this time after it.
    pub delay: Duration,
}

impl Hold {
    /// It is not held.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.until.is_none() && self.delay.is_zero()
    }
}

/// The fate of an intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// It is held so long, then raised.
    pub hold: Hold,
    /// If another one is held already, that one stands for both.
    pub joins: bool,
    /// It is never raised.
    pub dropped: bool,
    /// So many more are raised, which nobody has requested.
    pub copies: u16,
    /// The first of them after this, the others each a delay later.
    pub copies_after: Hold,
}

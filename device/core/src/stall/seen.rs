// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the stall detector is shown.

use crate::loss::LossState;
use crate::policy::decision::GuestProgress;
use crate::time::Instant;

/// What the guest's own cells say of the entries published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// It has consumed all of them, and asks for an interrupt with the next.
    #[default]
    CaughtUp,
    /// It asks for an interrupt with an entry that is still to come.
    Later,
    /// It asks for an interrupt with one that has been published.
    Waits,
    /// It asks for no interrupt.
    Off,
    /// It asks for interrupts, but whether it has consumed what is published cannot be told.
    Unclear,
}

/// What a driver with a page has told of its handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handler {
    /// It has run for the latest interrupt.
    pub seen: bool,
    /// It found the NAPI owned then.
    pub owned: bool,
}

/// One vector, as it is at the end of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent observations")]
pub struct Seen {
    /// It is that of a receive queue.
    pub receive: bool,
    /// Used index: entries published.
    pub published: u16,
    /// What the guest says of them.
    pub wish: Wish,
    /// How far the guest is.
    pub guest: GuestProgress,
    /// With a page: completions consumed.
    pub consumed: Option<u32>,
    /// With a page: what became of the handler.
    pub handler: Option<Handler>,
    /// With a page: what the loss detector says.
    pub loss: Option<LossState>,
    /// The path holds an interrupt or is about to raise one, or a run chooses when.
    pub due: bool,
    /// A policy has dropped the latest interrupt.
    pub dropped: bool,
    /// A frame has found no buffers, and none has been delivered since.
    pub starved: bool,
    /// Entries were available that the guest should have kicked for and had not.
    pub unkicked: bool,
    /// Interrupts raised on this vector.
    pub raised: u64,
    /// Intents of the policies so far.
    pub intents: u64,
}

impl Seen {
    /// What changes when the guest has consumed or posted something, and only then.
    pub(super) fn progress(&self) -> (u32, u32) {
        match self.consumed {
            Some(consumed) => (consumed, 0),
            None => (self.guest.available.into(), self.guest.asked),
        }
    }

    /// What changes when the guest does anything with the queue.
    pub(super) const fn life(&self) -> (u16, u32, u32, u32) {
        let guest = &self.guest;
        (guest.available, guest.asked, guest.kicks, guest.handled)
    }

    /// A transmit queue was used, or the pair's receive interrupt was raised: both make drivers
    /// look at their transmit queue.
    pub(super) const fn sends_since(&self, before: &Self) -> bool {
        self.guest.available != before.guest.available || self.guest.other != before.guest.other
    }
}

/// What a detector is told of the pair's other vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// When the guest was last seen to do anything with that queue.
    pub alive: Option<Instant>,
    /// It has been nudged, and what comes of it is still open.
    pub nudged: bool,
}

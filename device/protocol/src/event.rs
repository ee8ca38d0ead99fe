// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens to a queue pair, as those who asked for it are told.

use serde::{Deserialize, Serialize};

use crate::policy::Vector;
use crate::stall::Stall;

/// Something that happened to a queue pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the pair, from 0.
    pub pair: u16,
    /// When, ns of the device's timer time (the host's `CLOCK_MONOTONIC`).
    pub at_ns: u64,
    /// Events of any pair before this one that this reader was not told of, because it, or the
    /// device, did not keep up.
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u64,
    /// What.
    #[serde(flatten)]
    pub occurrence: Occurrence,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_none(missed: &u64) -> bool {
    *missed == 0
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Occurrence {
    /// A front end has connected.
    Connected,
    /// It has left.
    Disconnected,
    /// A queue runs.
    Started {
        /// Which.
        vector: Vector,
    },
    /// It does not any more.
    Stopped {
        /// Which.
        vector: Vector,
    },
    /// The guest has broken a queue.
    Broken {
        /// Which.
        vector: Vector,
        /// How.
        reason: String,
    },
    /// A shared queue page is in use.
    PageAccepted {
        /// Generation of its registration.
        generation: u32,
    },
    /// One was refused.
    PageRefused {
        /// Why.
        reason: String,
    },
    /// It is not in use any more.
    PageForgotten {
        /// Generation of its registration.
        generation: u32,
        /// Why.
        reason: String,
    },
    /// No frames go in or out.
    PortDetached {
        /// Why.
        reason: String,
    },
    /// They do again.
    PortAttached,
    /// Verdicts of the loss detector.
    Lost {
        /// "lost", since the event before.
        lost: u64,
        /// "rescued".
        rescued: u64,
    },
    /// A verdict of the stall detector.
    Stalled {
        /// The queue.
        vector: Vector,
        /// The verdict, and what it rests on.
        stall: Box<Stall>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            pair: 1,
            at_ns: 5,
            missed: 0,
            occurrence: Occurrence::Started { vector: Vector::Tx },
        };
        let text = serde_json::to_string(&event).expect("JSON");
        assert_eq!(text, r#"{"pair":1,"at_ns":5,"event":"started","vector":"tx"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).expect("an event"), event);
    }
}

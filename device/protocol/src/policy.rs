// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policies, and what they decided, as the control socket and plans say them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An interrupt vector of a queue pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vector {
    /// Of the receive queue.
    #[default]
    Rx,
    /// Of the transmit queue.
    Tx,
}

/// Names of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Holds each interrupt for the same time: `delay_us`.
    FixedDelay,
    /// Holds each for a random time: `from_us` and `to_us` (evenly); `mean_us` and `max_us`
    /// (exponentially); all of `from_us`, `to_us`, `slow_from_us`, `slow_to_us` and `per_mille`
    /// (mostly fast, so often slow); or `recorded_ns`.
    Jitter,
    /// Holds each for one step longer than the one before, then begins again: `from_us`, `to_us`,
    /// `step_us`.
    Sweep,
    /// Holds each until the guest has done something: `until`, `latest_us`, and `from_us` to
    /// `to_us` after it (0 when left out).
    OnProgress,
    /// [`Self::OnProgress`] with `until = "arm"`: just as the guest asks for interrupts anew.
    ArmRace,
    /// [`Self::OnProgress`] with `until = "other-vector"`: after the interrupt of the other queue.
    ReorderAcrossQueues,
    /// Raises each once more when its handler has run: `latest_us`, and `from_us` to `to_us` after
    /// it (0 when left out).
    MaskRace,
    /// Raises some of them again: `copies`, `gap_us`, `per_mille` (1000 when left out).
    Duplicate,
    /// Raises interrupts that nobody has requested: `from_us` to `to_us` between two of them.
    Spurious,
    /// Raises many in a row, again and again: `lines`, `gap_us`, `every_us`.
    Storm,
    /// Holds the first for a time, and one interrupt then stands for all: `window_us`.
    CoalesceLate,
    /// Never raises some of them: `per_mille`. Not conformant.
    Drop,
    /// Decides as was recorded: `schedule`.
    Replay,
}

/// Something the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// It kicks the queue.
    Kick,
    /// It posts entries.
    Refill,
    /// It asks for interrupts: an arm or, without a page, any change of the event index or flags.
    Arm,
    /// Its handler has run or, without a page, as [`Self::Arm`].
    Handler,
    /// The other vector of the pair is raised.
    OtherVector,
}

/// One policy. Which fields go with which kind: see [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its vector.
    #[serde(default)]
    pub vector: Vector,
    /// What it does.
    pub kind: Kind,
    /// Milliseconds from when it is set until it begins; at once, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u32>,
    /// For so many milliseconds it acts; to the end, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u32>,
    /// Microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u32>,
    /// Shortest, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_us: Option<u32>,
    /// Longest, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_us: Option<u32>,
    /// Shortest of the slow ones, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_from_us: Option<u32>,
    /// Longest of the slow ones, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_to_us: Option<u32>,
    /// Mean, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<u32>,
    /// Cut off at, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u32>,
    /// Delays to go through, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_ns: Option<Vec<u64>>,
    /// Step, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_us: Option<u32>,
    /// What the guest does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// No longer than this, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_us: Option<u32>,
    /// How often again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u16>,
    /// How many in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u16>,
    /// Between two of them, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_us: Option<u32>,
    /// Between two storms, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_us: Option<u32>,
    /// Microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_us: Option<u32>,
    /// How many of a thousand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_mille: Option<u16>,
    /// A schedule, as [`super::Request::Schedule`] tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Entry>>,
    /// In plans: a file with one, relative to the plan's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_file: Option<PathBuf>,
}

/// How long an interrupt is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Until the guest does this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// But no longer than this, nanoseconds.
    #[serde(default, skip_serializing_if = "is_0")]
    pub latest_ns: u64,
    /// And for this time after it, nanoseconds.
    #[serde(default, skip_serializing_if = "is_0")]
    pub delay_ns: u64,
}

/// One entry of a schedule: the fate of an intent, by its number. An intent without an entry was
/// raised at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Number of the intent, from 0; of the next one, for interrupts that are nobody's.
    pub intent: u64,
    /// How it was held.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold: Hold,
    /// The one that was held already stood for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub joins: bool,
    /// It was never raised.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropped: bool,
    /// How often it was raised again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub copies: u16,
    /// After how long.
    #[serde(default, skip_serializing_if = "is_default")]
    pub copies_after: Hold,
    /// Interrupts that a policy raised by itself before this intent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spurious: u32,
    /// How long after the intent before, nanoseconds.
    #[serde(default, skip_serializing_if = "is_0")]
    pub after_ns: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_0(value: &u64) -> bool {
    *value == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Policy {
    /// A policy of receive interrupts without any field.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            vector: Vector::Rx,
            kind,
            after_ms: None,
            for_ms: None,
            delay_us: None,
            from_us: None,
            to_us: None,
            slow_from_us: None,
            slow_to_us: None,
            mean_us: None,
            max_us: None,
            recorded_ns: None,
            step_us: None,
            until: None,
            latest_us: None,
            copies: None,
            lines: None,
            gap_us: None,
            every_us: None,
            window_us: None,
            per_mille: None,
            schedule: None,
            schedule_file: None,
        }
    }
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self)
            .map_or_else(|_| String::new(), |value| value.as_str().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tsnic_core::policy::spec::{MAX_COPIES, MAX_POLICIES, MAX_US};
    use tsnic_core::schedule::ENTRIES_MAX;

    use super::*;
    use crate::line::LINE_MAX;
    use crate::{Policies, Reply, Request, ScheduleReport};

    #[test]
    fn a_schedule_takes_less_than_a_mebibyte_and_a_request_holds_that_of_each_vector() {
        let longest = u64::from(MAX_US) * MAX_POLICIES as u64 * 1000;
        let hold = Hold { until: Some(Until::OtherVector), latest_ns: longest, delay_ns: longest };
        // More than a path can decide of one intent.
        let entry = Entry {
            intent: u32::MAX.into(),
            hold,
            joins: true,
            dropped: true,
            copies: MAX_COPIES,
            copies_after: hold,
            spurious: 0,
            after_ns: 0,
        };
        let entries = vec![entry; ENTRIES_MAX];
        let replay =
            |vector| Policy { vector, schedule: Some(entries.clone()), ..Policy::of(Kind::Replay) };
        let policies = vec![replay(Vector::Rx), replay(Vector::Tx)];
        let request = serde_json::to_string(&Request::Policies(Policies { seed: 1, policies }));
        assert!(request.expect("JSON").len() < LINE_MAX);
        let report = ScheduleReport { entries, left_out: u64::MAX };
        let written = serde_json::to_string(&Reply::Schedule(report)).expect("JSON");
        assert!(written.len() < 1 << 20, "{}", written.len());
    }
}

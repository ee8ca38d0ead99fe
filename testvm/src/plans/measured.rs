// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is measured in a trial of a plan.

use std::time::Duration;

use tsnic_protocol::{ScheduleReport, Status};

use super::judge::Seen;

/// When the stall detector looks closer at a guest that does not go on. It only says when to look:
/// long against the pauses of a machine that has much to do.
pub const STALL_AFTER: Duration = Duration::from_secs(1);

/// What was measured while a plan was at work.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// RPCs answered.
    pub rpcs: u64,
    /// The device at the beginning.
    pub before: Status,
    /// When the traffic had ended.
    pub after: Status,
    /// At the end.
    pub end: Status,
    /// What the policies decided for receive interrupts.
    pub rx: ScheduleReport,
    /// And for transmit interrupts.
    pub tx: ScheduleReport,
}

impl Measured {
    /// The device when the plan is about to be put to work.
    pub fn begin(&mut self, status: Status) {
        self.before = status.clone();
        self.after = status.clone();
        self.end = status;
    }

    /// The device when the traffic has ended.
    pub fn traffic_ended(&mut self, status: Status) {
        self.after = status.clone();
        self.end = status;
    }

    /// What the detectors have seen.
    pub fn seen(&self) -> Seen {
        Seen::between(&self.before, &self.end, self.rpcs)
    }
}

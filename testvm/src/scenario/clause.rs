// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clauses of NAPI's protocol that the rendezvous module can take away on the running kernel.

use serde::{Deserialize, Serialize};

/// Which clause is taken away. The models' names (docs/napi-ablation.md), and the values of the
/// module's parameter `ablation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clause {
    /// None: the control of the others.
    None,
    /// `napi_complete_done()` does not honour `MISSED`.
    CompleteIgnoresMissed,
    /// `busy_poll_stop()` does not clear `MISSED`.
    StopKeepsMissed,
    /// `napi_watchdog()` takes by the full `napi_schedule_prep()`.
    WatchdogSetsMissed,
}

impl Clause {
    /// In the order of the report.
    pub const ALL: [Self; 4] =
        [Self::None, Self::CompleteIgnoresMissed, Self::StopKeepsMissed, Self::WatchdogSetsMissed];
    /// Those that only cost something, and their control.
    pub const COSTING: [Self; 3] = [Self::None, Self::StopKeepsMissed, Self::WatchdogSetsMissed];
}

impl std::fmt::Display for Clause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::CompleteIgnoresMissed => "complete-ignores-missed",
            Self::StopKeepsMissed => "stop-keeps-missed",
            Self::WatchdogSetsMissed => "watchdog-sets-missed",
        })
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the models say of a clause: its row of docs/napi-ablation.md, which they write and whose
//! tests keep it so. (Their code is GPL-2.0-only and not linked.)

use serde::Serialize;

use crate::scenario::clause::Clause;

const PAGE: &str = include_str!("../../../docs/napi-ablation.md");

/// A row of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Its number.
    pub row: u32,
    /// What becomes of the protocol.
    pub verdict: &'static str,
    /// What the clause saves, where it saves something: per 1,000 random executions.
    pub cost: Option<&'static str>,
}

impl Model {
    /// The row of this clause; none when the page has no such row.
    pub fn of(clause: Clause) -> Option<Self> {
        let beginning = match clause {
            // The same scenario as that of the row of `CompleteIgnoresMissed`.
            Clause::None => "4.11, the driver's own `napi_schedule()`",
            Clause::CompleteIgnoresMissed => "`napi_complete_done()` does not honour `MISSED`",
            Clause::StopKeepsMissed => "`busy_poll_stop()` does not clear `MISSED`",
            Clause::WatchdogSetsMissed => "`napi_watchdog()` by the full `napi_schedule_prep()`",
        };
        PAGE.lines().find_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let &["", row, model, _, _, verdict, cost, ""] = cells.as_slice() else { return None };
            model.starts_with(beginning).then_some(())?;
            let verdict = verdict.split("**").nth(1).unwrap_or(verdict);
            Some(Self { row: row.parse().ok()?, verdict, cost: (!cost.is_empty()).then_some(cost) })
        })
    }

    /// Whether packets are lost.
    pub fn loses(&self) -> bool {
        self.verdict == "packet lost"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_has_its_row_and_those_that_cost_their_cost() {
        for clause in Clause::ALL {
            let model = Model::of(clause).unwrap_or_else(|| panic!("{clause} has no row"));
            let loses = clause == Clause::CompleteIgnoresMissed;
            assert_eq!(model.loses(), loses, "{clause}: {model:?}");
            assert_eq!(model.verdict, if loses { "packet lost" } else { "sound" });
            let costs = Clause::COSTING.contains(&clause) && clause != Clause::None;
            assert_eq!(
                model.cost.is_some_and(|cost| cost.contains("empty polls")),
                costs,
                "{clause}: {model:?}"
            );
        }
    }
}

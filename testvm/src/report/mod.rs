// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run found: measured results, the verdict on them, and both as text and as JSON.
//!
//! Nothing here is measured or decided twice: results are counted once, in their types, judged once
//! in [`judge`], and the two renderings show both. What was planned and did not come about has no
//! number in either, never 0.

mod ablation;
mod buckets;
mod cell;
mod distribution;
mod expected;
mod json;
pub mod judge;
mod model;
mod natural;
pub mod provenance;
mod results;
mod rpc;
mod series;
mod sweep;
mod text;

pub use ablation::{Block, Tally, Trials};
pub use cell::Cell;
pub use expected::Expected;
pub use judge::Judgement;
pub use natural::Natural;
pub use provenance::{Host, Provenance};
pub use results::Results;
pub use rpc::RpcRun;
pub use sweep::{Aim, Sweep};

use crate::verdict::Verdict;

/// A judged run.
#[derive(Clone, Debug)]
pub struct Report {
    expected: Expected,
    results: Results,
    judgement: Judgement,
    provenance: Provenance,
}

impl Report {
    /// Judges what came of the plan.
    #[must_use]
    pub fn new(expected: Expected, results: Results, provenance: Provenance) -> Self {
        let judgement = judge::judge(&expected, &results);
        Self { expected, results, judgement, provenance }
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict
    }

    /// The verdict and its reasons.
    #[must_use]
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// The machine-readable report: one JSON object, indented, with a newline at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain structs, numbers and strings with string keys: nothing that JSON cannot say.
        let mut text = serde_json::to_string_pretty(&json::Document::of(self)).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The report for people: tables, histogram, provenance, and the verdict in the last line. At most
/// 100 columns, plain text.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text::write(f, self)
    }
}

#[cfg(test)]
mod tests;

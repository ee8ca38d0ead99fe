// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A plan with the name of its file.

use std::path::Path;

use tsnic_protocol::plan::{self, LoadError, Plan, PlanError, Step, position};

/// A plan, and its file.
#[derive(Clone, Debug)]
pub struct NamedPlan {
    /// The file's name, without directory and extension.
    pub name: String,
    /// The plan.
    pub plan: Plan,
}

impl NamedPlan {
    /// Reads a file. What its policies may be, the device checks.
    ///
    /// # Errors
    /// When it cannot be read, or is no plan.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let (plan, text) = plan::load(path)?;
        if !plan.pair.is_empty() {
            let error = PlanError {
                position: position(&text, &[Step::Field("pair"), Step::Entry(0)]),
                message: "a trial's device has one queue pair, and no [[pair]] (tsnic --plan has)"
                    .into(),
            };
            return Err(LoadError::Wrong { path: path.to_owned(), error });
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, plan })
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A plan with the name of its file.

use std::path::Path;

use tsnic_protocol::plan::{self, LoadError, Plan};

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
        let (plan, _) = plan::load(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, plan })
    }
}

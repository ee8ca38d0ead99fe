// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A plan with the name of its file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;
use tsnic_protocol::plan::{self, Plan, PlanError};

/// A plan, and its file.
#[derive(Clone, Debug)]
pub struct NamedPlan {
    /// The file's name, without directory and extension.
    pub name: String,
    /// The plan.
    pub plan: Plan,
}

/// Why a file is no plan.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("Cannot read the plan {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can be read, and is wrong.
    #[error("{}:{error}", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where, and what.
        error: PlanError,
    },
}

impl NamedPlan {
    /// Reads a file. What its policies may be, the device checks.
    ///
    /// # Errors
    /// When it cannot be read, or is no plan.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = fs::read_to_string(path)
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let plan = plan::parse(&text)
            .map_err(|error| LoadError::Wrong { path: path.to_owned(), error })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, plan })
    }
}

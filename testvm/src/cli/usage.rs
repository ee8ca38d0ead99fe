// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arguments that cannot be, and paths.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::preflight;

/// Arguments that contradict the environment or one another.
#[derive(Debug, Error)]
pub enum UsageError {
    /// No place for downloads and builds.
    #[error("No cache directory: set TSNIC_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A path that cannot be made absolute.
    #[error("Path {path} cannot be resolved")]
    Path {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that will not do.
    #[error(transparent)]
    File(#[from] preflight::Error),
    /// A plan that will not do.
    #[error(transparent)]
    Plan(#[from] tsnic_protocol::plan::LoadError),
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|source| UsageError::Path { path: path.to_owned(), source })
}

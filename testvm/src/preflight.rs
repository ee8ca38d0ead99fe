// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files named on the command line, looked at before anything is built: a wrong one is a wrong command line, and said at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that will not do.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no place for the report.
    #[error("The report cannot be written to {path} (--json)")]
    Report {
        /// As asked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Whether a report can be written to `path` at the end of the run. What is there now stays as it is.
///
/// # Errors
/// It cannot.
pub fn report(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Report { path: path.to_owned(), source };
    match fs::metadata(path) {
        // To open and close a pipe would already end it for its reader.
        Ok(there) if !there.is_file() && !there.is_dir() => Ok(()),
        Ok(_) => File::options().write(true).open(path).map(drop).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::options().write(true).create(true).truncate(false).open(path).map_err(failed)?;
            // No report is better than an empty one. A link to a file that was not there stays.
            fs::canonicalize(path).and_then(fs::remove_file).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_s_place_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        report(&at("new")).expect("can be made");
        std::os::unix::fs::symlink(at("target"), at("link")).expect("a link");
        report(&at("link")).expect("can be made");
        assert!(!at("new").exists() && !at("target").exists() && at("link").is_symlink());
        fs::write(at("old"), "the last report").expect("a file");
        report(&at("old")).expect("can be replaced");
        assert_eq!(fs::read_to_string(at("old")).expect("a file"), "the last report");
        report(Path::new("/dev/stdout")).expect("a pipe or terminal");
        for bad in [dir.path().to_owned(), at("nowhere/report"), at("old/report")] {
            let Error::Report { path, .. } = report(&bad).expect_err("no place");
            assert_eq!(path, bad);
        }
    }
}

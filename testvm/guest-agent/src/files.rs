// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of /proc and /sys.

use std::fs::OpenOptions;
use std::io::Write;

use crate::error::Error;

/// Reads a whole file; white space at its end is removed, bytes that are no UTF-8 are replaced.
///
/// # Errors
/// The kernel's, with the path.
pub fn read(path: &str) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Writes a value to an existing file in a single write(2), as /proc and /sys want it.
///
/// # Errors
/// The kernel's, with the path. A short write is an error too.
pub fn write(path: &str, value: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(Error::file("open", path))?;
    let written = file.write(value.as_bytes()).map_err(|source| Error::Call {
        what: format!("Cannot write {value:?} to {path}"),
        source,
    })?;
    if written == value.len() {
        Ok(())
    } else {
        Err(Error::Call {
            what: format!("Only {written} bytes of {value:?} were taken by {path}"),
            source: std::io::ErrorKind::WriteZero.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_without_the_newline() -> Result<(), Box<dyn std::error::Error>>
    {
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_string_lossy().into_owned();
        write(&path, "2000000\n")?;
        assert_eq!(read(&path)?, "2000000");
        Ok(())
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = read("/proc/no/such/file").map_err(|e| e.chain()).unwrap_err();
        assert!(
            message.contains("/proc/no/such/file") && message.contains("No such file"),
            "{message}"
        );
        // A file that is not there is not made: a misspelt name in /sys must not look like success.
        let directory = tempfile::tempdir().expect("temporary directory");
        assert!(write(&directory.path().join("new").to_string_lossy(), "1").is_err());
    }
}

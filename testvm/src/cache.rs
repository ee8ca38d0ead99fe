// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cache directory, and the lock that keeps two runs from filling it at the same time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::interrupt::{self, Interrupted};
use crate::process::TICK;

/// What can go wrong with the cache.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be written or locked.
    #[error("Cache {path} cannot be used (set TSNIC_CACHE to a place that can)")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user asked for the end while another run held the lock.
    #[error("Stopped while waiting for another run")]
    Interrupted(#[from] Interrupted),
}

/// The right to change the cache, until dropped. It goes with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Wait for the lock of `cache`, which is made if missing.
///
/// # Errors
/// The directory cannot be used, or the user asked for the end.
pub fn lock(cache: &Path, tick: &mut dyn FnMut(&str)) -> Result<Lock, Error> {
    fs::create_dir_all(cache).map_err(|source| Error::Io { path: cache.to_owned(), source })?;
    let path = cache.join("lock");
    let failed = |source| Error::Io { path: path.clone(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                tick("waiting for another run to finish its preparations");
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        interrupt::check()?;
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_waits_for_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("deep/cache");
        let mut first = Some(lock(&cache, &mut |_| ()).expect("free"));
        let mut waited = 0;
        lock(&cache, &mut |_| {
            waited += 1;
            first.take();
        })
        .expect("free at last");
        assert_eq!(waited, 1);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files named on the command line, looked at before anything is built: a wrong one is a wrong
//! command line, and said at once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that will not do.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel cannot be read.
    #[error("Kernel {path} cannot be read (--kernel)")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel is something else.
    #[error(
        "{path} is no bootable kernel image (--kernel takes a bzImage, such as /boot/vmlinuz-* or arch/x86/boot/bzImage)"
    )]
    NoKernel {
        /// As given.
        path: PathBuf,
    },
    /// There is no place for what the run is to write.
    #[error("{path} cannot be written ({option})")]
    Output {
        /// As asked for.
        path: PathBuf,
        /// By which option.
        option: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Where the kernel's x86 boot protocol has its magic number, and the number.
const MAGIC: (u64, &[u8; 4]) = (0x202, b"HdrS");

/// Whether `path` is a kernel that QEMU can boot: one with the header of the x86 boot protocol.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn kernel(path: &Path) -> Result<(), Error> {
    let read = |at, magic: &mut [u8; 4]| File::open(path)?.read_exact_at(magic, at);
    let mut found = [0; 4];
    match read(MAGIC.0, &mut found) {
        Ok(()) if found == *MAGIC.1 => Ok(()),
        Ok(()) => Err(Error::NoKernel { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::NoKernel { path: path.to_owned() })
        }
        Err(source) => Err(Error::Unreadable { path: path.to_owned(), source }),
    }
}

/// Whether what `option` asks for can be written to `path` at the end of the run. What is there now
/// stays as it is.
///
/// # Errors
/// It cannot.
pub fn output(path: &Path, option: &'static str) -> Result<(), Error> {
    let failed = |source| Error::Output { path: path.to_owned(), option, source };
    match fs::metadata(path) {
        // To open and close a pipe would already end it for its reader.
        Ok(there) if !there.is_file() && !there.is_dir() => Ok(()),
        Ok(_) => File::options().write(true).open(path).map(drop).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::options().write(true).create(true).truncate(false).open(path).map_err(failed)?;
            // No file is better than an empty one. A link to a file that was not there stays.
            fs::canonicalize(path).and_then(fs::remove_file).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_the_magic_of_the_boot_protocol() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bzImage");
        let mut image = [0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        for (content, good) in [
            (&image[..], true),
            (&image[1..], false),
            (&image[..0x205], false),
            (b"\x7fELF", false),
        ] {
            fs::write(&path, content).expect("a file");
            let looked_at = kernel(&path);
            assert!(
                matches!((&looked_at, good), (Ok(()), true) | (Err(Error::NoKernel { .. }), false)),
                "{looked_at:?}"
            );
        }
        for unreadable in [dir.path(), Path::new("/nonexistent/bzImage")] {
            assert!(matches!(kernel(unreadable), Err(Error::Unreadable { .. })));
        }
    }

    #[test]
    fn a_report_s_place_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        output(&at("new"), "--json").expect("can be made");
        std::os::unix::fs::symlink(at("target"), at("link")).expect("a link");
        output(&at("link"), "--json").expect("can be made");
        assert!(!at("new").exists() && !at("target").exists() && at("link").is_symlink());
        fs::write(at("old"), "the last report").expect("a file");
        output(&at("old"), "--json").expect("can be replaced");
        assert_eq!(fs::read_to_string(at("old")).expect("a file"), "the last report");
        output(Path::new("/dev/stdout"), "--json").expect("a pipe or terminal");
        for bad in [dir.path().to_owned(), at("nowhere/report"), at("old/report")] {
            let error = output(&bad, "--json").expect_err("no place");
            assert!(matches!(&error, Error::Output { path, .. } if *path == bad), "{error}");
        }
    }
}

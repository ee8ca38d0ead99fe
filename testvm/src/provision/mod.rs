// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What comes from Debian's archive, fetched without root into a cache: the guest's kernel, where it
//! is not the user's own, and programs.

mod apt;
mod archive;
mod control;
mod debian;
mod headers;
mod packages;
mod tools;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::process::{self, Tail};

pub use debian::{Debian, Release};
pub use packages::Error as PackageError;
pub use tools::Tools;

/// What can go wrong before there is a kernel.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or directory.
    #[error("{path} cannot be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine does not run Debian.
    #[error(
        "This machine runs {name}, not a Debian release with a cloud kernel: give a kernel with --kernel FILE --kernel-build DIR"
    )]
    NotDebian {
        /// What it runs.
        name: String,
    },
    /// The machine's sources have no entry of use.
    #[error(
        "No package source of this machine is Debian's archive for {codename} main (`apt-get indextargets` lists none): \
         add one, or give a kernel with --kernel FILE --kernel-build DIR"
    )]
    NoSources {
        /// The release.
        codename: String,
    },
    /// No source has a suite with a valid signature.
    #[error("No package source of this machine has Debian's {suite} main{said}")]
    NoList {
        /// The suite.
        suite: String,
        /// apt's last words.
        said: Tail,
    },
    /// The compiler that modules for this kernel must be built with is not there.
    #[error(
        "The headers of Linux {release} want {compiler}, which is not on the PATH: install it (apt install {compiler}), \
         or choose the kernel of a release that has the compiler of this machine (--kernel-series)"
    )]
    NoCompiler {
        /// `uname -r` of the kernel.
        release: String,
        /// Program and package.
        compiler: String,
    },
    /// The driver is not made for it.
    #[error("The driver is made for Linux {OLDEST} and later, not for {release}")]
    TooOld {
        /// `uname -r` of the kernel.
        release: String,
    },
    /// apt or one of its helpers failed.
    #[error("The package manager failed")]
    Apt(#[source] process::Error),
    /// A package could not be unpacked.
    #[error("A package cannot be unpacked")]
    Unpack(#[source] process::Error),
    /// The packages do not fit together.
    #[error("The archive's packages are not as expected")]
    Packages(#[from] PackageError),
    /// A program or a library is in none of the packages that should have it.
    #[error("{file}, needed by {by}, is in none of the packages fetched")]
    NoFile {
        /// Its name.
        file: String,
        /// Who needs it.
        by: String,
    },
    /// What a program needs cannot be found out.
    #[error("The libraries of a program cannot be found out")]
    Libraries(#[source] process::Error),
    /// The headers are not as expected.
    #[error("{path} is no directory to build kernel modules in: {what}")]
    NoBuildDir {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The image is not there.
    #[error("Kernel image {path} does not exist")]
    NoImage {
        /// Where it should be.
        path: PathBuf,
    },
}

/// `map_err` helper: the error of an operation on `path`.
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// The oldest version of Linux whose interfaces the driver's C part knows.
const OLDEST: Version = Version { major: 6, minor: 1 };

/// The first two numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether the driver can be built for the kernel `release`. A newer kernel than any tried so far
/// may be: its compiler will say.
fn check_version(release: &str) -> Result<(), Error> {
    match Version::of(release) {
        Some(version) if version < OLDEST => Err(Error::TooOld { release: release.to_owned() }),
        _ => Ok(()),
    }
}

/// A kernel that can be booted and built modules for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// Where it comes from, for the report: package and version, or a path.
    pub origin: String,
    /// Bootable image.
    pub image: PathBuf,
    /// Directory to build modules in.
    pub build: PathBuf,
    /// Where its own modules are, if it has any: a directory with a `modules.order`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The user's own kernel.
    ///
    /// # Errors
    /// The image or the build directory is not what it should be.
    pub fn own(image: &Path, build: &Path) -> Result<Self, Error> {
        if !image.is_file() {
            return Err(Error::NoImage { path: image.to_owned() });
        }
        let not_built = |why: &str| Error::NoBuildDir {
            path: build.to_owned(),
            what: format!(
                "{RELEASE_HEADER}: {why}; build the kernel, or at least `make modules_prepare`"
            ),
        };
        let header = fs::read_to_string(build.join(RELEASE_HEADER))
            .map_err(|error| not_built(&error.to_string()))?;
        let release =
            release_of(&header).ok_or_else(|| not_built("no UTS_RELEASE in it"))?.to_owned();
        check_version(&release)?;
        // A built tree has its modules in itself; a kernel that is installed has them in the usual
        // place.
        let in_itself = build.join("modules.order").is_file();
        let modules =
            if in_itself { build.to_owned() } else { Path::new("/lib/modules").join(&release) };
        Ok(Self {
            origin: image.display().to_string(),
            release,
            image: image.to_owned(),
            build: build.to_owned(),
            modules,
        })
    }
}

/// What the kernel was compiled with. (`include/config/kernel.release` may be another one: Debian
/// 12's headers have the version of the sources there.)
const RELEASE_HEADER: &str = "include/generated/utsrelease.h";

fn release_of(header: &str) -> Option<&str> {
    header.lines().find_map(|line| line.strip_prefix("#define UTS_RELEASE \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_older_than_the_driver_s_interfaces_is_refused() {
        for release in [
            "6.1.0-56-cloud-amd64",
            "6.12.95+deb12-cloud-amd64",
            "7.3.4+deb13-cloud-amd64",
            "10.0-rc1",
            "odd",
        ] {
            check_version(release).expect(release);
        }
        for release in ["4.10.0", "5.19.17", "6.0.0-6-amd64"] {
            let error = check_version(release).expect_err(release).to_string();
            assert!(error.contains("6.1 and later") && error.contains(release), "{error}");
        }
    }

    #[test]
    fn the_release_of_an_own_kernel_is_read_from_its_build_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("bzImage");
        let no_image = Kernel::own(&image, dir.path()).expect_err("no image");
        assert!(matches!(no_image, Error::NoImage { .. }));
        fs::write(&image, "").expect("a file");
        let no_headers = Kernel::own(&image, dir.path()).expect_err("no headers");
        assert!(no_headers.to_string().contains("utsrelease.h"), "{no_headers}");
        for (file, content) in [
            // As in Debian 12's headers.
            ("include/config/kernel.release", "6.9.14\n"),
            ("include/generated/utsrelease.h", "#define UTS_RELEASE \"6.9.0-test\"\n"),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        let kernel = Kernel::own(&image, dir.path()).expect("a kernel");
        assert_eq!(
            (kernel.release.as_str(), kernel.modules.as_path()),
            ("6.9.0-test", "/lib/modules/6.9.0-test".as_ref())
        );
        fs::write(dir.path().join("modules.order"), "").expect("a file");
        let kernel = Kernel::own(&image, dir.path()).expect("a kernel");
        assert_eq!(kernel.modules, dir.path());
        fs::write(dir.path().join("include/generated/utsrelease.h"), "").expect("a file");
        let no_release = Kernel::own(&image, dir.path()).expect_err("no release");
        assert!(no_release.to_string().contains("no UTS_RELEASE"), "{no_release}");
    }
}

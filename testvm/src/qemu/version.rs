// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's version.

use std::fmt;

/// The first version whose virtio-net-pci survives vhost-user with MSI-X under TCG; 7.2 ends with a
/// segmentation fault at `DRIVER_OK`. 8.0 is where the fix was released.
pub const MSIX_SINCE: Version = Version { major: 8, minor: 0, patch: 0 };

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl Version {
    /// From the output of `qemu-system-x86_64 --version`.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let (_, rest) = output.split_once("version ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut numbers = rest[..end].split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u16, minor: u16, patch: u16) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn the_versions_of_debian_are_understood() {
        let debian12 = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\nCopyright (c) 2003-2022 Fabrice";
        assert_eq!(Version::parse(debian12), Some(version(7, 2, 17)));
        let backports = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n";
        assert_eq!(Version::parse(backports), Some(version(10, 0, 2)));
        assert_eq!(Version::parse("QEMU emulator version 9.1\n"), Some(version(9, 1, 0)));
        assert_eq!(
            Version::parse("QEMU emulator version 11.1.93 (v11.2.0-rc3)"),
            Some(version(11, 1, 93))
        );
    }

    #[test]
    fn nonsense_is_not_a_version() {
        for text in ["", "version", "version x.y", "version 10", "hello"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn ten_is_newer_than_eight() {
        assert!(version(10, 0, 2) > MSIX_SINCE);
        assert!(version(7, 2, 17) < MSIX_SINCE);
    }
}

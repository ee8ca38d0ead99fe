// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which packages make a kernel: its image, headers, and the tools its headers build modules with.
//! And which make a program: its own, and those of its libraries.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::control::Stanza;

/// What can go wrong.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The archive does not have it.
    #[error("Package {name} is not in the configured archives{why}")]
    Missing {
        /// Its name.
        name: String,
        /// Who needs it.
        why: String,
    },
    /// It does not depend on what it should.
    #[error("Package {name} {version} depends on no {wanted} (Depends: {depends})")]
    Unexpected {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// What was looked for.
        wanted: String,
        /// What is there.
        depends: String,
    },
}

/// A package of a certain version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Everything to download for one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPackages {
    /// `uname -r` of the kernel.
    pub release: String,
    /// The image and, where Debian has split it (7.x), the packages it depends on: binary, modules,
    /// base. Signed where there is one.
    pub image: Vec<Package>,
    /// Its headers and what they are built on: common headers, then kbuild.
    pub headers: [Package; 3],
    /// The compiler the headers ask for, by package name, when they do.
    pub compiler: Option<String>,
}

/// The metapackage that always names the newest headers of the cloud kernel.
pub const HEADERS_META: &str = "linux-headers-cloud-amd64";

/// Resolve the newest cloud kernel. `show` gives a package's stanza, in the version that apt would
/// install.
///
/// The headers lead: with a matching image a kernel can be used, without headers it cannot. The
/// signed image comes days after the unsigned one of the same build, which then serves as well.
///
/// # Errors
/// A package is missing, or `show` fails.
pub fn resolve<E: From<Error>>(
    mut show: impl FnMut(&str) -> Result<Option<Stanza>, E>,
) -> Result<KernelPackages, E> {
    let meta =
        show(HEADERS_META)?.ok_or_else(|| missing(HEADERS_META, "a Debian release has it"))?;
    let headers_name = dependency(HEADERS_META, &meta, "linux-headers-", "-cloud-amd64")?;
    let release = headers_name.trim_start_matches("linux-headers-").to_owned();
    let headers = show(&headers_name)?.ok_or_else(|| missing(&headers_name, HEADERS_META))?;
    let version = version(&headers);

    let mut packages = Vec::new();
    for (prefix, suffix) in [("linux-headers-", "-common"), ("linux-kbuild-", "")] {
        let name = dependency(&headers_name, &headers, prefix, suffix)?;
        let stanza = show(&name)?.ok_or_else(|| missing(&name, &headers_name))?;
        packages.push(Package { name, version: self::version(&stanza) });
    }
    let [common, kbuild] =
        <[Package; 2]>::try_from(packages).unwrap_or_else(|_| unreachable!("two were asked for"));

    let image = image(&release, &version, &headers_name, &mut show)?;

    let compiler = headers.relations("Depends").into_iter().flatten().find_map(compiler_of);
    Ok(KernelPackages {
        release,
        image,
        headers: [Package { name: headers_name, version }, common, kbuild],
        compiler,
    })
}

/// The image of `release` and the packages of that same release it depends on, all of `version`.
fn image<E: From<Error>>(
    release: &str,
    version: &str,
    needed_by: &str,
    show: &mut impl FnMut(&str) -> Result<Option<Stanza>, E>,
) -> Result<Vec<Package>, E> {
    let mut found: Vec<Package> = Vec::new();
    let mut wanted = vec![(format!("linux-image-{release}"), needed_by.to_owned())];
    let mut seen = HashSet::new();
    while let Some((signed, by)) = wanted.pop() {
        if !seen.insert(signed.clone()) {
            continue;
        }
        let mut stanza = None;
        for name in [signed.clone(), unsigned(&signed)] {
            stanza = show(&name)?.filter(|s| self::version(s) == version).map(|s| (name, s));
            if stanza.is_some() {
                break;
            }
        }
        let (name, stanza) = stanza
            .ok_or_else(|| missing(&signed, &format!("{by} {version}, signed or unsigned")))?;
        let parts = stanza
            .relations("Depends")
            .into_iter()
            .flatten()
            .filter(|p| p.ends_with(&format!("-{release}")));
        wanted.extend(parts.map(|part| (part.to_owned(), name.clone())));
        found.push(Package { name, version: version.to_owned() });
    }
    Ok(found)
}

/// The packages `wanted`, and those of all libraries that they depend on, directly or not: by
/// Debian's policy the names of these begin with `lib`. Each once, by name. One that is not in the
/// archive is left out unless it is `wanted`: it may be virtual, and whoever looks for the library
/// will tell.
///
/// # Errors
/// A package that is `wanted` is missing, or `show` fails.
pub fn with_libraries<E: From<Error>>(
    wanted: &[&str],
    mut show: impl FnMut(&str) -> Result<Option<Stanza>, E>,
) -> Result<Vec<Package>, E> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut next: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    while let Some(name) = next.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(stanza) = show(&name)? else {
            if wanted.contains(&name.as_str()) {
                return Err(missing(&name, "a Debian release has it").into());
            }
            continue;
        };
        let relations = ["Pre-Depends", "Depends"].map(|field| stanza.relations(field)).concat();
        let libraries = relations.into_iter().filter_map(|alternatives| {
            alternatives.first().filter(|name| name.starts_with("lib")).copied()
        });
        next.extend(libraries.map(str::to_owned));
        found.push(Package { name, version: version(&stanza) });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The name of the unsigned variant: linux-image-RELEASE-unsigned, or linux-binary-unsigned-RELEASE
/// where the image is split.
fn unsigned(signed: &str) -> String {
    match signed.strip_prefix("linux-binary-") {
        Some(release) => format!("linux-binary-unsigned-{release}"),
        None => format!("{signed}-unsigned"),
    }
}

/// `gcc-12` of `gcc-12`, `gcc-14-for-host` or `linux-compiler-gcc-12-x86`.
fn compiler_of(package: &str) -> Option<String> {
    let rest = package.trim_start_matches("linux-compiler-").strip_prefix("gcc-")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!number.is_empty()).then(|| format!("gcc-{number}"))
}

fn version(stanza: &Stanza) -> String {
    stanza.get("Version").unwrap_or_default().to_owned()
}

fn dependency(name: &str, stanza: &Stanza, prefix: &str, suffix: &str) -> Result<String, Error> {
    let relations = stanza.relations("Depends");
    let found = relations.iter().flatten().find(|p| p.starts_with(prefix) && p.ends_with(suffix));
    found.map(|p| (*p).to_owned()).ok_or_else(|| Error::Unexpected {
        name: name.to_owned(),
        version: version(stanza),
        wanted: format!("{prefix}...{suffix}"),
        depends: stanza.get("Depends").unwrap_or_default().to_owned(),
    })
}

fn missing(name: &str, needed_by: &str) -> Error {
    Error::Missing { name: name.to_owned(), why: format!(" ({needed_by})") }
}

#[cfg(test)]
mod tests {
    use super::super::control;
    use super::*;

    const BOOKWORM: &str = "\
Package: linux-headers-cloud-amd64
Version: 6.1.192-2
Depends: linux-headers-6.1.0-56-cloud-amd64 (= 6.1.192-2)

Package: linux-headers-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Depends: linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), linux-compiler-gcc-12-x86

Package: linux-headers-6.1.0-56-common
Version: 6.1.192-2

Package: linux-kbuild-6.1
Version: 6.1.192-2

Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
";

    const BACKPORTS: &str = "\
Package: linux-headers-cloud-amd64
Version: 6.12.95-1~bpo12+1
Depends: linux-headers-6.12.95+deb12-cloud-amd64 (= 6.12.95-1~bpo12+1)

Package: linux-headers-6.12.95+deb12-cloud-amd64
Version: 6.12.95-1~bpo12+1
Depends: linux-base (>= 4.12~), linux-headers-6.12.95+deb12-common (= 6.12.95-1~bpo12+1), linux-image-6.12.95+deb12-cloud-amd64 (= 6.12.95-1~bpo12+1) | linux-image-6.12.95+deb12-cloud-amd64-unsigned (= 6.12.95-1~bpo12+1), linux-kbuild-6.12.95+deb12, gcc-12

Package: linux-headers-6.12.95+deb12-common
Version: 6.12.95-1~bpo12+1

Package: linux-kbuild-6.12.95+deb12
Version: 6.12.95-1~bpo12+1

Package: linux-image-6.12.95+deb12-cloud-amd64-unsigned
Version: 6.12.95-1~bpo12+1
";

    const SPLIT: &str = "\
Package: linux-headers-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: linux-base-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-headers-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

Package: linux-headers-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: gcc-14-for-host, linux-base (>= 4.12~), linux-headers-7.3.4+deb13-common (= 7.3.4-1~bpo13+1), linux-kbuild-7.3.4+deb13

Package: linux-headers-7.3.4+deb13-common
Version: 7.3.4-1~bpo13+1

Package: linux-kbuild-7.3.4+deb13
Version: 7.3.4-1~bpo13+1

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

Package: linux-modules-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: kmod, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

Package: linux-binary-unsigned-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-base-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
";

    fn names(packages: &[Package]) -> Vec<&str> {
        packages.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn the_parts_of_a_split_image_are_followed_each_once() {
        let kernel = resolve_in(SPLIT).expect("a kernel");
        let mut found = names(&kernel.image);
        found.sort_unstable();
        assert_eq!(
            found,
            ["base", "binary-unsigned", "image", "modules"]
                .map(|part| format!("linux-{part}-7.3.4+deb13-cloud-amd64"))
        );
        assert_eq!(kernel.compiler.as_deref(), Some("gcc-14"));
        let without = SPLIT.replace("Package: linux-modules-7.3.4", "Package: other-7.3.4");
        let error = resolve_in(&without).expect_err("no modules").to_string();
        assert!(
            error.contains("linux-modules-7.3.4+deb13-cloud-amd64")
                && error.contains("linux-image-"),
            "{error}"
        );
    }

    fn resolve_in(list: &str) -> Result<KernelPackages, Error> {
        let stanzas = control::parse(list);
        resolve(|name| Ok(stanzas.iter().find(|s| s.get("Package") == Some(name)).cloned()))
    }

    #[test]
    fn the_stable_kernel_is_found_from_its_metapackage() {
        let kernel = resolve_in(BOOKWORM).expect("a kernel");
        assert_eq!(kernel.release, "6.1.0-56-cloud-amd64");
        assert_eq!(names(&kernel.image), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(
            names(&kernel.headers),
            [
                "linux-headers-6.1.0-56-cloud-amd64",
                "linux-headers-6.1.0-56-common",
                "linux-kbuild-6.1"
            ]
        );
        assert_eq!(kernel.compiler.as_deref(), Some("gcc-12"));
    }

    #[test]
    fn the_unsigned_image_serves_where_the_signed_one_is_not_there() {
        let kernel = resolve_in(BACKPORTS).expect("a kernel");
        assert_eq!(names(&kernel.image), ["linux-image-6.12.95+deb12-cloud-amd64-unsigned"]);
        assert_eq!(kernel.compiler.as_deref(), Some("gcc-12"));
    }

    #[test]
    fn a_signed_image_of_another_build_does_not_serve() {
        let list = format!(
            "{BACKPORTS}\nPackage: linux-image-6.12.95+deb12-cloud-amd64\nVersion: 6.12.95-2~bpo12+1\n"
        );
        assert!(resolve_in(&list).expect("a kernel").image[0].name.ends_with("-unsigned"));
    }

    #[test]
    fn a_signed_image_is_preferred() {
        let list = format!(
            "{BACKPORTS}\nPackage: linux-image-6.12.95+deb12-cloud-amd64\nVersion: 6.12.95-1~bpo12+1\n"
        );
        assert!(resolve_in(&list).expect("a kernel").image[0].name.ends_with("-cloud-amd64"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = BOOKWORM.replace("Package: linux-kbuild-6.1\n", "Package: other\n");
        let error = resolve_in(&without).expect_err("no kbuild").to_string();
        assert!(
            error.contains("linux-kbuild-6.1")
                && error.contains("linux-headers-6.1.0-56-cloud-amd64"),
            "{error}"
        );
        assert!(resolve_in("").expect_err("nothing").to_string().contains(HEADERS_META));
    }

    #[test]
    fn compilers_are_recognised_by_any_of_their_package_names() {
        assert_eq!(compiler_of("gcc-14-for-host").as_deref(), Some("gcc-14"));
        assert_eq!(compiler_of("linux-compiler-gcc-12-x86").as_deref(), Some("gcc-12"));
        assert_eq!(compiler_of("gcc-x"), None);
        assert_eq!(compiler_of("linux-base"), None);
    }

    #[test]
    fn programs_come_with_the_libraries_of_their_libraries() {
        let list = "\
Package: tcpdump
Version: 4
Depends: adduser, libc6 (>= 2.34), libpcap0.8 (>= 1.9.0)

Package: libpcap0.8
Version: 1
Pre-Depends: libc6
Depends: libdbus-1-3 | libother, libvirtual

Package: libdbus-1-3
Version: 1.14
Depends: libc6, libpcap0.8

Package: libc6
Version: 2.36
Depends: libgcc-s1, libc6

Package: adduser
Version: 3
Depends: libnever
";
        let stanzas = control::parse(list);
        let find = |wanted: &[&str]| {
            with_libraries(wanted, |name| {
                Ok::<_, Error>(stanzas.iter().find(|s| s.get("Package") == Some(name)).cloned())
            })
        };
        let found = find(&["tcpdump"]).expect("all that is wanted");
        assert_eq!(names(&found), ["libc6", "libdbus-1-3", "libpcap0.8", "tcpdump"]);
        let error = find(&["tcpdump", "chrony"]).expect_err("one is missing").to_string();
        assert!(error.contains("chrony"), "{error}");
    }
}

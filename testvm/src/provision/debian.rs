// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's cloud kernels: found by package name, fetched once, unpacked in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::apt::{self, Apt};
use super::packages::{self, KernelPackages, Package};
use super::{Error, Kernel, archive, check_version, headers, io_error};
use crate::config::Series;
use crate::process;

/// The Debian release of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// For example `bookworm`.
    pub codename: String,
}

impl Release {
    /// From the text of `/etc/os-release`.
    ///
    /// # Errors
    /// It is not Debian's, or has no code name.
    pub fn parse(os_release: &str) -> Result<Self, Error> {
        let value = |key: &str| {
            let line = os_release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            line.map(|v| v.trim().trim_matches('"').to_owned()).filter(|v| !v.is_empty())
        };
        match (value("ID").as_deref(), value("VERSION_CODENAME")) {
            (Some("debian"), Some(codename)) => Ok(Self { codename }),
            _ => Err(Error::NotDebian {
                name: value("PRETTY_NAME").unwrap_or_else(|| "an unknown system".to_owned()),
            }),
        }
    }
}

/// Provisioning from Debian's archive into a cache directory. The caller holds the cache's lock.
#[derive(Debug)]
pub struct Debian {
    pub(super) cache: PathBuf,
    pub(super) os_release: PathBuf,
}

/// What the cache knows of a series: the kernel that was newest when it was fetched. Paths are
/// relative to the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    release: String,
    origin: String,
    root: PathBuf,
    /// What modules are built with. `None`: the headers do not say.
    #[serde(default)]
    compiler: Option<String>,
}

/// The archive's keys, from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Directories whose names start so are of a fetch that has not come to its end.
pub(super) const PARTIAL: &str = "partial-";

const UNPACK_LIMIT: Duration = Duration::from_secs(5 * 60);

impl Debian {
    /// Provision into `cache` for this machine.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { cache: cache.to_owned(), os_release: "/etc/os-release".into() }
    }

    /// The kernel of `series`: from the cache when it is there, unless `refresh` asks for the
    /// newest. The second value tells whether it came from the cache.
    ///
    /// # Errors
    /// It cannot be found, fetched or unpacked. The cache is as before then.
    pub fn kernel(
        &self,
        series: &Series,
        refresh: bool,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(Kernel, bool), Error> {
        let release = self.release()?;
        let name = match series {
            Series::Stable => release.codename.clone(),
            Series::Backports => format!("{}-backports", release.codename),
            Series::Suite(name) => name.clone(),
        };
        let kernels = self.cache.join("kernels");
        let note = kernels.join(format!("{name}.json"));
        if !refresh && let Some(kernel) = self.cached(&note)? {
            return Ok((kernel, true));
        }
        fs::create_dir_all(&kernels).map_err(io_error(&kernels))?;

        let (apt, apt_dir) = self.apt(&release.codename, &name, tick)?;
        let packages = packages::resolve(|package| apt.show(package, tick))?;
        check_version(&packages.release)?;
        check_compiler(&packages.release, packages.compiler.as_deref())?;
        let version = &packages.headers[0].version;
        let root = PathBuf::from("kernels").join(format!("{}_{version}", packages.release));
        if !self.cache.join(&root).is_dir() {
            self.fetch(&apt, &packages, &self.cache.join(&root), tick)?;
        }
        let origin = format!("{} {version} ({name})", packages.image[0].name);
        let fetched =
            Fetched { release: packages.release, origin, root, compiler: packages.compiler };
        let text = serde_json::to_vec_pretty(&fetched).map_err(|e| io_error(&note)(e.into()))?;
        replace(&note, &text)?;
        let _ = fs::remove_dir_all(&apt_dir);
        self.located(&fetched).map(|kernel| (kernel, false))
    }

    /// What this machine runs.
    pub(super) fn release(&self) -> Result<Release, Error> {
        let text = fs::read_to_string(&self.os_release).map_err(io_error(&self.os_release))?;
        Release::parse(&text)
    }

    /// apt with the lists of `suite`, of this machine's release `codename` or another one; and its
    /// directory. The lists are some 60 MB, and of no use until the next refresh, which gets new
    /// ones: the caller removes it.
    pub(super) fn apt(
        &self,
        codename: &str,
        suite: &str,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(Apt, PathBuf), Error> {
        let mut sources = archive::sources(&apt::own_targets(tick)?, codename);
        if !sources.iter().any(|source| source.suite == codename) {
            return Err(Error::NoSources { codename: codename.to_owned() });
        }
        let own = suite == codename;
        if !own {
            sources = archive::suite(&sources, codename, suite);
        }
        let keyring = Some(Path::new(KEYRING)).filter(|path| path.is_file());
        let dir = self.cache.join("apt").join(suite);
        let rendered = archive::render(&sources, keyring);
        let apt = Apt::new(&dir, &rendered, (!own).then(|| suite.to_owned()))?;
        if sources.iter().all(|source| source.is_debian) {
            apt.update(tick)?;
        } else {
            apt.update_any(sources.iter().map(|source| source.suite.as_str()), tick)?;
        }
        Ok((apt, dir))
    }

    fn cached(&self, note: &Path) -> Result<Option<Kernel>, Error> {
        let Ok(text) = fs::read(note) else { return Ok(None) };
        let Ok(fetched) = serde_json::from_slice::<Fetched>(&text) else { return Ok(None) };
        if !self.cache.join(&fetched.root).is_dir() {
            return Ok(None);
        }
        check_compiler(&fetched.release, fetched.compiler.as_deref())?;
        self.located(&fetched).map(Some)
    }

    fn located(&self, fetched: &Fetched) -> Result<Kernel, Error> {
        let root = self.cache.join(&fetched.root);
        let release = &fetched.release;
        let build = root.join(format!("usr/src/linux-headers-{release}"));
        headers::relocate(&build, &root)?;
        // Newer packages have their modules below /usr, and the newest have the image among them.
        let [modules, newer] =
            ["lib/modules", "usr/lib/modules"].map(|dir| root.join(dir).join(release));
        let modules = if newer.is_dir() { newer } else { modules };
        let images = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
        let Some(image) = images.iter().find(|path| path.is_file()).cloned() else {
            let [path, _] = images;
            return Err(Error::NoImage { path });
        };
        Ok(Kernel {
            release: release.clone(),
            origin: fetched.origin.clone(),
            image,
            build,
            modules,
        })
    }

    /// Download and unpack next to `root`, then put it there in one step: whatever ends this early
    /// leaves no half of a kernel.
    fn fetch(
        &self,
        apt: &Apt,
        packages: &KernelPackages,
        root: &Path,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let kernels = self.cache.join("kernels");
        remove_remains(&kernels);
        // A name of its own: what a killed run had started may go on writing for a moment.
        let partial = kernels.join(format!("{PARTIAL}{}", std::process::id()));
        let (debs, unpacked) = (partial.join("debs"), partial.join("root"));
        for dir in [&debs, &unpacked] {
            fs::create_dir_all(dir).map_err(io_error(dir))?;
        }
        let all: Vec<&Package> = packages.headers.iter().chain(&packages.image).collect();
        apt.download(all.iter().copied(), &debs, tick)?;
        unpack(&debs, &unpacked, tick)?;
        fs::rename(&unpacked, root).map_err(io_error(root))?;
        fs::remove_dir_all(&partial).map_err(io_error(&partial))
    }
}

/// Unpacks every package in `debs` into `root`; no script of theirs is run.
pub(super) fn unpack(debs: &Path, root: &Path, tick: &mut dyn FnMut(&str)) -> Result<(), Error> {
    for entry in fs::read_dir(debs).map_err(io_error(debs))? {
        let deb = entry.map_err(io_error(debs))?.path();
        tick(&format!("unpacking {}", deb.file_name().unwrap_or_default().to_string_lossy()));
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&deb).arg(root);
        process::run("dpkg-deb", &mut command, UNPACK_LIMIT, tick).map_err(Error::Unpack)?;
    }
    Ok(())
}

fn check_compiler(release: &str, compiler: Option<&str>) -> Result<(), Error> {
    match compiler {
        Some(compiler) if process::find_program(Path::new(compiler)).is_none() => {
            Err(Error::NoCompiler { release: release.to_owned(), compiler: compiler.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Remove what killed runs have left in `dir`, as far as possible: it does no harm but to the free
/// space.
pub(super) fn remove_remains(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Write a file so that it is there whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, content).map_err(io_error(&new))?;
    fs::rename(&new, path).map_err(io_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_os_release() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n";
        assert_eq!(Release::parse(text).expect("Debian").codename, "trixie");
        let ubuntu =
            Release::parse("PRETTY_NAME=\"Ubuntu 24.04\"\nID=ubuntu\nVERSION_CODENAME=noble\n");
        assert!(ubuntu.expect_err("not Debian").to_string().contains("Ubuntu 24.04"));
    }

    /// A machine with a fetched kernel and nothing that could fetch another one.
    fn offline(dir: &Path) -> Debian {
        let release = "6.1.0-56-cloud-amd64";
        let root = dir.join("kernels/k");
        for (path, text) in [
            (
                root.join(format!("usr/src/linux-headers-{release}/Makefile")),
                "include /usr/src/common/Makefile\n",
            ),
            (root.join(format!("boot/vmlinuz-{release}")), ""),
            (root.join(format!("lib/modules/{release}/modules.order")), ""),
            (dir.join("os-release"), "ID=debian\nVERSION_CODENAME=bookworm\n"),
        ] {
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let fetched = Fetched {
            release: release.into(),
            origin: "test".into(),
            root: "kernels/k".into(),
            compiler: None,
        };
        fs::write(dir.join("kernels/bookworm.json"), serde_json::to_vec(&fetched).expect("text"))
            .expect("a file");
        Debian { cache: dir.to_owned(), os_release: dir.join("os-release") }
    }

    #[test]
    fn a_warm_cache_needs_neither_apt_nor_a_network() {
        let dir = tempfile::tempdir().expect("a directory");
        let (kernel, cached) =
            offline(dir.path()).kernel(&Series::Stable, false, &mut |_| ()).expect("a kernel");
        assert!(cached);
        assert_eq!(kernel.release, "6.1.0-56-cloud-amd64");
        assert!(kernel.modules.join("modules.order").is_file());
        let makefile = fs::read_to_string(kernel.build.join("Makefile")).expect("a Makefile");
        assert_eq!(
            makefile,
            format!("include {}/kernels/k/usr/src/common/Makefile\n", dir.path().display())
        );
    }

    #[test]
    fn the_image_of_a_split_package_is_among_the_modules() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = offline(dir.path());
        let root = dir.path().join("kernels/k");
        let modules = root.join("usr/lib/modules/6.1.0-56-cloud-amd64");
        fs::create_dir_all(&modules).expect("a directory");
        fs::rename(root.join("boot/vmlinuz-6.1.0-56-cloud-amd64"), modules.join("vmlinuz"))
            .expect("moved");
        let (kernel, _) = machine.kernel(&Series::Stable, false, &mut |_| ()).expect("a kernel");
        assert_eq!((kernel.image, kernel.modules), (modules.join("vmlinuz"), modules));
    }

    #[test]
    fn a_compiler_that_is_missing_is_named_with_its_package() {
        let text =
            check_compiler("7.3.4", Some("gcc-0")).expect_err("no such compiler").to_string();
        assert!(text.contains("7.3.4") && text.contains("apt install gcc-0"), "{text}");
        check_compiler("7.3.4", Some("sh")).expect("a program on the PATH");
    }

    #[test]
    fn the_remains_of_a_killed_fetch_go_and_kernels_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        offline(dir.path());
        let kernels = dir.path().join("kernels");
        fs::create_dir_all(kernels.join("partial-17/root/usr")).expect("a directory");
        remove_remains(&kernels);
        assert!(!kernels.join("partial-17").exists());
        assert!(kernels.join("k").exists());
    }

    #[test]
    fn a_note_without_its_kernel_does_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = offline(dir.path());
        fs::remove_dir_all(dir.path().join("kernels/k")).expect("gone");
        let note = dir.path().join("kernels/bookworm.json");
        assert!(machine.cached(&note).expect("no error").is_none());
    }
}

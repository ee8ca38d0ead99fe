// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of Debian's packages, with the libraries they need: the guest's, and the host's where
//! one of them is to talk to the guest. Fetched once, never installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::debian::{PARTIAL, remove_remains, replace, unpack};
use super::packages::{self, Package};
use super::{Debian, Error, io_error};
use crate::process;

/// Packages, and the programs that are taken from each.
const WANTED: [(&str, &[&str]); 2] =
    [("linuxptp", &["hwstamp_ctl", "phc2sys", "phc_ctl", "ptp4l"]), ("tcpdump", &["tcpdump"])];
/// The C library, which brings the loader of all programs.
const C_LIBRARY: &str = "libc6";
/// Where packages have programs.
const PROGRAM_DIRS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// Where they have libraries; newer ones below `usr` only.
const LIBRARY_DIRS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
/// The loader, which programs look for in this place.
const LOADER: (&str, &str) = ("lib64", "ld-linux-x86-64.so.2");
/// The directories of [`Tools`].
const DIRS: [&str; 3] = ["bin", "lib", LOADER.0];

const LOADER_LIMIT: Duration = Duration::from_secs(30);

/// The programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    root: PathBuf,
    /// Packages and their versions, for the report.
    pub origin: String,
}

impl Tools {
    /// Where the files are in a guest, and on this machine; `bin` has the programs.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn files(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        let mut files = Vec::new();
        for dir in DIRS {
            let path = self.root.join(dir);
            for entry in fs::read_dir(&path).map_err(io_error(&path))? {
                let entry = entry.map_err(io_error(&path))?;
                files
                    .push((format!("{dir}/{}", entry.file_name().to_string_lossy()), entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// One of the programs, to be run on this machine, with its own libraries and not the machine's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join(LOADER.0).join(LOADER.1));
        command.arg("--library-path").arg(self.root.join("lib"));
        command.arg(self.root.join("bin").join(program));
        command
    }

    /// The directories of [`Self::files`].
    pub fn directories() -> impl Iterator<Item = &'static str> {
        DIRS.into_iter()
    }
}

/// What the cache knows of the tools. The path is relative to the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    /// The programs that were wanted.
    programs: Vec<String>,
    packages: Vec<Package>,
    root: PathBuf,
}

impl Debian {
    /// The tools, from the release of this machine: from the cache when they are there, unless
    /// `refresh` asks for the newest. The second value tells whether they came from the cache.
    ///
    /// # Errors
    /// They cannot be found, fetched or unpacked. The cache is as before then.
    pub fn tools(&self, refresh: bool, tick: &mut dyn FnMut(&str)) -> Result<(Tools, bool), Error> {
        let codename = self.release()?.codename;
        let dir = self.cache.join("tools");
        let note = dir.join(format!("{codename}.json"));
        let noted = self.noted(&note);
        if !refresh && let Some(fetched) = &noted {
            return Ok((self.tools_of(fetched, &codename), true));
        }
        fs::create_dir_all(&dir).map_err(io_error(&dir))?;
        let (apt, apt_dir) = self.apt(&codename, &codename, tick)?;
        let wanted: Vec<_> =
            WANTED.iter().map(|(package, _)| *package).chain([C_LIBRARY]).collect();
        let packages = packages::with_libraries(&wanted, |package| apt.show(package, tick))?;
        if let Some(fetched) = noted.filter(|fetched| fetched.packages == packages) {
            let _ = fs::remove_dir_all(&apt_dir);
            return Ok((self.tools_of(&fetched, &codename), false));
        }

        remove_remains(&dir);
        let partial = dir.join(format!("{PARTIAL}{}", std::process::id()));
        let [debs, unpacked, chosen] = ["debs", "root", "chosen"].map(|name| partial.join(name));
        for dir in [&debs, &unpacked, &chosen] {
            fs::create_dir_all(dir).map_err(io_error(dir))?;
        }
        apt.download(packages.iter(), &debs, tick)?;
        unpack(&debs, &unpacked, tick)?;
        choose(&unpacked, &chosen, tick)?;
        // A name of its own: other runs may be using the tools that were there before.
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
        let root = PathBuf::from("tools").join(format!("{codename}-{seconds}"));
        let place = self.cache.join(&root);
        fs::rename(&chosen, &place).map_err(io_error(&place))?;
        fs::remove_dir_all(&partial).map_err(io_error(&partial))?;
        let _ = fs::remove_dir_all(&apt_dir);
        let fetched = Fetched { programs: programs(), packages, root };
        let text = serde_json::to_vec_pretty(&fetched).map_err(|e| io_error(&note)(e.into()))?;
        replace(&note, &text)?;
        Ok((self.tools_of(&fetched, &codename), false))
    }

    /// What `note` says, if that is what is wanted and there.
    fn noted(&self, note: &Path) -> Option<Fetched> {
        let fetched: Fetched = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
        let there = self.cache.join(&fetched.root).is_dir();
        (there && fetched.programs == programs()).then_some(fetched)
    }

    fn tools_of(&self, fetched: &Fetched, codename: &str) -> Tools {
        let named = |package: &&Package| WANTED.iter().any(|(name, _)| *name == package.name);
        let origin: Vec<_> = fetched
            .packages
            .iter()
            .filter(named)
            .map(|Package { name, version }| format!("{name} {version}"))
            .collect();
        let origin = format!("{} ({codename})", origin.join(", "));
        Tools { root: self.cache.join(&fetched.root), origin }
    }
}

/// All programs that are wanted.
fn programs() -> Vec<String> {
    WANTED.iter().flat_map(|(_, programs)| *programs).map(|&program| program.to_owned()).collect()
}

/// Copies the programs, the loader, and the libraries that they need, from `root`, where packages
/// were unpacked, to `chosen`.
fn choose(root: &Path, chosen: &Path, tick: &mut dyn FnMut(&str)) -> Result<(), Error> {
    for dir in DIRS {
        let path = chosen.join(dir);
        fs::create_dir_all(&path).map_err(io_error(&path))?;
    }
    // Symbolic links are followed: a file is there by the name that it is looked for.
    let copy = |from: &Path, dir: &str, name: &OsStr| {
        let to = chosen.join(dir).join(name);
        fs::copy(from, &to).map_err(io_error(from)).map(drop)
    };
    let loader = find(root, &LIBRARY_DIRS, LOADER.1, "every program")?;
    copy(&loader, LOADER.0, LOADER.1.as_ref())?;
    for (package, programs) in WANTED {
        for program in programs {
            let path = find(root, &PROGRAM_DIRS, program, package)?;
            copy(&path, "bin", program.as_ref())?;
            for library in libraries(root, &loader, &path, tick)? {
                copy(&library, "lib", library.file_name().unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

fn find(root: &Path, dirs: &[&str], file: &str, by: &str) -> Result<PathBuf, Error> {
    let missing = || Error::NoFile { file: file.to_owned(), by: by.to_owned() };
    dirs.iter().map(|dir| root.join(dir).join(file)).find(|path| path.is_file()).ok_or_else(missing)
}

/// The libraries in `root` that `program` needs, all of them, by the loader's own account: it maps
/// them and runs nothing.
fn libraries(
    root: &Path,
    loader: &Path,
    program: &Path,
    tick: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, Error> {
    let path = LIBRARY_DIRS.map(|dir| root.join(dir).display().to_string()).join(":");
    let mut command = Command::new(loader);
    command.args(["--inhibit-cache", "--library-path", &path, "--list"]).arg(program);
    command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
    let said = process::run("ld.so", &mut command, LOADER_LIMIT, tick).map_err(Error::Libraries)?;
    needed(&said)
        .map(|(name, found)| match found {
            // What is not in the packages may have been found on this machine.
            Some(path) if path.starts_with(root) => Ok(path.to_owned()),
            _ => Err(Error::NoFile { file: name.to_owned(), by: program.display().to_string() }),
        })
        .collect()
}

/// The libraries in what the loader `said`, by name, and where it has found them.
fn needed(said: &str) -> impl Iterator<Item = (&str, Option<&Path>)> {
    // The kernel's library has no file, and the loader itself is named by its path.
    said.lines().filter_map(|line| line.trim().split_once(" => ")).filter_map(|(name, found)| {
        let path = found.rsplit_once(" (0x").map(|(path, _)| Path::new(path));
        (!name.starts_with('/')).then_some((name, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_s_account_is_read() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd9c5f6000)
\tlibm.so.6 => /c/root/lib/x86_64-linux-gnu/libm.so.6 (0x00007f0a2a2e1000)
\tlibgone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 => /c/root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 (0x00007f0a2a3e4000)
";
        let libm = Path::new("/c/root/lib/x86_64-linux-gnu/libm.so.6");
        assert_eq!(
            needed(said).collect::<Vec<_>>(),
            [("libm.so.6", Some(libm)), ("libgone.so.1", None)]
        );
    }

    /// A machine with tools that were fetched for these programs, and nothing to fetch any with.
    fn offline(dir: &Path, programs: Vec<String>) -> Debian {
        let root = dir.join("tools/t");
        for name in DIRS {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        fs::write(root.join("bin/phc_ctl"), "").expect("a file");
        fs::write(root.join("lib/libc.so.6"), "").expect("a file");
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let packages = vec![package("libc6", "2.36"), package("linuxptp", "3.1.1")];
        let fetched = Fetched { programs, packages, root: "tools/t".into() };
        let text = serde_json::to_vec(&fetched).expect("text");
        fs::write(dir.join("tools/bookworm.json"), text).expect("a file");
        let os_release = dir.join("os-release");
        fs::write(&os_release, "ID=debian\nVERSION_CODENAME=bookworm\n").expect("a file");
        Debian { cache: dir.to_owned(), os_release }
    }

    #[test]
    fn a_warm_cache_needs_neither_apt_nor_a_network() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tools, cached) =
            offline(dir.path(), programs()).tools(false, &mut |_| ()).expect("tools");
        assert!(cached);
        assert_eq!(tools.origin, "linuxptp 3.1.1 (bookworm)");
        let names: Vec<_> =
            tools.files().expect("a directory").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bin/phc_ctl", "lib/libc.so.6"]);
    }

    #[test]
    fn tools_that_were_fetched_for_other_programs_do_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = offline(dir.path(), vec!["phc_ctl".into()]);
        assert!(machine.noted(&dir.path().join("tools/bookworm.json")).is_none());
    }

    #[test]
    fn a_library_that_is_in_no_package_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = find(dir.path(), &LIBRARY_DIRS, "libx.so.1", "ptp4l").expect_err("none");
        let text = error.to_string();
        assert!(text.contains("libx.so.1") && text.contains("ptp4l"), "{text}");
    }
}

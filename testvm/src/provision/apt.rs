// SPDX-License-Identifier: Apache-2.0 OR MIT
//! apt with a state of its own: no root, nothing of the machine's is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;

use super::control::{self, Stanza};
use super::packages::Package;
use super::{Error, io_error};
use crate::process::{self, Tail};

/// An apt whose lists and cache are in a directory of the caller's.
#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
    /// `APT::Default-Release`: where packages are taken from first.
    release: Option<String>,
}

/// For the lists of packages and for the packages, some 100 MB, over a slow line.
const NETWORK_LIMIT: Duration = Duration::from_secs(30 * 60);
const LOCAL_LIMIT: Duration = Duration::from_secs(60);

/// What apt-cache says, in the locale it is run with, when it has no package of that name.
const NO_PACKAGE: &str = "E: No packages found";

/// The lists of packages of this machine's own sources, as apt describes them.
///
/// # Errors
/// apt is missing or does not understand the machine's configuration.
pub fn own_targets(tick: &mut dyn FnMut(&str)) -> Result<Vec<Stanza>, Error> {
    let command = || {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C.UTF-8");
        command
    };
    let fetched = targets(&mut command(), false, tick)?;
    // Without lists (a container's image) there is still what is configured; only less is known of
    // it.
    if fetched.is_empty() { targets(&mut command(), true, tick) } else { Ok(fetched) }
}

fn targets(
    command: &mut Command,
    configured: bool,
    tick: &mut dyn FnMut(&str),
) -> Result<Vec<Stanza>, Error> {
    command
        .arg("indextargets")
        .args(configured.then_some("--no-release-info"))
        .arg("Identifier: Packages");
    process::run("apt-get indextargets", command, LOCAL_LIMIT, tick)
        .map(|text| control::parse(&text))
        .map_err(Error::Apt)
}

impl Apt {
    /// Set up in `dir` with `sources` in the deb822 format.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn new(dir: &Path, sources: &str, release: Option<String>) -> Result<Self, Error> {
        for sub in ["state/lists/partial", "cache/archives/partial", "sources.d", "none"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(io_error(&path))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(io_error(&path)).map(|()| path)
        };
        write("sources.d/debian.sources", sources)?;
        let config = write("apt.conf", &configuration(dir, geteuid().is_root()))?;
        Ok(Self { config, release })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).env("LC_ALL", "C.UTF-8").env_remove("APT_CONFIG");
        if let Some(release) = &self.release {
            command.arg("-o").arg(format!("APT::Default-Release={release}"));
        }
        command
    }

    /// Fetch the lists of packages, all of them.
    ///
    /// # Errors
    /// An archive cannot be reached, or its signature is not valid.
    pub fn update(&self, tick: &mut dyn FnMut(&str)) -> Result<(), Error> {
        // Without this a list that could not be fetched is a warning only.
        self.fetch_lists(&["-o", "APT::Update::Error-Mode=any"], tick).map(drop)
    }

    /// Fetch the lists of packages of those sources that have one; of each suite in `suites` there
    /// must be one.
    ///
    /// # Errors
    /// No source has one of the suites with a valid signature.
    pub fn update_any<'a>(
        &self,
        suites: impl Iterator<Item = &'a str>,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let said = self.fetch_lists(&[], tick)?;
        let targets = targets(&mut self.command("apt-get"), false, tick)?;
        for suite in suites {
            if !targets.iter().any(|t| t.get("Codename").or(t.get("Release")) == Some(suite)) {
                return Err(Error::NoList { suite: suite.to_owned(), said: Tail::of(&said, 10) });
            }
        }
        Ok(())
    }

    fn fetch_lists(&self, options: &[&str], tick: &mut dyn FnMut(&str)) -> Result<String, Error> {
        let mut command = self.command("apt-get");
        command.args(["-q", "update"]).args(options);
        process::run("apt-get update", &mut command, NETWORK_LIMIT, tick).map_err(Error::Apt)
    }

    /// A package's stanza, in the version apt would install; `None` when there is none.
    ///
    /// # Errors
    /// apt fails.
    pub fn show(&self, package: &str, tick: &mut dyn FnMut(&str)) -> Result<Option<Stanza>, Error> {
        let mut command = self.command("apt-cache");
        command.args(["-q", "show", "--no-all-versions", "--", package]);
        match process::run("apt-cache", &mut command, LOCAL_LIMIT, tick) {
            // A warning may precede the stanza, so the one asked for is looked for.
            Ok(text) => {
                Ok(control::parse(&text).into_iter().find(|s| s.get("Package") == Some(package)))
            }
            // Its status is 100 for every failure.
            Err(process::Error::Failed { tail, .. })
                if tail.0.iter().any(|line| line == NO_PACKAGE) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::Apt(error)),
        }
    }

    /// Download packages into `dir`; apt checks them against the signed lists.
    ///
    /// # Errors
    /// The archive cannot be reached, or a package is not what the lists say.
    pub fn download<'a>(
        &self,
        packages: impl Iterator<Item = &'a Package>,
        dir: &Path,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let mut command = self.command("apt-get");
        command
            .args(["-q", "download"])
            .args(packages.map(|p| format!("{}={}", p.name, p.version)))
            .current_dir(dir);
        process::run("apt-get download", &mut command, NETWORK_LIMIT, tick)
            .map(drop)
            .map_err(Error::Apt)
    }
}

/// apt reads a file given by `-c` after the machine's own, so proxies and certificates that are
/// configured there stay in force.
fn configuration(dir: &Path, root: bool) -> String {
    let dir = dir.display();
    let mut text = format!(
        r#"Dir::State "{dir}/state";
Dir::State::Lists "{dir}/state/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "{dir}/cache/archives";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{dir}/sources.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "{dir}/none";
Dir::Log "{dir}/state";
Acquire::Languages "none";
Acquire::Retries "2";
#clear APT::Architectures;
APT::Architecture "amd64";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    );
    if root {
        // The sandbox user could not write into a private directory.
        text.push_str("APT::Sandbox::User \"root\";\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// apt-cache whose lists are not readable is not one that has no such package.
    #[test]
    fn a_package_that_is_not_there_is_told_from_an_apt_that_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let apt = Apt::new(dir.path(), "", None).expect("a configuration");
        match apt.show("no-such-package", &mut |_| ()) {
            Ok(found) => assert_eq!(found, None),
            Err(Error::Apt(process::Error::Spawn { .. })) => {
                let _ =
                    writeln!(std::io::stderr(), "SKIPPED: packages in apt's lists: no apt-cache");
                return;
            }
            Err(error) => panic!("{error:?}"),
        }
        fs::write(dir.path().join("sources.d/debian.sources"), "Types: nonsense\n")
            .expect("a file");
        let failed =
            apt.show("no-such-package", &mut |_| ()).expect_err("apt cannot read its sources");
        assert!(matches!(&failed, Error::Apt(process::Error::Failed { .. })), "{failed:?}");
    }

    #[test]
    fn nothing_of_the_machine_s_state_is_written() {
        let text = configuration(Path::new("/cache/apt"), false);
        for line in text.lines().filter(|l| {
            l.starts_with("Dir::") && !l.contains("/dev/null") && !l.contains("::status")
        }) {
            assert!(line.contains("\"/cache/apt/"), "{line}");
        }
        assert!(!text.contains("Sandbox"));
        assert!(configuration(Path::new("/x"), true).contains("Sandbox"));
    }
}

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
use crate::process;

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

    /// Fetch the lists of packages.
    ///
    /// # Errors
    /// The archive cannot be reached, or its signature is not valid.
    pub fn update(&self, tick: &mut dyn FnMut(&str)) -> Result<(), Error> {
        // Without this a list that could not be fetched is a warning only.
        let mut command = self.command("apt-get");
        command.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        process::run("apt-get update", &mut command, NETWORK_LIMIT, tick).map(drop).map_err(Error::Apt)
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
            Ok(text) => Ok(control::parse(&text).into_iter().find(|s| s.get("Package") == Some(package))),
            Err(process::Error::Failed { .. }) => Ok(None),
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
        command.args(["-q", "download"]).args(packages.map(|p| format!("{}={}", p.name, p.version))).current_dir(dir);
        process::run("apt-get download", &mut command, NETWORK_LIMIT, tick).map(drop).map_err(Error::Apt)
    }
}

/// apt reads a file given by `-c` after the machine's own, so proxies and certificates that are configured there stay in force.
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
    use super::*;

    #[test]
    fn nothing_of_the_machine_s_state_is_written() {
        let text = configuration(Path::new("/cache/apt"), false);
        for line in
            text.lines().filter(|l| l.starts_with("Dir::") && !l.contains("/dev/null") && !l.contains("::status"))
        {
            assert!(line.contains("\"/cache/apt/"), "{line}");
        }
        assert!(!text.contains("Sandbox"));
        assert!(configuration(Path::new("/x"), true).contains("Sandbox"));
    }
}

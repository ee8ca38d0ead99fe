// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds what a run needs from the checkout: the device, the agent, and the driver for one kernel.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::process;
use crate::provision::Kernel;

/// What can go wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// A build failed.
    #[error("{what} cannot be built")]
    Build {
        /// What was built.
        what: &'static str,
        /// Why not; has the compiler's last words.
        #[source]
        source: process::Error,
    },
    /// Cargo succeeded and has told of no such program.
    #[error("Cargo does not say where it has put the program {program}")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// A build succeeded and its product is not there.
    #[error("{path} was not built")]
    NoProduct {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The guest's modules of this project, for one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverModules {
    /// The driver.
    pub driver: PathBuf,
    /// The livepatch with the `napi_schedule_prep` of Linux 4.10.
    pub livepatch: PathBuf,
    /// The rendezvous.
    pub rendezvous: PathBuf,
    /// What drives the kernel's NAPI functions step by step.
    pub napicheck: PathBuf,
    /// What puts a wrong entry into a used ring.
    pub forgeused: PathBuf,
}

/// A cold build of everything takes one to three minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Builds from one checkout into one target directory.
#[derive(Debug)]
pub struct Builder<'a> {
    /// The checkout.
    pub source: &'a Path,
    /// Cargo's target directory, where it is not for cargo's configuration to say.
    pub target: Option<&'a Path>,
    /// Where driver builds are kept, one directory a kernel.
    pub cache: &'a Path,
}

impl Builder<'_> {
    /// The device's program, in release mode.
    ///
    /// # Errors
    /// Cargo fails.
    pub fn device(&self, tick: &mut dyn FnMut(&str)) -> Result<PathBuf, Error> {
        // Together with testvm, as scripts/repro builds them: cargo chooses the features of shared
        // dependencies by what is built together, and would otherwise compile some of them twice.
        let packages = ["build", "-p", "testvm", "-p", "tsnic"];
        self.cargo("The device", "tsnic", &packages, &[], tick)
    }

    /// The guest agent: static, for it is alone in the guest.
    ///
    /// # Errors
    /// Cargo fails.
    pub fn agent(&self, tick: &mut dyn FnMut(&str)) -> Result<PathBuf, Error> {
        // Only the program itself gets the flags, so its dependencies are compiled but once for
        // all.
        let flags = ["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"];
        self.cargo(
            "The guest agent",
            "guest-agent",
            &["rustc", "-p", "guest-agent", "--bin", "guest-agent"],
            &flags,
            tick,
        )
    }

    /// The driver and the test modules for `kernel`. The second value tells whether they were there
    /// already.
    ///
    /// # Errors
    /// kbuild or cargo fails.
    pub fn driver(
        &self,
        kernel: &Kernel,
        tick: &mut dyn FnMut(&str),
    ) -> Result<(DriverModules, bool), Error> {
        // Two kernels may have the same release, a user's own and Debian's for instance.
        let out = self.cache.join("drivers").join(format!(
            "{}-{:08x}",
            kernel.release,
            hash(&kernel.build) as u32
        ));
        let modules = DriverModules {
            driver: out.join("tsnic.ko"),
            livepatch: out.join("tsnic_livepatch.ko"),
            rendezvous: out.join("tsnic_rendezvous.ko"),
            napicheck: out.join("tsnic_napicheck.ko"),
            forgeused: out.join("tsnic_forgeused.ko"),
        };
        let all = [
            &modules.driver,
            &modules.livepatch,
            &modules.rendezvous,
            &modules.napicheck,
            &modules.forgeused,
        ];
        let stamp_file = out.join("inputs.json");
        let inputs = self.driver_inputs(kernel)?;
        let built_from = fs::read(&stamp_file)
            .ok()
            .and_then(|text| serde_json::from_slice::<Inputs>(&text).ok());
        if built_from.as_ref() == Some(&inputs) && all.iter().all(|path| path.is_file()) {
            return Ok((modules, true));
        }
        let _ = fs::remove_file(&stamp_file);
        fs::create_dir_all(&out).map_err(|source| Error::Io { path: out.clone(), source })?;
        let mut command = Command::new(self.source.join("guest-driver/kbuild/build"));
        command.args([&kernel.build, &out]).current_dir(self.source);
        process::run_family("guest-driver/kbuild/build", &command, BUILD_LIMIT, tick)
            .map_err(|source| Error::Build { what: "The driver", source })?;
        for path in all {
            product(path.clone())?;
        }
        let text = serde_json::to_vec(&inputs).unwrap_or_default();
        fs::write(&stamp_file, text).map_err(|source| Error::Io { path: stamp_file, source })?;
        Ok((modules, false))
    }

    /// Runs cargo; where it has put the executable of `program`. Only cargo knows: a `build.target`
    /// in its configuration adds a directory.
    fn cargo(
        &self,
        what: &'static str,
        program: &'static str,
        args: &[&str],
        last: &[&str],
        tick: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, Error> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(args)
            .args(["--release", "--locked", "--color", "never"])
            .arg("--message-format=json-render-diagnostics")
            .args(last)
            .current_dir(self.source);
        // Set for cross builds of something else.
        command.env_remove("CARGO_BUILD_TARGET");
        if let Some(target) = self.target {
            command.env("CARGO_TARGET_DIR", target);
        }
        let messages = process::run_family_output("cargo", &command, BUILD_LIMIT, tick)
            .map_err(|source| Error::Build { what, source })?;
        product(executable(&messages, program).ok_or(Error::NoProgram { program })?)
    }

    /// Everything a driver build depends on. A new compiler changes the toolchain's directory or
    /// its modification time.
    fn driver_inputs(&self, kernel: &Kernel) -> Result<Inputs, Error> {
        let mut files = BTreeMap::new();
        for part in ["Cargo.toml", "Cargo.lock", "device/abi", "guest-driver"] {
            hash_files(&self.source.join(part), &mut files)?;
        }
        hash_files(&kernel.build.join("Module.symvers"), &mut files)?;
        hash_files(&kernel.build.join(".config"), &mut files)?;
        let toolchain = ["RUSTUP_TOOLCHAIN", "RUSTC"]
            .iter()
            .map(|name| env::var(name).unwrap_or_default())
            .collect();
        Ok(Inputs {
            release: kernel.release.clone(),
            build: kernel.build.clone(),
            toolchain,
            files,
        })
    }
}

/// What a driver was built from: two builds with equal inputs are the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Inputs {
    release: String,
    build: PathBuf,
    toolchain: Vec<String>,
    files: BTreeMap<PathBuf, u64>,
}

/// A hash of each file in `path`, which may be a file itself. A file that is not there has none.
fn hash_files(path: &Path, into: &mut BTreeMap<PathBuf, u64>) -> Result<(), Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            hash_files(&entry.map_err(failed)?.path(), into)?;
        }
        return Ok(());
    }
    match fs::read(path) {
        Ok(content) => {
            into.insert(path.to_owned(), hash(&content));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Not against an adversary: the cache and the checkout belong to the same user.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A message of cargo's, as far as it is of use here.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Where cargo's messages, one a line, say that the executable of `program` is.
fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.as_ref().is_some_and(|target| target.name == program))
        .find_map(|message| message.executable)
}

fn product(path: PathBuf) -> Result<PathBuf, Error> {
    if path.is_file() { Ok(path) } else { Err(Error::NoProduct { path }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A checkout whose driver build writes its modules and counts its runs.
    fn checkout(dir: &Path, script: &str) -> Kernel {
        let build = dir.join("guest-driver/kbuild/build");
        fs::create_dir_all(build.parent().expect("a parent")).expect("a directory");
        fs::write(&build, format!("#!/bin/sh\necho run >>\"$2/runs\"\n{script}\n"))
            .expect("a script");
        fs::set_permissions(&build, fs::Permissions::from_mode(0o755)).expect("executable");
        fs::create_dir_all(dir.join("kdir")).expect("a directory");
        Kernel {
            release: "6.1".into(),
            origin: String::new(),
            image: dir.join("bzImage"),
            build: dir.join("kdir"),
            modules: dir.join("kdir"),
        }
    }

    const MAKES_ALL: &str = "for m in tsnic tsnic_livepatch tsnic_rendezvous tsnic_napicheck \
                             tsnic_forgeused; do touch \"$2/$m.ko\"; done";

    fn builder(dir: &Path) -> Builder<'_> {
        Builder { source: dir, target: Some(dir), cache: dir }
    }

    #[test]
    fn a_driver_is_built_again_only_when_an_input_has_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let kernel = checkout(dir.path(), MAKES_ALL);
        let build = || builder(dir.path()).driver(&kernel, &mut |_| ()).expect("modules").1;
        assert!(!build());
        assert!(build(), "built twice from the same");
        fs::write(dir.path().join("guest-driver/new.rs"), "").expect("a file");
        assert!(!build(), "a new file is an input");
        fs::write(kernel.build.join("Module.symvers"), "0x1").expect("a file");
        assert!(!build(), "the kernel's symbols are an input");
        let out = dir.path().join(format!("drivers/6.1-{:08x}", hash(&kernel.build) as u32));
        fs::remove_file(out.join("tsnic.ko")).expect("gone");
        assert!(!build(), "a missing product is built");
        let runs = fs::read_to_string(out.join("runs")).expect("runs");
        assert_eq!(runs.lines().count(), 4);
    }

    #[test]
    fn a_build_without_its_product_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let kernel = checkout(dir.path(), "touch \"$2/tsnic.ko\"");
        let error = builder(dir.path()).driver(&kernel, &mut |_| ()).expect_err("half");
        assert!(error.to_string().contains("tsnic_livepatch.ko was not built"), "{error}");
    }

    #[test]
    fn a_failed_build_shows_its_last_words_and_is_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let kernel =
            checkout(dir.path(), &format!("{MAKES_ALL}\necho 'no such compiler' >&2; exit 1"));
        for _ in 0..2 {
            let Err(Error::Build { source, .. }) = builder(dir.path()).driver(&kernel, &mut |_| ())
            else {
                panic!("success?")
            };
            assert!(source.to_string().contains("no such compiler"), "{source}");
        }
    }

    /// A package of this name that only prints its name, and a configuration of cargo's.
    fn package(dir: &Path, name: &str, configuration: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
             members = [\"testvm\"]\n"
        );
        let member = "[package]\nname = \"testvm\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        for (file, content) in [
            ("Cargo.toml", manifest.as_str()),
            ("src/main.rs", "fn main() { println!(env!(\"CARGO_PKG_NAME\")); }"),
            ("testvm/Cargo.toml", member),
            ("testvm/src/main.rs", "fn main() {}"),
            (".cargo/config.toml", configuration),
        ] {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        let mut cargo = Command::new(env!("CARGO"));
        let done = cargo.args(["generate-lockfile", "--offline"]).current_dir(dir).output();
        assert!(done.expect("cargo").status.success());
    }

    /// The host as a compiler's target.
    fn host() -> String {
        let output = Command::new("rustc").arg("-vV").output().expect("rustc").stdout;
        let text = String::from_utf8(output).expect("text");
        text.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned()
    }

    #[test]
    fn a_program_is_where_cargo_says_whatever_its_configuration() {
        let triple = host();
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let configuration = format!(
            "[build]\ntarget = \"{triple}\"\ntarget-dir = \"{}\"\n",
            elsewhere.path().display()
        );
        package(dir.path(), "tsnic", &configuration);
        let own = dir.path().join("own");
        // A stale program where cargo would put it without the configuration.
        fs::create_dir_all(own.join("release")).expect("a directory");
        fs::write(own.join("release/tsnic"), "stale").expect("a file");
        let builder = Builder { source: dir.path(), target: Some(&own), cache: dir.path() };
        let program = builder.device(&mut |_| ()).expect("a program");
        assert_eq!(program, own.join(&triple).join("release/tsnic"));
        let said = Command::new(program).output().expect("a program that runs").stdout;
        assert_eq!(said, b"tsnic\n");
    }

    #[test]
    fn a_program_that_cargo_does_not_tell_of_is_an_error() {
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"tsnic"},"executable":null}"#;
        let other =
            r#"{"reason":"compiler-artifact","target":{"name":"testvm"},"executable":"/t"}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(&[library, other, end].join("\n"), "tsnic"), None);
        let program =
            r#"{"reason":"compiler-artifact","target":{"name":"tsnic"},"executable":"/x/tsnic"}"#;
        let all = [library, program, other, end].join("\n");
        assert_eq!(executable(&all, "tsnic"), Some("/x/tsnic".into()));
    }
}

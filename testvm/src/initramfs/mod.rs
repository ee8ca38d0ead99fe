// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's files: the agent as `/init`, the kernel's virtio modules, ours, and tools.

mod archive;
mod modules;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::build::DriverModules;
use crate::process::find_program;
use crate::provision::{self, Kernel, Tools};

use archive::Archive;
pub use modules::{Error as ModuleError, Module, Tree};

/// What can go wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tools.
    #[error("The tools cannot be found")]
    Tools(#[source] provision::Error),
    /// The kernel's own modules.
    #[error("The kernel's virtio modules cannot be prepared")]
    Modules(#[from] ModuleError),
    /// The kernel has no virtio at all, or its modules are elsewhere.
    #[error(
        "Kernel {release} has no virtio-pci, without which the guest sees no device: it is not built in ({config}), and {modules} has \
         no module virtio_pci; install the modules there, or give a --kernel-build directory they were built in"
    )]
    NoTransport {
        /// The kernel.
        release: String,
        /// The configuration that says so.
        config: PathBuf,
        /// Where modules were looked for.
        modules: PathBuf,
    },
}

/// An initial root file system, and where things are in it.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// The archive, on the host.
    pub path: PathBuf,
    /// Modules of the virtio transport, in loading order; empty when the kernel has it built in.
    /// Paths in the guest, as all below.
    pub transport: Vec<String>,
    /// The kernel's own `virtio_net` with what it needs, in loading order; empty when there is
    /// none.
    pub virtio_net: Vec<String>,
    /// The tsnic driver.
    pub driver: String,
    /// The module that gives the running kernel the `napi_schedule_prep` of Linux 4.10.
    pub livepatch: String,
    /// The module that holds a poll at the rendezvous.
    pub rendezvous: String,
    /// The module that drives the kernel's NAPI functions step by step.
    pub napicheck: String,
    /// The module that puts a wrong entry into a used ring.
    pub forgeused: String,
    /// There is a busybox in it, and so a shell.
    pub shell: bool,
}

const MODULE_DIR: &str = "modules";
/// Directories of every guest.
const DIRS: [&str; 5] = ["bin", "dev", "proc", "sys", MODULE_DIR];
/// Where tools put what they make.
const TOOL_DIRS: [&str; 2] = ["run", "tmp"];

/// The host's busybox, linked statically as in Debian's package `busybox-static`, and where it is
/// in the guest.
const BUSYBOX: (&str, &str) = ("busybox", "bin/busybox");

/// The modules of the virtio transport, in loading order; none when the kernel has it built in.
///
/// # Errors
/// There is no virtio transport, or a module of it cannot be read.
pub fn transport(kernel: &Kernel) -> Result<Vec<Module>, Error> {
    let modules = Tree::open(&kernel.modules).with_needs("virtio_pci")?;
    if !modules.is_empty() {
        return Ok(modules);
    }
    let config = kernel.build.join("include/config/auto.conf");
    let settings =
        fs::read_to_string(&config).map_err(|source| Error::Io { path: config.clone(), source })?;
    if settings.lines().any(|line| line == "CONFIG_VIRTIO_PCI=y") {
        return Ok(modules);
    }
    Err(Error::NoTransport {
        release: kernel.release.clone(),
        config,
        modules: kernel.modules.clone(),
    })
}

impl Initramfs {
    /// Put the archive together at `path`, with `tools` where a guest is to have them.
    ///
    /// # Errors
    /// A file of it cannot be read, or it cannot be written.
    pub fn write(
        path: &Path,
        kernel: &Kernel,
        agent: &Path,
        driver: &DriverModules,
        tools: Option<&Tools>,
    ) -> Result<Self, Error> {
        let transport = transport(kernel)?;
        let mut virtio_net = Tree::open(&kernel.modules).with_needs("virtio_net")?;
        virtio_net.retain(|module| transport.iter().all(|t| t.name != module.name));

        let written = |source| Error::Io { path: path.to_owned(), source };
        let mut archive = start(path, agent)?;

        if let Some(tools) = tools {
            let missing = Tools::directories().filter(|dir| !DIRS.contains(dir));
            for dir in missing.chain(TOOL_DIRS) {
                archive.directory(dir).map_err(written)?;
            }
            for (name, file) in tools.files().map_err(Error::Tools)? {
                archive.file(&name, 0o755, &read(&file)?).map_err(written)?;
            }
        }

        let busybox = find_program(Path::new(BUSYBOX.0));
        if let Some(busybox) = &busybox {
            archive.file(BUSYBOX.1, 0o755, &read(busybox)?).map_err(written)?;
        }

        let mut put = |name: &str, object: &[u8]| {
            let path = format!("{MODULE_DIR}/{name}.ko");
            archive.file(&path, 0o644, object).map_err(written)?;
            Ok::<_, Error>(format!("/{path}"))
        };
        let mut put_all = |modules: &[Module]| {
            modules.iter().map(|m| put(&m.name, &m.object)).collect::<Result<_, _>>()
        };
        let (transport, virtio_net) = (put_all(&transport)?, put_all(&virtio_net)?);
        let initramfs = Self {
            path: path.to_owned(),
            transport,
            virtio_net,
            driver: put("tsnic", &read(&driver.driver)?)?,
            livepatch: put("tsnic_livepatch", &read(&driver.livepatch)?)?,
            rendezvous: put("tsnic_rendezvous", &read(&driver.rendezvous)?)?,
            napicheck: put("tsnic_napicheck", &read(&driver.napicheck)?)?,
            forgeused: put("tsnic_forgeused", &read(&driver.forgeused)?)?,
            shell: busybox.is_some(),
        };
        archive.finish().map_err(written)?;
        Ok(initramfs)
    }
}

/// Puts an archive together at `path` with the agent and the `virtio_net` of the kernel whose
/// modules are in `modules`. The archive, and the modules in it in loading order.
///
/// # Errors
/// A file of it cannot be read, or it cannot be written.
pub fn stock(path: &Path, modules: &Path, agent: &Path) -> Result<(PathBuf, Vec<String>), Error> {
    let virtio_net = Tree::open(modules).with_needs("virtio_net")?;
    let written = |source| Error::Io { path: path.to_owned(), source };
    let mut archive = start(path, agent)?;
    let mut inside = Vec::new();
    for module in &virtio_net {
        let name = format!("{MODULE_DIR}/{}.ko", module.name);
        archive.file(&name, 0o644, &module.object).map_err(written)?;
        inside.push(format!("/{name}"));
    }
    archive.finish().map_err(written)?;
    Ok((path.to_owned(), inside))
}

/// An archive at `path` with directories, a console, and the agent as init.
fn start(path: &Path, agent: &Path) -> Result<Archive<BufWriter<File>>, Error> {
    let written = |source| Error::Io { path: path.to_owned(), source };
    let mut archive = Archive::new(BufWriter::new(File::create(path).map_err(written)?));
    for dir in DIRS {
        archive.directory(dir).map_err(written)?;
    }
    // The kernel opens it for init before anything is mounted.
    archive.character_device("dev/console", 5, 1).map_err(written)?;
    archive.file("init", 0o755, &read(agent)?).map_err(written)?;
    Ok(archive)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(dir: &Path, setting: &str) -> Kernel {
        let config = dir.join("include/config");
        fs::create_dir_all(&config).expect("a directory");
        fs::write(config.join("auto.conf"), format!("CONFIG_VIRTIO=y\n{setting}\n"))
            .expect("a file");
        Kernel {
            release: "6.9.0-test".into(),
            origin: String::new(),
            image: dir.join("bzImage"),
            build: dir.to_owned(),
            modules: dir.join("modules/6.9.0-test"),
        }
    }

    #[test]
    fn a_kernel_without_virtio_is_refused_with_the_place_searched() {
        let dir = tempfile::tempdir().expect("a directory");
        for setting in ["CONFIG_VIRTIO_PCI=m", "# no virtio-pci"] {
            let kernel = kernel(dir.path(), setting);
            let error = transport(&kernel).expect_err("no virtio").to_string();
            assert!(
                error.contains("6.9.0-test") && error.contains(&*kernel.modules.to_string_lossy()),
                "{error}"
            );
        }
    }

    #[test]
    fn virtio_is_built_in_or_a_module() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(transport(&kernel(dir.path(), "CONFIG_VIRTIO_PCI=y")).expect("built in"), []);
        let kernel = kernel(dir.path(), "CONFIG_VIRTIO_PCI=m");
        fs::create_dir_all(&kernel.modules).expect("a directory");
        fs::write(kernel.modules.join("modules.order"), "virtio_pci.ko\n").expect("a file");
        fs::write(kernel.modules.join("virtio_pci.ko"), "\0depends=\0").expect("a file");
        assert_eq!(transport(&kernel).expect("a module")[0].name, "virtio_pci");
    }
}

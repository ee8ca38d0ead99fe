// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's files: the agent as `/init`, the kernel's virtio modules, and ours.

mod cpio;
mod modules;

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::build::DriverModules;
use crate::provision::Kernel;

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
    /// The kernel's own modules.
    #[error("The kernel's virtio modules cannot be prepared")]
    Modules(#[from] ModuleError),
}

/// An initial root file system, and where things are in it.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// The archive, on the host.
    pub path: PathBuf,
    /// Modules of the virtio transport, in loading order; empty when the kernel has it built in. Paths in the guest, as all below.
    pub transport: Vec<String>,
    /// The kernel's own `virtio_net` with what it needs, in loading order; empty when there is none.
    pub virtio_net: Vec<String>,
    /// The tsnic driver.
    pub driver: String,
    /// The module that gives the running kernel the `napi_schedule_prep` of Linux 4.10.
    pub livepatch: String,
    /// The module that holds a poll at the rendezvous.
    pub rendezvous: String,
    /// The module that drives the kernel's NAPI functions step by step.
    pub napicheck: String,
}

const MODULE_DIR: &str = "modules";

impl Initramfs {
    /// Put the archive together at `path`.
    ///
    /// # Errors
    /// A file of it cannot be read, or it cannot be written.
    pub fn write(path: &Path, kernel: &Kernel, agent: &Path, driver: &DriverModules) -> Result<Self, Error> {
        let tree = kernel.modules.as_deref().map(Tree::open);
        let needed = |name| tree.as_ref().map_or(Ok(Vec::new()), |tree| tree.with_needs(name));
        let transport = needed("virtio_pci")?;
        let mut virtio_net = needed("virtio_net")?;
        virtio_net.retain(|module| transport.iter().all(|t| t.name != module.name));

        let out = File::create(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let written = |source| Error::Io { path: path.to_owned(), source };
        let mut archive = cpio::Archive::new(BufWriter::new(out));
        for dir in ["dev", "proc", "sys", MODULE_DIR] {
            archive.directory(dir).map_err(written)?;
        }
        // The kernel opens it for init before anything is mounted.
        archive.character_device("dev/console", 5, 1).map_err(written)?;
        archive.file("init", 0o755, &read(agent)?).map_err(written)?;

        let mut put = |name: &str, object: &[u8]| {
            let path = format!("{MODULE_DIR}/{name}.ko");
            archive.file(&path, 0o644, object).map_err(written)?;
            Ok::<_, Error>(format!("/{path}"))
        };
        let mut put_all =
            |modules: &[Module]| modules.iter().map(|m| put(&m.name, &m.object)).collect::<Result<_, _>>();
        let (transport, virtio_net) = (put_all(&transport)?, put_all(&virtio_net)?);
        let initramfs = Self {
            path: path.to_owned(),
            transport,
            virtio_net,
            driver: put("tsnic", &read(&driver.driver)?)?,
            livepatch: put("tsnic_livepatch", &read(&driver.livepatch)?)?,
            rendezvous: put("tsnic_rendezvous", &read(&driver.rendezvous)?)?,
            napicheck: put("tsnic_napicheck", &read(&driver.napicheck)?)?,
        };
        archive.finish().map_err(written)?;
        Ok(initramfs)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

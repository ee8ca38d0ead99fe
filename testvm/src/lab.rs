// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything a scenario needs, prepared once: kernel, device, driver, guest's files, QEMU,
//! namespaces. Then guests are booted in it.

use std::path::PathBuf;
use std::time::SystemTime;
use std::{fs, io};

use thiserror::Error;

use crate::build::{self, Builder};
use crate::cache;
use crate::config::{Interrupts, KernelChoice, Machine};
use crate::initramfs::{self, Initramfs};
use crate::isolate::{self, RunDir};
use crate::output::errln;
use crate::process;
use crate::progress::{Progress, Stage};
use crate::provision::{self, Debian, Kernel, Tools};
use crate::qemu::{self, Qemu};
use crate::vm::{self, Hypervisor, Parts, Vm, VmConfig};

/// What can go wrong before or while a guest is booted. None of these is a verdict.
#[derive(Debug, Error)]
pub enum Error {
    /// The cache.
    #[error("The cache cannot be used")]
    Cache(#[from] cache::Error),
    /// The kernel.
    #[error("There is no kernel for the guest")]
    Kernel(#[from] provision::Error),
    /// A build.
    #[error("The checkout cannot be built")]
    Build(#[from] build::Error),
    /// The guest's files.
    #[error("The guest's files cannot be put together")]
    Initramfs(#[from] initramfs::Error),
    /// QEMU.
    #[error("There is no usable QEMU")]
    Qemu(#[from] qemu::Error),
    /// The namespaces.
    #[error("The run cannot be isolated")]
    Isolate(#[from] isolate::Error),
    /// The guest.
    #[error("The guest does not come up")]
    Vm(#[from] vm::Error),
    /// The directory of the logs.
    #[error("Log directory {path} cannot be made")]
    Logs {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine is not the one this is made for.
    #[error("The guest is x86-64, and so must this machine be; it is {0}")]
    Architecture(&'static str),
    /// The kernel is none that this command can judge.
    #[error("Linux {release}: {why}")]
    Unsuitable {
        /// Its release.
        release: String,
        /// What is missing.
        why: String,
    },
    /// Orphaned processes could not be adopted.
    #[error("This process cannot become the parent of its children's orphans")]
    Orphans(#[source] io::Error),
}

/// A prepared machine room. Make it on the main thread, before there are others.
#[derive(Debug)]
pub struct Lab {
    /// The guest's kernel.
    pub kernel: Kernel,
    /// QEMU and its accelerator.
    pub qemu: Qemu,
    /// The guest's files: paths of the modules in the guest.
    pub initramfs: Initramfs,
    /// The tools in them.
    pub tools: ToolsFound,
    machine: Machine,
    device: PathBuf,
    run: RunDir,
    logs: Logs,
    guests: u8,
}

/// The tools of a guest: none are wanted, there they are, or why there are none. Most of what can be
/// done with a guest needs none.
#[derive(Clone, Debug)]
pub enum ToolsFound {
    /// They were not asked for.
    Unwanted,
    /// In the cache.
    Found(Tools),
    /// With all causes.
    Missing(String),
}

impl ToolsFound {
    /// In the cache, if they are there.
    #[must_use]
    pub fn found(&self) -> Option<&Tools> {
        match self {
            Self::Found(tools) => Some(tools),
            Self::Unwanted | Self::Missing(_) => None,
        }
    }

    fn look(machine: &Machine, progress: &mut Progress) -> Self {
        let mut stage = progress.stage(Stage::Tools);
        let debian = Debian::new(&machine.cache);
        match debian.tools(machine.refresh, &mut |line| stage.note(line)) {
            Ok((tools, cached)) => {
                stage.done(format!(
                    "{}, {}",
                    tools.origin,
                    if cached { "cached" } else { "fetched" }
                ));
                Self::Found(tools)
            }
            Err(error) => Self::Missing(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

/// What was fetched and built: the part of a preparation that needs the network when the cache is
/// cold.
#[derive(Debug)]
pub struct Built {
    kernel: Kernel,
    device: PathBuf,
    agent: PathBuf,
    driver: build::DriverModules,
    /// The tools.
    pub tools: ToolsFound,
    _lock: cache::Lock,
}

impl Built {
    /// Fetch the kernel and the tools, and build everything that is not in the cache. Tools that
    /// cannot be fetched are missing, and no error.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn prepare(machine: &Machine, progress: &mut Progress) -> Result<Self, Error> {
        Self::prepare_for(machine, |_| Ok(()), true, progress)
    }

    fn prepare_for(
        machine: &Machine,
        suits: impl Fn(&Kernel) -> Result<(), String>,
        tools: bool,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::Architecture(std::env::consts::ARCH));
        }
        process::adopt_orphans().map_err(Error::Orphans)?;
        let builder = Builder {
            source: &machine.source,
            target: machine.target.as_deref(),
            cache: &machine.cache,
        };

        let mut stage = progress.stage(Stage::Kernel);
        let lock = cache::lock(&machine.cache, &mut |line| stage.note(line))?;
        let kernel = match &machine.kernel {
            KernelChoice::Own { image, build } => {
                let kernel = Kernel::own(image, build)?;
                stage.done(format!("{} (your own)", kernel.release));
                kernel
            }
            KernelChoice::Debian(series) => {
                let debian = Debian::new(&machine.cache);
                let (kernel, cached) =
                    debian.kernel(series, machine.refresh, &mut |line| stage.note(line))?;
                stage.done(format!(
                    "{}{}",
                    kernel.origin,
                    if cached { ", cached" } else { ", fetched" }
                ));
                kernel
            }
        };
        // Known now, not after minutes of building.
        initramfs::transport(&kernel)?;
        suits(&kernel).map_err(|why| Error::Unsuitable { release: kernel.release.clone(), why })?;
        let tools = if tools { ToolsFound::look(machine, progress) } else { ToolsFound::Unwanted };
        let mut stage = progress.stage(Stage::Device);
        let device = builder.device(&mut |line| stage.note(line))?;
        stage.done("tsnic");
        let mut stage = progress.stage(Stage::Agent);
        let agent = builder.agent(&mut |line| stage.note(line))?;
        stage.done("guest-agent, static");
        let mut stage = progress.stage(Stage::Driver);
        let (driver, cached) = builder.driver(&kernel, &mut |line| stage.note(line))?;
        stage.done(format!("for {}{}", kernel.release, if cached { ", cached" } else { "" }));
        Ok(Self { kernel, device, agent, driver, tools, _lock: lock })
    }
}

impl Lab {
    /// Prepare everything and move this process into namespaces of its own.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn prepare(machine: &Machine, progress: &mut Progress) -> Result<Self, Error> {
        Self::prepare_for(machine, |_| Ok(()), progress)
    }

    /// The same, with the tools among the guest's files, where they can be had.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn prepare_with_tools(machine: &Machine, progress: &mut Progress) -> Result<Self, Error> {
        Self::prepare_as(machine, |_| Ok(()), true, progress)
    }

    /// [`Self::prepare`] for a kernel that `suits`; if not, the reason is the error, before anything is
    /// built.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn prepare_for(
        machine: &Machine,
        suits: impl Fn(&Kernel) -> Result<(), String>,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        Self::prepare_as(machine, suits, false, progress)
    }

    fn prepare_as(
        machine: &Machine,
        suits: impl Fn(&Kernel) -> Result<(), String>,
        tools: bool,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        // Known now, not after minutes of building.
        isolate::probe()?;
        let mut stage = progress.stage(Stage::Qemu);
        let own = machine.qemu.as_deref();
        let mut qemu =
            Qemu::find(own, machine.accel, machine.interrupts, &machine.cache, &mut |line| {
                stage.note(line);
            })?;
        stage.done(format!("QEMU {}, {} ({})", qemu.version, qemu.accel, qemu.accel_reason));

        let built = Built::prepare_for(machine, suits, tools, progress)?;

        if qemu.accel == qemu::Accel::Kvm {
            let mut stage = progress.stage(Stage::Kvm);
            qemu.try_kernel(machine.accel, &built.kernel.image, &machine.cache, &mut |line| {
                stage.note(line);
            })?;
            stage.done(format!("{} ({})", qemu.accel, qemu.accel_reason));
        }

        let stage = progress.stage(Stage::Isolate);
        let run = RunDir::enter()?;
        let logs = Logs::new(machine, &run)?;
        stage.done("a network of its own");

        let stage = progress.stage(Stage::Initramfs);
        let initramfs = Initramfs::write(
            &run.path().join("initramfs"),
            &built.kernel,
            &built.agent,
            &built.driver,
            built.tools.found(),
        )?;
        stage.done("");
        let Built { kernel, device, tools, .. } = built;
        let machine = machine.clone();
        Ok(Self { kernel, qemu, initramfs, tools, machine, device, run, logs, guests: 0 })
    }

    /// Boot a guest. Call it on a thread that outlives the guest.
    ///
    /// # Errors
    /// See [`vm::Error`].
    pub fn boot(&mut self, config: &VmConfig, progress: &mut Progress) -> Result<Vm, Error> {
        let parts = Parts {
            hypervisor: Hypervisor::Qemu {
                qemu: &self.qemu,
                kernel: &self.kernel.image,
                interrupts: self.machine.interrupts,
            },
            device: &self.device,
            initrd: &self.initramfs.path,
            transport: &self.initramfs.transport,
            run: &self.run,
            logs: &self.logs.path,
            index: self.guests,
        };
        self.guests += 1;
        let mut stage = progress.stage(Stage::Boot { vcpus: config.vcpus });
        let mut config = config.clone();
        config.kernel_args.extend_from_slice(&self.machine.append);
        config.scale = self.machine.scale;
        let vm = Vm::boot(&parts, &config, &mut || stage.note(""))?;
        stage.done(format!("Linux {}, clock source {}", vm.ready().kernel, vm.ready().clocksource));
        Ok(vm)
    }

    /// How the device interrupts the guests.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        self.machine.interrupts
    }
}

/// Where the logs of the guests are. Those that stay are told of when the lab is given up, whatever
/// came of the run.
#[derive(Debug)]
struct Logs {
    path: PathBuf,
    stay: bool,
}

impl Logs {
    fn new(machine: &Machine, run: &RunDir) -> Result<Self, Error> {
        if !machine.keep {
            return Ok(Self { path: run.path(), stay: false });
        }
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
        let name = format!("{seconds}-{}", std::process::id());
        let path = machine.cache.join("logs").join(name);
        fs::create_dir_all(&path).map_err(|source| Error::Logs { path: path.clone(), source })?;
        Ok(Self { path, stay: true })
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if self.stay {
            errln!("Logs: {}", self.path.display());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest is made of, and what its parts and their sockets are called.

use std::path::Path;

use guest_protocol::SLOW;

use crate::config::{Interrupts, LimitScale};
use crate::isolate::RunDir;
use crate::qemu::Qemu;

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Queue pairs of the device.
    pub queue_pairs: u8,
    /// Size of a disk, empty at first, MiB; `None`: no disk.
    pub disk_mib: Option<u32>,
    /// More kernel parameters.
    pub kernel_args: Vec<String>,
    /// More arguments of the device.
    pub device_args: Vec<String>,
    /// Factor on the time limits.
    pub scale: LimitScale,
}

impl Default for VmConfig {
    fn default() -> Self {
        Self {
            vcpus: 2,
            memory_mib: 256,
            queue_pairs: 1,
            disk_mib: None,
            kernel_args: Vec::new(),
            device_args: Vec::new(),
            scale: LimitScale::default(),
        }
    }
}

impl VmConfig {
    /// All kernel parameters beside those of the machine. A NAME=VALUE that the kernel does not
    /// know becomes the environment of the agent, which has limits of time, too; behind a `--` among
    /// the user's it would be an argument.
    pub(super) fn kernel_args(&self) -> Vec<String> {
        let slow = format!("{SLOW}={}", self.scale.0);
        std::iter::once(slow).chain(self.kernel_args.iter().cloned()).collect()
    }

    /// All arguments of the device beside its sockets and its port.
    pub(super) fn device_args(&self) -> Vec<String> {
        let pairs = (self.queue_pairs > 1)
            .then(|| ["--queue-pairs".to_owned(), self.queue_pairs.to_string()]);
        self.device_args.iter().cloned().chain(pairs.into_iter().flatten()).collect()
    }
}

/// What a boot needs besides its [`VmConfig`]; [`crate::lab::Lab`] has it all.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What runs the guest.
    pub hypervisor: Hypervisor<'a>,
    /// The device's program.
    pub device: &'a Path,
    /// The guest's initial root file system.
    pub initrd: &'a Path,
    /// Modules of the virtio transport in it, in loading order; none when the kernel has it built
    /// in.
    pub transport: &'a [String],
    /// The run directory.
    pub run: &'a RunDir,
    /// Where logs go; a directory that exists.
    pub logs: &'a Path,
    /// Number of this guest in the run.
    pub index: u8,
}

/// What runs a guest, and which kernel.
#[derive(Clone, Copy, Debug)]
pub enum Hypervisor<'a> {
    /// QEMU.
    Qemu {
        /// Which.
        qemu: &'a Qemu,
        /// Kernel image.
        kernel: &'a Path,
        /// How the device interrupts.
        interrupts: Interrupts,
    },
    /// User-mode Linux, kernel and front end in one.
    Uml {
        /// The program.
        program: &'a Path,
    },
}

impl Hypervisor<'_> {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Qemu { .. } => QEMU,
            Self::Uml { .. } => UML,
        }
    }

    /// Name of the receive queue's interrupt in the guest's /proc/interrupts.
    pub(super) const fn rx_irq(&self) -> &'static str {
        match self {
            Self::Qemu { interrupts: Interrupts::Msix, .. } => "virtio0-rx",
            Self::Qemu { interrupts: Interrupts::Intx, .. } => "virtio0",
            Self::Uml { .. } => "virtio",
        }
    }
}

pub(super) const AGENT: &str = "The guest agent";
pub(super) const DEVICE: &str = "The device";
pub(super) const QEMU: &str = "QEMU";
pub(super) const UML: &str = "User-mode Linux";

pub(super) const NIC_SOCKET: &str = "nic";
pub(super) const CONTROL_SOCKET: &str = "control";
pub(super) const AGENT_SOCKET: &str = "agent";
pub(super) const SHELL_SOCKET: &str = "shell";
pub(super) const QMP_SOCKET: &str = "qmp";
/// File of the disk.
pub(super) const DISK: &str = "disk";
/// Lines of a log shown with an error.
pub(super) const TAIL: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_the_factor_on_the_time_limits() {
        let kernel_args = vec!["nokaslr".to_owned()];
        let config = VmConfig { kernel_args, scale: LimitScale(3), ..VmConfig::default() };
        assert_eq!(config.kernel_args(), ["TSNIC_SLOW=3", "nokaslr"]);
        assert_eq!(VmConfig::default().kernel_args(), ["TSNIC_SLOW=1"]);
    }
}

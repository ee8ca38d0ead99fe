// SPDX-License-Identifier: Apache-2.0 OR MIT
//! User-mode Linux as the guest: a kernel that is a process, with its own vhost-user front end.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::parts::NIC_SOCKET;

/// What a user-mode Linux is started with.
#[derive(Clone, Copy, Debug)]
pub struct UmlSpec<'a> {
    /// The kernel.
    pub program: &'a Path,
    /// Its initial root file system.
    pub initrd: &'a Path,
    /// Where it may keep its own files.
    pub directory: &'a Path,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// More kernel parameters.
    pub kernel_args: &'a [String],
    /// The guest's end of the agent's serial line. It must stay open until the command has been
    /// started.
    pub agent: &'a UnixStream,
}

impl UmlSpec<'_> {
    /// The command, to be run in the directory of the sockets. Its console is its standard output.
    ///
    /// # Errors
    /// When the serial line cannot be passed on.
    pub fn command(&self) -> nix::Result<Command> {
        // The child's, too: everything else is closed when it is started.
        fcntl(self.agent, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let agent = self.agent.as_raw_fd();
        let mut command = Command::new(self.program);
        command
            .arg(format!("mem={}M", self.memory_mib))
            .arg(format!("initrd={}", self.initrd.display()))
            .args(["con=null", "con0=null,fd:1", "ssl=null", &format!("ssl1=fd:{agent}")])
            .arg(format!("virtio_uml.device={NIC_SOCKET}:1"))
            // It would leave a directory in the user's home.
            .arg(format!("uml_dir={}/", self.directory.display()))
            .args(["panic=-1", "quiet", "loglevel=4"])
            .args(self.kernel_args);
        Ok(command)
    }
}

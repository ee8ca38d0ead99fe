// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An image of the machine's memory, as hibernation makes it, by `/dev/snapshot`.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use crate::error::Error;

const DEVICE: &str = "/dev/snapshot";

mod ioctl {
    nix::ioctl_none!(freeze, b'3', 1);
    nix::ioctl_none!(unfreeze, b'3', 2);
    nix::ioctl_write_ptr!(create_image, b'3', 17, i32);
}

/// Stops all programs but this thread, has the kernel put every device to rest (`freeze`) and copy
/// its memory, wakes the devices (`thaw`), and lets the programs go on. The image is thrown away.
///
/// # Errors
/// The kernel has no hibernation, too little memory, or a device that refuses.
pub fn create() -> Result<(), Error> {
    let file = File::open(DEVICE).map_err(Error::file("open", DEVICE))?;
    let fd = file.as_raw_fd();
    call("stop all programs", fd, |fd| {
        // SAFETY: The descriptor is open for the whole call, because `file` is; the call takes no
        // argument.
        unsafe { ioctl::freeze(fd) }
    })?;
    let mut in_suspend = 0;
    let created = call("make an image of the memory", fd, |fd| {
        // SAFETY:
        // 1. The descriptor is open for the whole call, because `file` is.
        // 2. The kernel writes one `int`, to which the pointer is, and which nobody else uses
        //    meanwhile.
        unsafe { ioctl::create_image(fd, &raw mut in_suspend) }
    });
    call("let the programs go on", fd, |fd| {
        // SAFETY: As for the first call.
        unsafe { ioctl::unfreeze(fd) }
    })?;
    created?;
    if in_suspend == 1 {
        Ok(())
    } else {
        Err(Error::State("The kernel made no image of its memory"))
    }
}

fn call(what: &str, fd: RawFd, ioctl: impl FnOnce(RawFd) -> nix::Result<i32>) -> Result<(), Error> {
    ioctl(fd)
        .map(drop)
        .map_err(|errno: Errno| Error::call(format!("{DEVICE} cannot {what}"))(errno))
}

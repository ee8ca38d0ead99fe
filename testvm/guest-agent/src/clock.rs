// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PTP hardware clocks (`/dev/ptpN`), by the system calls that all clocks have.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use guest_protocol::ClockAction;
use nix::errno::Errno;

use crate::error::Error;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Does something with a clock; what it shows then, nanoseconds.
///
/// # Errors
/// It cannot be opened, or its driver refuses.
pub fn act(path: &str, action: ClockAction) -> Result<i64, Error> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|source| Error::File { action: "open", path: path.into(), source })?;
    // FD_TO_CLOCKID of the kernel's documentation (Documentation/driver-api/ptp.rst).
    let id = !file.as_raw_fd() << 3 | 3;
    let done = match action {
        ClockAction::Read => Ok(()),
        ClockAction::Set(ns) => set(id, ns),
        ClockAction::Step(ns) => {
            // Nanoseconds in place of microseconds, and never negative.
            let time =
                libc::timeval { tv_sec: ns.div_euclid(SECOND), tv_usec: ns.rem_euclid(SECOND) };
            adjust(id, libc::ADJ_SETOFFSET | libc::ADJ_NANO, |timex| timex.time = time)
        }
        ClockAction::Rate(ppb) => {
            // 2^-16 parts in a million.
            adjust(id, libc::ADJ_FREQUENCY, |timex| timex.freq = (ppb << 16) / 1_000)
        }
    };
    done.and_then(|()| read(id))
        .map_err(Error::call(format!("Cannot carry out {action:?} on {path}")))
}

fn read(id: libc::clockid_t) -> Result<i64, Errno> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: Writes one `timespec`, to one that is this function's.
    Errno::result(unsafe { libc::clock_gettime(id, &raw mut time) })?;
    Ok(time.tv_sec * SECOND + time.tv_nsec)
}

fn set(id: libc::clockid_t, ns: i64) -> Result<(), Errno> {
    let time = libc::timespec { tv_sec: ns.div_euclid(SECOND), tv_nsec: ns.rem_euclid(SECOND) };
    // SAFETY: Reads one `timespec`, which is this function's.
    Errno::result(unsafe { libc::clock_settime(id, &raw const time) }).map(drop)
}

fn adjust(
    id: libc::clockid_t,
    modes: libc::c_uint,
    fill: impl FnOnce(&mut libc::timex),
) -> Result<(), Errno> {
    // SAFETY: Integers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = modes;
    fill(&mut timex);
    // SAFETY: Reads and writes one `timex`, which is this function's.
    Errno::result(unsafe { libc::clock_adjtime(id, &raw mut timex) }).map(drop)
}

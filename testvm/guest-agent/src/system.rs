// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a PID 1 does: mounts, threads, orphans, the end.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use guest_protocol::Reply;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::error::Error;
use crate::{affinity, files};

/// File systems the requests reach into: type and place, in this order.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
];
/// A kernel may be built without these.
const OPTIONAL: [&str; 2] = ["debugfs", "tracefs"];

/// Mounts what the agent needs. A file system that the kernel has mounted there already is fine.
///
/// # Errors
/// One that is not optional cannot be mounted.
pub fn mount_all() -> Result<(), Error> {
    for (kind, place) in MOUNTS {
        // An initramfs may come without the directories; in /sys they are the kernel's.
        let _ = std::fs::create_dir_all(place);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        match mount(Some(kind), place, Some(kind), flags, None::<&str>) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(_) if OPTIONAL.contains(&kind) => {}
            Err(error) => return Err(Error::file("mount", format!("{kind} on {place}"))(error)),
        }
    }
    Ok(())
}

/// The first thing the agent says.
///
/// # Errors
/// /proc or /sys are not there.
pub fn ready() -> Result<Reply, Error> {
    Ok(Reply::Ready {
        kernel: files::read("/proc/sys/kernel/osrelease")?,
        cpus: count_cpus(&files::read("/sys/devices/system/cpu/online")?),
        clocksource: files::read(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        )?,
    })
}

/// Takes the exit status of processes that were left to PID 1.
pub fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Powers the machine off; returns only if the kernel refuses.
pub fn power_off() {
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    log(&format!("Power off: {error}"));
}

/// Restarts the machine, with everything in the middle of whatever it does; returns only if the
/// kernel refuses.
pub fn reboot_now() {
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    log(&format!("Reboot: {error}"));
}

/// A PID 1 that dies panics the kernel and says nothing: instead, a panic in any thread is printed
/// and ends the machine in order. testvm sees the serial line close and has the message on the
/// console.
pub fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        log(&format!("{panic}"));
        power_off();
    }));
}

/// One line on the console. There is nobody to tell if that fails.
pub fn log(line: &str) {
    let _ = writeln!(io::stderr(), "guest-agent: {line}");
}

/// Runs `body` on a thread of its own, bound to one CPU from before its first instruction on.
///
/// # Errors
/// No such CPU, or no thread.
pub fn spawn_pinned<F>(
    name: &'static str,
    cpu: usize,
    body: F,
) -> Result<JoinHandle<io::Result<()>>, Error>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let (tell, told) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let pinned = affinity::pin_self(cpu);
            let go = pinned.is_ok();
            // The receiver is waiting below: this cannot fail.
            let _ = tell.send(pinned);
            if go { body() } else { Ok(()) }
        })
        .map_err(Error::call(format!("Cannot start thread {name}")))?;
    match told.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::State("A thread ended before it began")),
    }
}

/// The result of a joined thread; a panic is an error like any other.
///
/// # Errors
/// The thread's own, or that it panicked.
pub fn flatten(joined: thread::Result<io::Result<()>>) -> io::Result<()> {
    joined.unwrap_or_else(|_| Err(io::Error::other("panicked")))
}

/// Counts a CPU list such as `0-1,3`.
fn count_cpus(list: &str) -> usize {
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
            (to + 1).checked_sub(from)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(count_cpus("0"), 1);
        assert_eq!(count_cpus("0-1\n"), 2);
        assert_eq!(count_cpus("0-3,8,10-11"), 7);
        assert_eq!(count_cpus(""), 0);
        assert_eq!(count_cpus("3-1"), 0);
    }

    #[test]
    fn this_machine_can_describe_itself() -> Result<(), Error> {
        let Reply::Ready { kernel, cpus, clocksource } = ready()? else { panic!("not Ready") };
        assert!(!kernel.is_empty() && cpus > 0 && !clocksource.is_empty());
        Ok(())
    }

    #[test]
    fn a_thread_on_a_cpu_that_is_not_there_does_not_start() {
        assert!(spawn_pinned("test", 1_000, || Ok(())).is_err());
    }

    #[test]
    fn a_panic_is_an_error() {
        let joined = thread::Builder::new()
            .spawn(|| -> io::Result<()> { panic!("on purpose") })
            .expect("thread")
            .join();
        assert!(flatten(joined).is_err());
    }
}

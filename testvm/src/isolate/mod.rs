// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run's own namespaces: its network and, for an ordinary user, its user namespace; and its
//! directory.
//!
//! Everything a run makes outside of files it means to leave behind is made in here, so that it
//! ends with the last process of the run, however that one dies.

mod hint;

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getegid, geteuid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, unmount,
};
use thiserror::Error;

use crate::process;
use hint::Surroundings;

/// What can go wrong when a run is isolated.
#[derive(Debug, Error)]
pub enum Error {
    /// The namespaces are not allowed here.
    #[error("Namespaces cannot be made here; {hint}")]
    Namespace {
        /// What to do about it.
        hint: String,
        /// The operating system's answer.
        #[source]
        source: Errno,
    },
    /// The user's own identity cannot be mapped into the namespace.
    #[error("{path} cannot be written; {hint}")]
    IdMap {
        /// Which file.
        path: &'static str,
        /// What to do about it.
        hint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no file system for the run directory.
    #[error(
        "No private file system (tmpfs) for the run, neither by fsopen ({fsopen}) nor by mount; \
         a seccomp profile that allows one of them is needed"
    )]
    Mount {
        /// Why not by fsopen.
        fsopen: io::Error,
        /// Why not by mount.
        #[source]
        mount: io::Error,
    },
    /// A directory of the run cannot be made.
    #[error("Directory {path} cannot be made or opened")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no TUN/TAP here.
    #[error("{TUN} cannot be opened; {hint}")]
    NoTun {
        /// What to do about it.
        hint: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be tried.
    #[error("It cannot be tried whether a run can be isolated here")]
    Probe(#[source] io::Error),
    /// It was tried, and failed.
    #[error("{0}")]
    Impossible(String),
    /// `ip` failed.
    #[error("The TAP device cannot be set up")]
    Tap(#[source] process::Error),
}

impl Error {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Tap(error) if error.is_late())
    }
}

const TUN: &str = "/dev/net/tun";

/// Size limit of the run directory. It holds sockets, the initramfs and, without `--keep`, logs.
const RUN_DIR_SIZE: &str = "64m";

/// Proof that this process is in its own namespaces, and the run directory: a file system that is
/// mounted nowhere. Only this process and its children reach it, through an open file, and it is
/// gone with the last of them.
#[derive(Debug)]
pub struct RunDir {
    root: OwnedFd,
}

impl RunDir {
    /// Move this process into namespaces of its own and make the run directory. The process must be
    /// single-threaded and must not have done this before.
    ///
    /// # Errors
    /// Namespaces are not allowed here; the message says what to do.
    pub fn enter() -> Result<Self, Error> {
        check_tun()?;
        let new = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        // A mount namespace, because only its owner may make a file system. Root may be root in
        // name only: of a container without rights, or of a user namespace that owns none of the
        // others.
        if !geteuid().is_root() || unshare(new).is_err() {
            enter_as_owner(new)?;
        }
        let root = private_file_system()?;
        ip("link set dev lo up\n")?;
        Ok(Self { root })
    }

    /// Its path, in this process and in its children. Short, as a socket's address must be.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    /// A new directory in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn subdirectory(&self, name: &str) -> Result<SocketDir, Error> {
        let path = self.path().join(name);
        fs::create_dir(&path).map_err(|source| Error::Directory { path: path.clone(), source })?;
        Ok(SocketDir { path })
    }
}

/// A directory for sockets; children have it as working directory and use bare names.
#[derive(Clone, Debug)]
pub struct SocketDir {
    path: PathBuf,
}

impl SocketDir {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a socket in it: short enough for an address, which has room for about a hundred
    /// bytes.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Enter the namespaces `new` as the owner of a new user namespace, in which this process is root.
fn enter_as_owner(new: CloneFlags) -> Result<(), Error> {
    let (uid, gid) = (geteuid(), getegid());
    let hint = |errno| hint::namespace(errno, &Surroundings::look());
    unshare(CloneFlags::CLONE_NEWUSER | new)
        .map_err(|source| Error::Namespace { hint: hint(source), source })?;
    // Without setgroups an unprivileged process may map its own group.
    for (path, map) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(path, map).map_err(|source| {
            let errno = source.raw_os_error().map_or(Errno::EPERM, Errno::from_raw);
            Error::IdMap { path, hint: hint(errno), source }
        })?;
    }
    Ok(())
}

/// A tmpfs that is mounted nowhere. Its file is inherited by children on purpose: they use the same
/// paths.
fn private_file_system() -> Result<OwnedFd, Error> {
    detached_tmpfs().or_else(|fsopen| {
        // Profiles older than these system calls forbid them, and allow mount.
        unmounted_tmpfs()
            .map_err(|mount| Error::Mount { fsopen: fsopen.into(), mount: mount.into() })
    })
}

fn detached_tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", RUN_DIR_SIZE)?;
    fsconfig_set_string(&context, "mode", "0700")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::empty(), attributes)
}

/// The same by mounting, opening and unmounting it, seen by nobody: this process has a mount
/// namespace of its own.
fn unmounted_tmpfs() -> rustix::io::Result<OwnedFd> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let place = "/tmp";
    let options = CString::new(format!("size={RUN_DIR_SIZE},mode=0700"))
        .map_err(|_| rustix::io::Errno::INVAL)?;
    mount(
        "tmpfs",
        place,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        &*options,
    )?;
    let root = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    unmount(place, UnmountFlags::DETACH)?;
    root
}

/// Whether a run can be isolated here: it is tried in a child, so that this process can still fetch
/// and build. The process must be single-threaded.
///
/// # Errors
/// It cannot; the message says what to do.
pub fn probe() -> Result<(), Error> {
    let failed = |errno: Errno| Error::Probe(io::Error::from(errno));
    let (mut reader, mut writer) = io::pipe().map_err(Error::Probe)?;
    // SAFETY: the child of a process with more than one thread may call async-signal-safe functions
    // only;
    // 1. this process has one thread, as documented above, so no lock is held by a thread that the
    //    child lacks;
    // 2. the child ends by `_exit` without running the parent's destructors or exit handlers.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            let tried = RunDir::enter().and_then(|run| Link::nth(0).create(&run));
            if let Err(error) = &tried {
                let _ = write!(writer, "{}", chain(error));
            }
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit(i32::from(tried.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = String::new();
            reader.read_to_string(&mut said).map_err(Error::Probe)?;
            match waitpid(child, None).map_err(failed)? {
                WaitStatus::Exited(_, 0) => Ok(()),
                _ => Err(Error::Impossible(said)),
            }
        }
    }
}

/// An error and its causes in one text.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A TAP device of the run's network namespace, and who is who on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the TAP device.
    pub tap: String,
    /// It has several queues.
    pub multi_queue: bool,
    /// The host's address on it.
    pub host_ip: Ipv4Addr,
    /// The TAP device's own MAC address.
    pub host_mac: [u8; 6],
    /// The guest's address.
    pub guest_ip: Ipv4Addr,
    /// The guest's MAC address.
    pub guest_mac: [u8; 6],
    /// Prefix length of both addresses.
    pub prefix_len: u8,
}

impl Link {
    /// The link of the run's `index`th guest: 10.0.2.0/24 for the first, 10.0.3.0/24 for the
    /// second, and so on.
    #[must_use]
    pub fn nth(index: u8) -> Self {
        let net = index.wrapping_add(2);
        Self {
            tap: format!("tsnic{index}"),
            multi_queue: false,
            host_ip: Ipv4Addr::new(10, 0, net, 1),
            host_mac: [0x02, 0x74, 0x73, 0x6e, 0x00, index],
            guest_ip: Ipv4Addr::new(10, 0, net, 2),
            guest_mac: [0x52, 0x54, 0x00, 0x74, 0x73, index],
            prefix_len: 24,
        }
    }

    /// Make and raise the TAP device.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn create(&self, _inside: &RunDir) -> Result<(), Error> {
        self.recreate()
    }

    /// Delete the TAP device, under whoever holds it. [`Self::recreate`] makes it again.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn delete(&self) -> Result<(), Error> {
        ip(&format!("link del dev {}\n", self.tap))
    }

    /// Make and raise the TAP device again that [`Self::delete`] deleted.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn recreate(&self) -> Result<(), Error> {
        ip(&self.commands(Path::new("/proc/net/if_inet6").exists()))
    }

    /// The guest has this MAC address, and not [`Self::guest_mac`]: a front end that cannot be told
    /// it has one of its own.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn guest_is_at(&self, address: &str) -> Result<(), Error> {
        let Self { tap, guest_ip, .. } = self;
        ip(&format!("neigh replace {guest_ip} lladdr {address} dev {tap} nud permanent\n"))
    }

    /// What `ip -batch` is told. The guest is a static neighbour, and the host has no IPv6 here:
    /// every frame on the wire is one that a scenario asked for.
    fn commands(&self, ipv6: bool) -> String {
        let Self { tap, host_ip, guest_ip, prefix_len, .. } = self;
        let (host_mac, guest_mac) = (mac(self.host_mac), mac(self.guest_mac));
        let queues = if self.multi_queue { " multi_queue" } else { "" };
        let no_ipv6 = if ipv6 { " addrgenmode none" } else { "" };
        format!(
            "tuntap add dev {tap} mode tap{queues}\n\
             link set dev {tap} address {host_mac}{no_ipv6}\n\
             addr add {host_ip}/{prefix_len} dev {tap}\n\
             link set dev {tap} up\n\
             neigh replace {guest_ip} lladdr {guest_mac} dev {tap} nud permanent\n"
        )
    }
}

/// A MAC address as text.
#[must_use]
pub fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(batch: &str) -> Result<(), Error> {
    // The commands go in as a here-document, because `process::run` gives a program no input.
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; ip -batch - <<'END'\n{batch}END\n");
    process::run(
        "ip",
        Command::new("/bin/sh").args(["-c", &script]),
        Duration::from_secs(10),
        &mut |_| (),
    )
    .map(drop)
    .map_err(Error::Tap)
}

/// Whether a TAP device can be made here, as far as one file tells.
///
/// # Errors
/// It cannot; the message says what to do.
fn check_tun() -> Result<(), Error> {
    match fs::OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::NoTun { hint: hint::tun(&source), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_two_guests_have_nothing_in_common() {
        let (a, b) = (Link::nth(0), Link::nth(1));
        assert_eq!(a.host_ip, Ipv4Addr::new(10, 0, 2, 1));
        assert_eq!(a.guest_ip, Ipv4Addr::new(10, 0, 2, 2));
        assert!(
            a.tap != b.tap
                && a.host_ip != b.host_ip
                && a.guest_mac != b.guest_mac
                && a.host_mac != b.host_mac
        );
    }

    #[test]
    fn mac_addresses_are_unicast() {
        let link = Link::nth(7);
        assert_eq!((link.host_mac[0] | link.guest_mac[0]) & 1, 0);
        assert_eq!(mac(link.guest_mac), "52:54:00:74:73:07");
    }

    #[test]
    fn the_guest_is_a_static_neighbour() {
        let commands = Link::nth(0).commands(true);
        assert!(commands.contains(
            "neigh replace 10.0.2.2 lladdr 52:54:00:74:73:00 dev tsnic0 nud permanent\n"
        ));
        assert_eq!(commands.lines().count(), 5);
    }

    #[test]
    fn a_host_without_ipv6_is_not_asked_to_leave_it_out() {
        let link = Link::nth(0);
        assert!(link.commands(true).contains("addrgenmode none\n"));
        let without = link.commands(false);
        assert!(
            without.contains("address 02:74:73:6e:00:00\n") && !without.contains("addrgenmode"),
            "{without}"
        );
    }
}

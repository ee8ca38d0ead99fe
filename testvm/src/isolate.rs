// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run's own namespaces: its network and, for an ordinary user, its user namespace; and its directory.
//!
//! Everything a run makes outside of files it means to leave behind is made in here, so that it ends with the last
//! process of the run, however that one dies.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use thiserror::Error;

use crate::process;

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
    #[error("No private file system (tmpfs) for the run")]
    Mount(#[source] io::Error),
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
    /// `ip` failed.
    #[error("The TAP device cannot be set up")]
    Tap(#[source] process::Error),
}

const TUN: &str = "/dev/net/tun";

/// Size limit of the run directory. It holds sockets, the initramfs and, without `--keep`, logs.
const RUN_DIR_SIZE: &str = "64m";

/// Proof that this process is in its own namespaces, and the run directory: a file system that is mounted nowhere. Only this process
/// and its children reach it, through an open file, and it is gone with the last of them.
#[derive(Debug)]
pub struct RunDir {
    root: OwnedFd,
}

impl RunDir {
    /// Move this process into namespaces of its own and make the run directory. The process must be single-threaded and must not have
    /// done this before.
    ///
    /// # Errors
    /// Namespaces are not allowed here; the message says what to do.
    pub fn enter() -> Result<Self, Error> {
        check_tun()?;
        let (uid, gid) = (geteuid(), getegid());
        if uid.is_root() {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|source| Error::Namespace { hint: root_hint().to_owned(), source })?;
        } else {
            // A mount namespace, because only its owner may make a file system.
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .map_err(|source| Error::Namespace { hint: user_hint(source, limit_of_user_namespaces()), source })?;
            // Without setgroups an unprivileged process may map its own group.
            for (path, map) in [
                ("/proc/self/setgroups", "deny".to_owned()),
                ("/proc/self/uid_map", format!("0 {uid} 1")),
                ("/proc/self/gid_map", format!("0 {gid} 1")),
            ] {
                fs::write(path, map).map_err(|source| Error::IdMap {
                    path,
                    hint: user_hint(Errno::EPERM, limit_of_user_namespaces()),
                    source,
                })?;
            }
        }
        let root = private_file_system().map_err(|errno| Error::Mount(errno.into()))?;
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

    /// The path of a socket in it: short enough for an address, which has room for about a hundred bytes.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A tmpfs that is mounted nowhere. Its file is inherited by children on purpose: they use the same paths.
fn private_file_system() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", RUN_DIR_SIZE)?;
    fsconfig_set_string(&context, "mode", "0700")?;
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::empty(), attributes)
}

/// A TAP device of the run's network namespace, and who is who on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the TAP device.
    pub tap: String,
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
    /// The link of the run's `index`th guest: 10.0.2.0/24 for the first, 10.0.3.0/24 for the second, and so on.
    #[must_use]
    pub fn nth(index: u8) -> Self {
        let net = index.wrapping_add(2);
        Self {
            tap: format!("tsnic{index}"),
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
        ip(&self.commands())
    }

    /// The guest has this MAC address, and not [`Self::guest_mac`]: a front end that cannot be told it has one of its own.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn guest_is_at(&self, address: &str) -> Result<(), Error> {
        let Self { tap, guest_ip, .. } = self;
        ip(&format!("neigh replace {guest_ip} lladdr {address} dev {tap} nud permanent\n"))
    }

    /// What `ip -batch` is told. The guest is a static neighbour, and the host has no IPv6 here: every frame on the wire is one
    /// that a scenario asked for.
    fn commands(&self) -> String {
        let Self { tap, host_ip, guest_ip, prefix_len, .. } = self;
        let (host_mac, guest_mac) = (mac(self.host_mac), mac(self.guest_mac));
        format!(
            "tuntap add dev {tap} mode tap\n\
             link set dev {tap} address {host_mac} addrgenmode none\n\
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
    process::run("ip", Command::new("/bin/sh").args(["-c", &script]), Duration::from_secs(10), &mut |_| ())
        .map(drop)
        .map_err(Error::Tap)
}

/// Whether a TAP device can be made here, as far as one file tells.
///
/// # Errors
/// It cannot; the message says what to do.
pub fn check_tun() -> Result<(), Error> {
    match fs::OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::NoTun { hint: tun_hint(&source), source }),
    }
}

fn tun_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "it must be readable and writable for you (Debian makes it so: mode 0666)",
        _ => "load the tun module (modprobe tun), or give the container this device (--device /dev/net/tun)",
    }
}

fn root_hint() -> &'static str {
    "in a container, root needs CAP_SYS_ADMIN and CAP_NET_ADMIN for this (--cap-add SYS_ADMIN --cap-add NET_ADMIN, and no seccomp \
     profile that forbids unshare); or run as an ordinary user where user namespaces are allowed"
}

/// Whether the root directory of this process is not a file system's: then it is a chroot.
fn in_chroot() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

fn limit_of_user_namespaces() -> Option<u64> {
    fs::read_to_string("/proc/sys/user/max_user_namespaces").ok()?.trim().parse().ok()
}

fn user_hint(error: Errno, limit: Option<u64>) -> String {
    let how = match (error, limit) {
        (_, Some(0)) | (Errno::ENOSPC, _) => "raise the limit: sysctl user.max_user_namespaces=10000",
        (Errno::EPERM, _) if in_chroot() => "the kernel allows none inside a chroot",
        (Errno::EINVAL, _) => "this process has more than one thread, or the kernel has no user namespaces",
        _ => {
            "this system keeps user namespaces from ordinary users: allow them (sysctl kernel.unprivileged_userns_clone=1, or \
             kernel.apparmor_restrict_unprivileged_userns=0)"
        }
    };
    format!("{how}; or run as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_two_guests_have_nothing_in_common() {
        let (a, b) = (Link::nth(0), Link::nth(1));
        assert_eq!(a.host_ip, Ipv4Addr::new(10, 0, 2, 1));
        assert_eq!(a.guest_ip, Ipv4Addr::new(10, 0, 2, 2));
        assert!(a.tap != b.tap && a.host_ip != b.host_ip && a.guest_mac != b.guest_mac && a.host_mac != b.host_mac);
    }

    #[test]
    fn mac_addresses_are_unicast() {
        let link = Link::nth(7);
        assert_eq!((link.host_mac[0] | link.guest_mac[0]) & 1, 0);
        assert_eq!(mac(link.guest_mac), "52:54:00:74:73:07");
    }

    #[test]
    fn the_guest_is_a_static_neighbour() {
        let commands = Link::nth(0).commands();
        assert!(commands.contains("neigh replace 10.0.2.2 lladdr 52:54:00:74:73:00 dev tsnic0 nud permanent\n"));
        assert_eq!(commands.lines().count(), 5);
    }

    #[test]
    fn hints_name_the_thing_to_change() {
        assert!(user_hint(Errno::ENOSPC, Some(100)).contains("max_user_namespaces"));
        assert!(user_hint(Errno::EPERM, Some(0)).contains("max_user_namespaces"));
        assert!(user_hint(Errno::EPERM, Some(9)).contains("unprivileged_userns_clone"));
        assert!(tun_hint(&io::Error::from(io::ErrorKind::NotFound)).contains("modprobe"));
    }
}

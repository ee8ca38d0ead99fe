// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What to do when a run cannot be isolated: it depends on the cause, and on the system.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::geteuid;

/// What to do when TUN/TAP cannot be opened.
pub(super) fn tun(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it must be readable and writable for you (Debian makes it so: mode 0666)"
        }
        _ => {
            "load the tun module (modprobe tun), or give the container this device (--device /dev/net/tun)"
        }
    }
}

/// What of this system decides whether namespaces can be made.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    root: bool,
    chroot: bool,
    /// Names of the limits (`user.max_*_namespaces`) that are 0.
    exhausted: Vec<&'static str>,
    /// The setting that would allow user namespaces, where one forbids them.
    allow: Option<&'static str>,
}

impl Surroundings {
    pub(super) fn look() -> Self {
        let is = |name: &str, value: &str| {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
        };
        let limits =
            ["user.max_user_namespaces", "user.max_net_namespaces", "user.max_mnt_namespaces"];
        Self {
            root: geteuid().is_root(),
            chroot: in_chroot(),
            exhausted: limits.into_iter().filter(|name| is(name, "0")).collect(),
            allow: if is("kernel.unprivileged_userns_clone", "0") {
                Some("kernel.unprivileged_userns_clone=1")
            } else {
                // Ubuntu's.
                is("kernel.apparmor_restrict_unprivileged_userns", "1")
                    .then_some("kernel.apparmor_restrict_unprivileged_userns=0")
            },
        }
    }
}

/// Whether the root directory of this process is not a file system's: then it is a chroot.
fn in_chroot() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// What to do when namespaces cannot be made.
pub(super) fn namespace(error: Errno, here: &Surroundings) -> String {
    let how = match error {
        _ if !here.exhausted.is_empty() => {
            let set: Vec<_> = here.exhausted.iter().map(|name| format!("{name}=10000")).collect();
            return format!("raise the limit: sysctl {}", set.join(" "));
        }
        Errno::ENOSPC => return "one of the limits user.max_*_namespaces is used up (sysctl shows them)".to_owned(),
        Errno::EINVAL => return "this process has several threads, or the kernel has no such namespaces".to_owned(),
        Errno::ENOSYS => return "the kernel has none, or a seccomp profile hides them".to_owned(),
        _ if here.chroot => "the kernel makes no user namespace inside a chroot".to_owned(),
        _ => match here.allow {
            Some(setting) => format!("this system keeps user namespaces from ordinary users: sysctl {setting}"),
            None => "in a container this needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and a seccomp profile that allows \
                 unshare (--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined)"
                .to_owned(),
        },
    };
    if here.root { how } else { format!("{how}; or run as root") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_fits_the_cause() {
        let hint = |errno, here: Surroundings| namespace(errno, &here);
        let limits =
            Surroundings { exhausted: vec!["user.max_net_namespaces"], ..Surroundings::default() };
        assert_eq!(
            hint(Errno::ENOSPC, limits),
            "raise the limit: sysctl user.max_net_namespaces=10000"
        );
        let setting = Some("kernel.apparmor_restrict_unprivileged_userns=0");
        let ubuntu = Surroundings { allow: setting, ..Surroundings::default() };
        assert!(
            hint(Errno::EPERM, ubuntu)
                .ends_with("kernel.apparmor_restrict_unprivileged_userns=0; or run as root")
        );
        let chroot = Surroundings { chroot: true, allow: setting, ..Surroundings::default() };
        assert!(hint(Errno::EPERM, chroot).contains("chroot; or run as root"));
        let container = hint(Errno::EPERM, Surroundings { root: true, ..Surroundings::default() });
        assert!(
            container.contains("--cap-add SYS_ADMIN") && !container.contains("run as root"),
            "{container}"
        );
        assert!(hint(Errno::ENOSYS, Surroundings::default()).contains("seccomp"));
        assert!(tun(&io::Error::from(io::ErrorKind::NotFound)).contains("modprobe"));
    }
}

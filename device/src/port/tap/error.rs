// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a TAP interface could not be attached to, and what can be done.

use std::io;

use thiserror::Error;

use super::DEVICE;
use super::interface::{Interface, TapName};

/// Why a TAP interface could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The device node.
    #[error("Cannot open {DEVICE}: {}", open_advice(.0))]
    Device(#[source] io::Error),
    /// The interface.
    #[error("Cannot attach to TAP interface {name}: {obstacle}")]
    Attach {
        /// Its name.
        name: TapName,
        /// What is known of the cause.
        obstacle: Obstacle,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A setting of the interface.
    #[error("Cannot set {what} of TAP interface {name}")]
    Set {
        /// Which setting.
        what: &'static str,
        /// Its name.
        name: TapName,
        /// Why.
        source: io::Error,
    },
    /// Its events.
    #[error("Cannot watch for frames")]
    Watch(#[source] io::Error),
}

/// What keeps a process from attaching to an interface.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Obstacle {
    /// There is none, and this process may not make one.
    #[error(
        "it does not exist, and to make it takes CAP_NET_ADMIN (ip tuntap add NAME mode tap user USER)"
    )]
    Missing,
    /// It is something else.
    #[error("it is no TAP interface but {0}")]
    Kind(String),
    /// It has several queues.
    #[error("it was made with multi_queue, and this device has one queue: make it again without")]
    MultiQueue,
    /// It has one queue.
    #[error(
        "it was made without multi_queue, and this device has several queue pairs: make it again with"
    )]
    SingleQueue,
    /// It is another user's.
    #[error("it belongs to {0}, and this process is another's and has no CAP_NET_ADMIN")]
    Owner(String),
    /// Another process is attached.
    #[error("another process uses it")]
    Busy,
    /// Nothing is known.
    #[error("the host refused")]
    Unknown,
}

impl Obstacle {
    /// What `error`, the answer to `TUNSETIFF`, with several queues or one, means for the interface
    /// of that name: `None` when there is none.
    pub(super) fn of(error: &io::Error, interface: Option<&Interface>, multi_queue: bool) -> Self {
        match (error.raw_os_error(), interface) {
            (Some(libc::EPERM), None) => Self::Missing,
            (Some(libc::EBUSY), _) => Self::Busy,
            (Some(libc::EPERM), Some(Interface { tun, .. })) => match (tun.owner, tun.group) {
                (Some(owner), _) => Self::Owner(format!("user {owner}")),
                (None, Some(group)) => Self::Owner(format!("group {group}")),
                (None, None) => Self::Unknown,
            },
            (Some(libc::EINVAL), Some(Interface { kind, tun })) => match kind.as_deref() {
                Some("tun") if !tun.tap => {
                    Self::Kind("a TUN interface (IP packets, not frames)".into())
                }
                Some("tun") if tun.multi_queue && !multi_queue => Self::MultiQueue,
                Some("tun") if !tun.multi_queue && multi_queue => Self::SingleQueue,
                Some("tun") => Self::Unknown,
                Some(kind) => Self::Kind(format!("a {kind}")),
                None => Self::Kind("a network interface of another kind".into()),
            },
            _ => Self::Unknown,
        }
    }
}

fn open_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "the host has no TUN/TAP driver, or this container no device node"
        }
        Some(libc::EACCES | libc::EPERM) => "this user may not use it",
        _ => "the host refused",
    }
}

#[cfg(test)]
mod tests {
    use super::super::interface::Tun;
    use super::*;

    #[test]
    fn a_missing_or_forbidden_device_is_explained() {
        let missing = OpenError::Device(io::Error::from_raw_os_error(libc::ENOENT)).to_string();
        assert!(missing.contains(DEVICE) && missing.contains("no TUN/TAP driver"), "{missing}");
    }

    #[test]
    fn each_obstacle_is_told_from_the_others() {
        let of = |errno, interface: Option<&Interface>| {
            Obstacle::of(&io::Error::from_raw_os_error(errno), interface, false)
        };
        let tap = Tun { tap: true, ..Tun::default() };
        let tun = |tun| Some(Interface { kind: Some("tun".into()), tun });
        assert_eq!(of(libc::EPERM, None), Obstacle::Missing);
        assert_eq!(of(libc::EBUSY, tun(tap).as_ref()), Obstacle::Busy);
        let owned = tun(Tun { owner: Some(1000), group: Some(50), ..tap });
        assert_eq!(of(libc::EPERM, owned.as_ref()), Obstacle::Owner("user 1000".into()));
        let grouped = tun(Tun { group: Some(50), ..tap });
        assert_eq!(of(libc::EPERM, grouped.as_ref()), Obstacle::Owner("group 50".into()));
        let multi_queue = tun(Tun { multi_queue: true, ..tap });
        assert_eq!(of(libc::EINVAL, multi_queue.as_ref()), Obstacle::MultiQueue);
        let bridge = Interface { kind: Some("bridge".into()), ..Interface::default() };
        assert_eq!(of(libc::EINVAL, Some(&bridge)), Obstacle::Kind("a bridge".into()));
        assert!(
            matches!(of(libc::EINVAL, tun(Tun::default()).as_ref()), Obstacle::Kind(kind) if kind.contains("TUN"))
        );
        assert_eq!(of(libc::EINVAL, tun(tap).as_ref()), Obstacle::Unknown);
        assert_eq!(of(libc::ENOMEM, None), Obstacle::Unknown);
    }
}

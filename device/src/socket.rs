// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unix sockets that appear when they are wanted and are gone afterwards.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getpeername, getsockopt,
    listen, socket, sockopt,
};
use thiserror::Error;

/// Why a socket path cannot be used.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("Socket {} is in use: another program listens on it", .path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is there.
    #[error("{} exists and is not a socket", .path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit into a socket's address.
    #[error("Socket path {} is too long: {} bytes, and at most {PATH_MAX} fit", .path.display(), .path.as_os_str().len())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// A descriptor that was given is no such socket.
    #[error("Descriptor {fd} is not a connected Unix stream socket: {why}")]
    Descriptor {
        /// Its number.
        fd: RawFd,
        /// What it is.
        why: String,
    },
    /// The host refused.
    #[error("Cannot listen on socket {}", .path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Longest path of a Unix socket, bytes: what the kernel's address (`sockaddr_un`) has room for,
/// without the zero at its end.
const PATH_MAX: usize = 107;

/// A listening Unix socket whose file is removed when it is dropped.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl ListeningSocket {
    /// Listens on `path`, non-blocking. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When the path is too long, somebody listens there, something else is there, or the host
    /// refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Self::bind_as(path, SockType::Stream)
    }

    /// The same for a socket of another type.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_as(path: &Path, kind: SockType) -> Result<Self, SocketError> {
        if path.as_os_str().len() > PATH_MAX {
            return Err(SocketError::TooLong { path: path.into() });
        }
        let refused = |source| SocketError::Listen { path: path.into(), source };
        let listener = match listen_at(path, kind) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path, kind)?;
                listen_at(path, kind)
            }
            listener => listener,
        }
        .map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        Ok(Self { listener, path: path.into(), identity: identity(path) })
    }

    /// The listener.
    #[must_use]
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        // Not when somebody has put another file in its place.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn listen_at(path: &Path, kind: SockType) -> io::Result<UnixListener> {
    let listener = new(kind)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener.into())
}

/// Connects to a socket of this type.
///
/// # Errors
/// The host's: `ConnectionRefused` when nobody listens there, `NotFound` when nothing is there.
pub fn connect_to(path: &Path, kind: SockType) -> io::Result<UnixStream> {
    let stream = new(kind)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream.into())
}

fn new(kind: SockType) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// The connected Unix stream socket that this process was started with. To be called once for a
/// descriptor, before the process opens any other.
///
/// # Errors
/// When the descriptor is not open, or is something else.
pub fn inherited(fd: RawFd) -> Result<UnixStream, SocketError> {
    let wrong = |why: &str| SocketError::Descriptor { fd, why: why.into() };
    let refused = |error: nix::Error| wrong(error.desc());
    if fd < 0 {
        return Err(wrong("it is negative"));
    }
    // SAFETY:
    // 1. The number is not -1, the one that cannot be borrowed.
    // 2. One that is not open makes the calls below fail with EBADF and is used no further: nothing
    //    else opens or closes it meanwhile, for the process has no other thread yet.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // Fails for what is no socket.
    let kind = getsockopt(&borrowed, sockopt::SockType).map_err(refused)?;
    if kind != SockType::Stream {
        return Err(wrong("its messages have bounds"));
    }
    if getsockopt(&borrowed, sockopt::AcceptConn).map_err(refused)? {
        return Err(wrong("it is listening"));
    }
    // Fails for other families, and when there is no other end.
    getpeername::<UnixAddr>(fd).map_err(refused)?;
    // Not the number itself, which whoever started this process may use as well (0 to 2).
    let own = borrowed.try_clone_to_owned().map_err(|error| wrong(&error.to_string()))?;
    Ok(own.into())
}

fn remove_stale(path: &Path, kind: SockType) -> Result<(), SocketError> {
    let refused = |source| SocketError::Listen { path: path.into(), source };
    if !fs::metadata(path).map_err(refused)?.file_type().is_socket() {
        return Err(SocketError::NoSocket { path: path.into() });
    }
    match connect_to(path, kind) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
        Ok(_) => Err(SocketError::Busy { path: path.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_somebody_listens_on_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = ListeningSocket::bind(&path).unwrap();
        assert!(matches!(ListeningSocket::bind(&path), Err(SocketError::Busy { .. })));
        assert!(UnixStream::connect(&path).is_ok());
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn the_longest_path_is_107_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |length: usize| {
            let name = "s".repeat(length - directory.path().as_os_str().len() - 1);
            directory.path().join(name)
        };
        assert!(ListeningSocket::bind(&path(107)).is_ok());
        let error = ListeningSocket::bind(&path(108)).unwrap_err();
        assert!(
            error.to_string().ends_with("is too long: 108 bytes, and at most 107 fit"),
            "{error}"
        );
    }

    #[test]
    fn a_stale_socket_is_replaced_and_other_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(ListeningSocket::bind(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ListeningSocket::bind(&path), Err(SocketError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let nowhere = directory.path().join("no/s");
        assert!(matches!(ListeningSocket::bind(&nowhere), Err(SocketError::Listen { .. })));
    }

    #[test]
    fn a_socket_that_was_replaced_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = ListeningSocket::bind(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _second = ListeningSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }
}

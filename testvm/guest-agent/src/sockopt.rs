// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket options that nix does not name.

// The macro calls its sisters by their bare names.
use nix::{setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// `SO_BUSY_POLL`: how long a blocking receive polls the device queue before it sleeps,
    /// microseconds. More than `net.core.busy_read` needs `CAP_NET_ADMIN`.
    BusyPoll,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_BUSY_POLL,
    i32
);

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two clocks of the experiment. An instant of one is not an instant of the other; only
//! `super::offset` goes between them.

use std::fmt;

/// An instant of the host's `CLOCK_MONOTONIC`, which is also the device's clock, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostNs(pub u64);

/// An instant of the guest's `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestNs(pub u64);

impl fmt::Display for HostNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// One request and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Number of the request, from 0.
    pub seq: u32,
    /// The host's TCP sent something again before the reply came: the request itself, for nothing
    /// else is under way.
    pub retransmitted: bool,
    /// More than the reply came meanwhile: the guest's TCP sent the last one again, whose
    /// acknowledgement it had not seen.
    pub reply_repeated: bool,
    /// Just before the request was given to the host's TCP.
    pub sent: HostNs,
    /// When the device took the frame from its wire, as the application in the guest was told;
    /// `None`: it was not told.
    pub arrived: Option<HostNs>,
    /// When the application in the guest had the request.
    pub received: GuestNs,
    /// Just before that application sent its reply.
    pub replied: GuestNs,
    /// When the reply was here.
    pub returned: HostNs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_seconds() {
        assert_eq!(HostNs(12_000_000_345).to_string(), "12.000000345 s");
    }
}

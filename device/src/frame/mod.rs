// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames outside of the guest: what ports and the data path pass to each other.

mod header;

pub use header::{HEADER_LEN, HeaderError, NetHeader};

/// Bytes of the largest frame: the largest IP packet behind an Ethernet header with one VLAN tag.
pub const MAX_FRAME_LEN: usize = 65_535 + 18;

/// Bytes of the smallest: the Ethernet header.
pub const MIN_FRAME_LEN: usize = 14;

/// A frame, with the offload header that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Whether its checksum is complete.
    pub header: NetHeader,
    /// From the Ethernet header on, without FCS.
    pub bytes: Vec<u8>,
}

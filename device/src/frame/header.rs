// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The header before every virtio-net frame, and the checksum it may leave to be completed.

use etherparse::checksum::Sum16BitWords;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE,
};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `struct virtio_net_hdr_mrg_rxbuf` (virtio 1.x, 5.1.6), little-endian. A TAP device opened by
/// this program uses the same layout, so headers pass from the one to the other.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct NetHeader {
    /// `VIRTIO_NET_HDR_F_*`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub gso_type: u8,
    /// Bytes of headers before the first segment's payload; only with segmentation.
    pub hdr_len: U16,
    /// Bytes of payload a segment; only with segmentation.
    pub gso_size: U16,
    /// Where checksumming starts; only with `NEEDS_CSUM`.
    pub csum_start: U16,
    /// Where the checksum is stored, from `csum_start` on.
    pub csum_offset: U16,
    /// Chains a received frame takes.
    pub num_buffers: U16,
}

/// Bytes of [`NetHeader`].
pub const HEADER_LEN: usize = size_of::<NetHeader>();

const _: () = assert!(HEADER_LEN == 12);

/// A frame asks for something that cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Segmentation was never offered.
    #[error("Segmentation type {0} was never negotiated")]
    Segmentation(u8),
    /// The checksum is outside of the frame.
    #[error("Checksum at {start}+{offset} is outside of a frame of {len} bytes")]
    Checksum {
        /// [`NetHeader::csum_start`].
        start: u16,
        /// [`NetHeader::csum_offset`].
        offset: u16,
        /// Bytes of the frame.
        len: usize,
    },
}

impl NetHeader {
    /// The header of a frame whose checksums are known to be right.
    #[must_use]
    pub fn checked() -> Self {
        Self { flags: VIRTIO_NET_HDR_F_DATA_VALID as u8, ..Self::default() }
    }

    /// The checksum has been checked already.
    #[must_use]
    pub const fn data_valid(&self) -> bool {
        self.flags & VIRTIO_NET_HDR_F_DATA_VALID as u8 != 0
    }

    /// The checksum is still to be completed.
    #[must_use]
    pub const fn needs_csum(&self) -> bool {
        self.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM as u8 != 0
    }

    /// The frame is to be cut into segments.
    #[must_use]
    pub const fn is_segmented(&self) -> bool {
        self.gso_type as u32 != VIRTIO_NET_HDR_GSO_NONE
    }

    /// Checks the header of a frame of `len` bytes that has to go without segmentation, and clears
    /// what has no meaning in it.
    ///
    /// # Errors
    /// When it asks for segmentation, or for a checksum outside of the frame.
    pub fn checked_for(mut self, len: usize, csum: bool) -> Result<Self, HeaderError> {
        if self.is_segmented() {
            return Err(HeaderError::Segmentation(self.gso_type));
        }
        self.flags &= if csum { VIRTIO_NET_HDR_F_NEEDS_CSUM as u8 } else { 0 };
        if self.needs_csum() {
            self.checksum_field(len)?;
        } else {
            self.csum_start = U16::ZERO;
            self.csum_offset = U16::ZERO;
        }
        self.hdr_len = U16::ZERO;
        self.gso_size = U16::ZERO;
        self.num_buffers = U16::ZERO;
        Ok(self)
    }

    fn checksum_field(&self, len: usize) -> Result<(usize, usize), HeaderError> {
        let (start, offset) = (self.csum_start.get(), self.csum_offset.get());
        let field = usize::from(start) + usize::from(offset);
        if field + 2 > len {
            return Err(HeaderError::Checksum { start, offset, len });
        }
        Ok((start.into(), field))
    }

    /// Completes a checksum that was left open, for a receiver that cannot.
    ///
    /// # Errors
    /// When the checksum is outside of the frame.
    pub fn complete_checksum(&mut self, frame: &mut [u8]) -> Result<(), HeaderError> {
        if self.needs_csum() {
            let (start, field) = self.checksum_field(frame.len())?;
            let sum = internet_checksum(&frame[start..]);
            // 0 means "no checksum" to UDP, and equals 0xffff to everybody else.
            let sum = if sum == 0 { 0xffff } else { sum };
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        *self = Self { num_buffers: self.num_buffers, ..Self::default() };
        Ok(())
    }
}

/// The internet checksum (RFC 1071) of `bytes`, with whatever pseudo-header sum is already in them.
fn internet_checksum(bytes: &[u8]) -> u16 {
    // The sum is of words in the byte order of the host.
    Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_checksum(start: u16, offset: u16) -> NetHeader {
        NetHeader {
            flags: VIRTIO_NET_HDR_F_NEEDS_CSUM as u8,
            csum_start: start.into(),
            csum_offset: offset.into(),
            ..NetHeader::default()
        }
    }

    #[test]
    fn segmentation_is_refused_and_meaningless_fields_are_cleared() {
        let odd = NetHeader { gso_type: 1, ..NetHeader::default() };
        assert_eq!(odd.checked_for(100, true), Err(HeaderError::Segmentation(1)));
        let noisy = NetHeader {
            flags: 0xfe,
            hdr_len: 7.into(),
            num_buffers: 9.into(),
            ..open_checksum(3, 4)
        };
        assert_eq!(noisy.checked_for(100, true), Ok(NetHeader::default()));
        assert_eq!(open_checksum(34, 6).checked_for(60, false), Ok(NetHeader::default()));
        assert_eq!(open_checksum(34, 6).checked_for(60, true), Ok(open_checksum(34, 6)));
    }

    #[test]
    fn a_checksum_outside_of_the_frame_is_refused() {
        for (start, offset) in [(59, 0), (0, 59), (u16::MAX, u16::MAX)] {
            let error = HeaderError::Checksum { start, offset, len: 60 };
            assert_eq!(open_checksum(start, offset).checked_for(60, true), Err(error));
            assert_eq!(open_checksum(start, offset).complete_checksum(&mut [0; 60]), Err(error));
        }
    }

    #[test]
    fn an_open_checksum_is_completed() {
        // RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
        let mut frame = [0xaa, 0, 0, 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let mut header = open_checksum(1, 0);
        header.complete_checksum(&mut frame).unwrap();
        assert_eq!(frame[1..3], (!0xddf2u16).to_be_bytes());
        assert!(!header.needs_csum());
        assert_eq!(internet_checksum(&[0x12]), !0x1200);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The virtio-net header in front of every frame (virtio 1.x, section 5.1.6), as far as this driver
//! negotiates.

/// Bytes of the header with `VIRTIO_F_VERSION_1`.
pub const LEN: usize = 12;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;

/// Where a checksum is still to be filled in: `start` is the first byte summed, the sum goes to
/// `start + offset`. Bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First byte that is summed.
    pub start: u16,
    /// From there to the checksum field.
    pub offset: u16,
}

/// What is known of a received frame's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: the stack checks it.
    Unknown,
    /// The device checked it.
    Valid,
    /// The sender left it to be filled in.
    Partial(Partial),
}

/// A received header that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The frame's checksum.
    pub checksum: Checksum,
    /// Buffers the frame takes; meaningful with `VIRTIO_NET_F_MRG_RXBUF` only.
    pub buffers: u16,
}

/// Reads a received header; None when it asks for an offload that was not negotiated.
#[must_use]
pub fn parse(bytes: &[u8; LEN], guest_csum: bool) -> Option<Received> {
    let &[flags, gso, _, _, _, _, start0, start1, offset0, offset1, buffers0, buffers1] = bytes;
    if gso != GSO_NONE {
        return None;
    }
    let checksum = match (flags & FLAG_NEEDS_CSUM != 0, flags & FLAG_DATA_VALID != 0) {
        (true, _) if !guest_csum => return None,
        (true, _) => Checksum::Partial(Partial {
            start: u16::from_le_bytes([start0, start1]),
            offset: u16::from_le_bytes([offset0, offset1]),
        }),
        (false, true) if guest_csum => Checksum::Valid,
        (false, _) => Checksum::Unknown,
    };
    Some(Received { checksum, buffers: u16::from_le_bytes([buffers0, buffers1]) })
}

/// The header of a frame to be sent.
#[must_use]
pub fn build(checksum: Option<Partial>) -> [u8; LEN] {
    let mut header = [0; LEN];
    if let Some(Partial { start, offset }) = checksum {
        let [start0, start1] = start.to_le_bytes();
        let [offset0, offset1] = offset.to_le_bytes();
        header = [FLAG_NEEDS_CSUM, 0, 0, 0, 0, 0, start0, start1, offset0, offset1, 0, 0];
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: u8, gso: u8) -> [u8; LEN] {
        [flags, gso, 9, 9, 9, 9, 34, 0, 16, 0, 2, 1]
    }

    #[test]
    fn each_kind_of_checksum_is_told() {
        let checksum = |flags, guest_csum| parse(&with(flags, 0), guest_csum).map(|h| h.checksum);
        let partial = Checksum::Partial(Partial { start: 34, offset: 16 });
        assert_eq!(checksum(0, true), Some(Checksum::Unknown));
        assert_eq!(checksum(2, true), Some(Checksum::Valid));
        assert_eq!(checksum(1, true), Some(partial));
        assert_eq!(checksum(3, true), Some(partial));
        assert_eq!(checksum(2, false), Some(Checksum::Unknown), "not negotiated: not believed");
        assert_eq!(checksum(1, false), None, "not negotiated: cannot be given to the stack");
        assert_eq!(parse(&with(0, 0), true).unwrap().buffers, 0x102);
    }

    #[test]
    fn segmentation_offload_was_not_negotiated() {
        for gso in 1..=255 {
            assert_eq!(parse(&with(0, gso), true), None);
        }
    }

    #[test]
    fn a_built_header_says_what_was_asked() {
        assert_eq!(build(None), [0; LEN]);
        let partial = Partial { start: 0x1234, offset: 0x506 };
        assert_eq!(
            parse(&build(Some(partial)), true).unwrap().checksum,
            Checksum::Partial(partial)
        );
    }
}

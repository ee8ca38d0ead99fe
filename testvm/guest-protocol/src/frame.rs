// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two frames of the RPC experiment, on a TCP stream: a request, then its reply, one after the
//! other.
//!
//! Both are far smaller than a segment, and both sides set `TCP_NODELAY`, so each travels as one
//! packet.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First word of a [`RequestFrame`].
pub const REQUEST_MAGIC: u32 = u32::from_le_bytes(*b"tsrq");
/// First word of a [`ReplyFrame`].
pub const REPLY_MAGIC: u32 = u32::from_le_bytes(*b"tsrp");

/// Client to server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RequestFrame {
    magic: U32,
    seq: U32,
}

/// Server to client.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReplyFrame {
    magic: U32,
    seq: U32,
    hardware_ns: U64,
    received_ns: U64,
    sending_ns: U64,
}

/// Bytes of a [`RequestFrame`] on the stream.
pub const REQUEST_LEN: usize = size_of::<RequestFrame>();
/// Bytes of a [`ReplyFrame`] on the stream.
pub const REPLY_LEN: usize = size_of::<ReplyFrame>();

/// Bytes on the stream that are not a frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Not a frame of the RPC protocol: it begins with {found:#010x} instead of {wanted:#010x}")]
pub struct FrameError {
    /// First word, as found.
    pub found: u32,
    /// First word, as it should be.
    pub wanted: u32,
}

impl RequestFrame {
    /// Request number `seq`.
    #[must_use]
    pub fn new(seq: u32) -> Self {
        Self { magic: U32::new(REQUEST_MAGIC), seq: U32::new(seq) }
    }

    /// Takes a request off the stream.
    ///
    /// # Errors
    /// The magic is not [`REQUEST_MAGIC`].
    pub fn parse(bytes: [u8; REQUEST_LEN]) -> Result<Self, FrameError> {
        let frame: Self = zerocopy::transmute!(bytes);
        match frame.magic.get() {
            REQUEST_MAGIC => Ok(frame),
            found => Err(FrameError { found, wanted: REQUEST_MAGIC }),
        }
    }

    /// Its number; the reply carries the same.
    #[must_use]
    pub fn seq(&self) -> u32 {
        self.seq.get()
    }
}

impl ReplyFrame {
    /// The reply to request `seq`. All times in nanoseconds: `hardware_ns` is the device's
    /// timestamp of the request as the socket told it (device clock; 0: there was none),
    /// `received_ns` is the guest's `CLOCK_MONOTONIC` when the application had the request,
    /// `sending_ns` the same clock just before the reply is sent.
    #[must_use]
    pub fn new(seq: u32, hardware_ns: u64, received_ns: u64, sending_ns: u64) -> Self {
        Self {
            magic: U32::new(REPLY_MAGIC),
            seq: U32::new(seq),
            hardware_ns: U64::new(hardware_ns),
            received_ns: U64::new(received_ns),
            sending_ns: U64::new(sending_ns),
        }
    }

    /// Takes a reply off the stream.
    ///
    /// # Errors
    /// The magic is not [`REPLY_MAGIC`].
    pub fn parse(bytes: [u8; REPLY_LEN]) -> Result<Self, FrameError> {
        let frame: Self = zerocopy::transmute!(bytes);
        match frame.magic.get() {
            REPLY_MAGIC => Ok(frame),
            found => Err(FrameError { found, wanted: REPLY_MAGIC }),
        }
    }

    /// Number of the request.
    #[must_use]
    pub fn seq(&self) -> u32 {
        self.seq.get()
    }

    /// Device timestamp of the request, ns of the device's clock; `None`: the socket gave none.
    #[must_use]
    pub fn hardware_ns(&self) -> Option<u64> {
        Some(self.hardware_ns.get()).filter(|&ns| ns != 0)
    }

    /// When the application had the request, ns of the guest's `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn received_ns(&self) -> u64 {
        self.received_ns.get()
    }

    /// Just before the reply was sent, ns of the guest's `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn sending_ns(&self) -> u64 {
        self.sending_ns.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!((REQUEST_LEN, REPLY_LEN), (8, 32));
        assert_eq!(RequestFrame::new(0x0102_0304).as_bytes(), b"tsrq\x04\x03\x02\x01");
        let reply = ReplyFrame::new(1, 2, 3, 4);
        assert_eq!(
            reply.as_bytes(),
            b"tsrp\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn frames_come_back_as_they_were() -> Result<(), FrameError> {
        let request = RequestFrame::new(u32::MAX);
        assert_eq!(RequestFrame::parse(zerocopy::transmute!(request))?.seq(), u32::MAX);
        let reply = ReplyFrame::parse(zerocopy::transmute!(ReplyFrame::new(9, 1 << 40, 5, 6)))?;
        assert_eq!(
            (reply.seq(), reply.hardware_ns(), reply.received_ns(), reply.sending_ns()),
            (9, Some(1 << 40), 5, 6)
        );
        Ok(())
    }

    #[test]
    fn no_timestamp_is_none() -> Result<(), FrameError> {
        assert_eq!(
            ReplyFrame::parse(zerocopy::transmute!(ReplyFrame::new(9, 0, 5, 6)))?.hardware_ns(),
            None
        );
        Ok(())
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(RequestFrame::parse(*b"GET / HT").map_err(|e| e.wanted), Err(REQUEST_MAGIC));
        assert_eq!(ReplyFrame::parse([0; REPLY_LEN]).map_err(|e| e.found), Err(0));
    }
}

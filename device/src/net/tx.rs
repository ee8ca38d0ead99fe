// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chains of the transmit queue: frames, and the registration of a shared queue page.

use zerocopy::IntoBytes as _;

use super::chain::{Chain, ChainError};
use super::features::Features;
use super::memory::{GuestView, MemoryError};
use super::ring::{Ring, RingError};
use crate::frame::{HEADER_LEN, HeaderError, MAX_FRAME_LEN, MIN_FRAME_LEN, NetHeader};

/// Why a chain is no frame.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadFrame {
    /// Too short or too long.
    #[error("Frame of {0} bytes is not {MIN_FRAME_LEN} to {MAX_FRAME_LEN}")]
    Length(usize),
    /// The header asks for what cannot be done.
    #[error("Header cannot be honoured")]
    Header(#[from] HeaderError),
}

/// What a chain of the transmit queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A frame, copied into the caller's buffer.
    Frame(NetHeader),
    /// Something that is to be dropped.
    Bad(BadFrame),
    /// The chain has a writable part: it is meant to register a shared queue page.
    Registration,
    /// The same, but its writable part is not guest memory.
    BadRegistration(ChainError),
    /// Something of it is not in memory that the front end shares.
    Unshared(MemoryError),
}

/// Takes the next chain of the transmit queue; `None` when there is none. The caller gives it back
/// by its head, in [`Chain::head`].
///
/// # Errors
/// When the ring is broken.
pub fn take<'m>(
    ring: &mut Ring<'m>,
    view: &GuestView<'m>,
    chain: &mut Chain<'m>,
    features: Features,
    frame: &mut Vec<u8>,
) -> Result<Option<Taken>, RingError> {
    match ring.pop(view, chain) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        // Only a registration has writable buffers here, and a bad one must not cost the driver its
        // queue.
        Err(RingError::Chain {
            source: source @ ChainError::Memory { writable: true, .. },
            ..
        }) => {
            return Ok(Some(Taken::BadRegistration(source)));
        }
        Err(RingError::Chain { source: ChainError::Memory { source, .. }, .. }) => {
            return Ok(Some(Taken::Unshared(source)));
        }
        Err(error) => return Err(error),
    }
    if !chain.writable.is_empty() {
        return Ok(Some(Taken::Registration));
    }
    let header_len = features.header_len();
    let len = chain.readable_len().saturating_sub(header_len);
    if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&len) {
        return Ok(Some(Taken::Bad(BadFrame::Length(len))));
    }
    let mut header = NetHeader::default();
    debug_assert!(header_len <= HEADER_LEN);
    chain.read(0, &mut header.as_mut_bytes()[..header_len]);
    frame.resize(len, 0);
    chain.read(header_len, frame);
    Ok(Some(match header.checked_for(len, features.csum()) {
        Ok(header) => Taken::Frame(header),
        Err(error) => Taken::Bad(error.into()),
    }))
}

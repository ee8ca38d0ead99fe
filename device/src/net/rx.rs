// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames into receive buffers.

use zerocopy::IntoBytes as _;

use super::chain::{Chain, ChainError};
use super::features::Features;
use super::memory::{GuestView, MemoryError};
use super::ring::{DESCRIPTOR_BUDGET, Ring, RingError};
use crate::frame::{HEADER_LEN, NetHeader};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the guest's memory; this many used entries are staged.
    Staged(u16),
    /// There are too few buffers now. Nothing was taken.
    NoBuffers,
    /// A buffer for it is not in memory that the front end shares. It and those before it, this
    /// many, are staged as empty.
    Unshared(u16, MemoryError),
    /// No buffers of this ring will ever hold it, or only in more pieces than a session may read.
    /// Nothing was taken.
    TooBig,
}

/// Scratch space for delivering frames, kept for a session.
#[derive(Default)]
pub struct Receiver<'m> {
    first: Chain<'m>,
    more: Chain<'m>,
    taken: Vec<(u16, u32)>,
}

impl<'m> Receiver<'m> {
    /// Copies one frame into the guest and stages its used entries.
    ///
    /// # Errors
    /// When the ring is broken.
    pub fn deliver(
        &mut self,
        ring: &mut Ring<'m>,
        view: &GuestView<'m>,
        features: Features,
        mut header: NetHeader,
        frame: &[u8],
    ) -> Result<Delivery, RingError> {
        let header_len = features.header_len();
        self.taken.clear();
        let walked = ring.walked();
        let mut done = 0;
        loop {
            let first = self.taken.is_empty();
            let chain = if first { &mut self.first } else { &mut self.more };
            match ring.pop(view, chain) {
                Ok(true) => {}
                Ok(false) => {
                    ring.undo_pop(self.taken.len() as u16);
                    return Ok(Delivery::NoBuffers);
                }
                Err(RingError::Chain { head, source: ChainError::Memory { source, .. } }) => {
                    self.taken.push((head, 0));
                    for &(head, _) in &self.taken {
                        ring.put_used(head, 0);
                    }
                    return Ok(Delivery::Unshared(self.taken.len() as u16, source));
                }
                Err(error) => return Err(error),
            }
            let room = chain.writable_len();
            if !chain.readable.is_empty() || room < if first { header_len } else { 1 } {
                return Err(RingError::NoReceiveBuffer { head: chain.head });
            }
            // The header is written last, when the number of buffers is known.
            let skip = if first { header_len } else { 0 };
            let copied = chain.write(skip, &frame[done..]);
            done += copied;
            self.taken.push((chain.head, (skip + copied) as u32));
            if done == frame.len() {
                break;
            }
            let too_many = self.taken.len() == ring.size().entries()
                || ring.walked() - walked >= DESCRIPTOR_BUDGET;
            if !features.mergeable() || too_many {
                ring.undo_pop(self.taken.len() as u16);
                return Ok(Delivery::TooBig);
            }
        }
        header.num_buffers = (self.taken.len() as u16).into();
        debug_assert!(header_len <= HEADER_LEN);
        let written = self.first.write(0, &header.as_bytes()[..header_len]);
        debug_assert_eq!(written, header_len, "its room has been checked");
        for &(head, len) in &self.taken {
            ring.put_used(head, len);
        }
        Ok(Delivery::Staged(self.taken.len() as u16))
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A port at whose other end a mirror stands: each frame comes back at once, with its MAC addresses
//! exchanged. What cannot wait for the guest's buffers is refused.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use tsnic_core::time::Instant;

use super::Port;
use crate::frame::{Frame, NetHeader};

/// Most frames that wait: as many as the transmit ring of a guest usually holds.
pub const WAITING_MAX: usize = 256;

/// Bytes of a MAC address.
const MAC: usize = 6;

/// The port.
#[derive(Debug, Default)]
pub struct Reflect {
    frames: VecDeque<Frame>,
    /// Frames whose allocations are used again.
    spare: Vec<Frame>,
}

impl Port for Reflect {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        let Some(next) = self.frames.pop_front() else { return false };
        self.spare.push(std::mem::replace(frame, next));
        self.spare.truncate(WAITING_MAX);
        true
    }

    fn due(&self) -> Option<Instant> {
        // As soon as the guest has buffers for it.
        (!self.frames.is_empty()).then(Instant::default)
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, header: NetHeader, bytes: &[u8]) -> io::Result<()> {
        if self.frames.len() == WAITING_MAX {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "too many frames wait"));
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.header = header;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(bytes);
        if let Some((to, from)) = frame.bytes.split_at_mut_checked(MAC)
            && let Some(from) = from.get_mut(..MAC)
        {
            to.swap_with_slice(from);
        }
        self.frames.push_back(frame);
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        // The device completes those that its guest does not take.
        Ok(())
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames that were received from the port and are held back from the guest.

use std::collections::VecDeque;

use tsnic_core::run;

use crate::frame::Frame;

/// Frames read from the port and not yet published.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    pub frames: VecDeque<Frame>,
    /// The last of them is a request.
    pub request: bool,
}

impl HeldFrames {
    /// The adversary is to be shown these before more are read.
    pub fn is_full(&self) -> bool {
        self.request || self.frames.len() >= run::HELD_FRAMES_MAX as usize
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front();
        self.request &= !self.frames.is_empty();
        frame
    }

    /// Keeps one as the first that could not be published.
    pub fn put_back(&mut self, frame: Frame, request: bool) {
        self.request |= self.frames.is_empty() && request;
        self.frames.push_front(frame);
    }
}

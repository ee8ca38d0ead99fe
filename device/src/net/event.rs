// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens to a queue pair, for those on the control socket who want to know.

use tsnic_core::stall::Evidence;

/// Something that happened. Queues are [`super::pair::RX`] and [`super::pair::TX`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A front end has connected.
    Connected,
    /// It has left.
    Disconnected,
    /// A queue runs.
    Started(usize),
    /// It does not any more.
    Stopped(usize),
    /// The guest has broken a queue, and how.
    Broken(usize, String),
    /// The page with this generation is in use.
    PageAccepted(u32),
    /// One was refused, and why.
    PageRefused(String),
    /// The page with this generation is not in use any more, and why.
    PageForgotten(u32, &'static str),
    /// No frames go in or out, and why.
    PortDetached(String),
    /// They do again.
    PortAttached,
    /// So many new verdicts "lost" and "rescued" of the loss detector.
    Lost(u64, u64),
    /// A verdict of the stall detector on a queue.
    Stalled(usize, Evidence),
}

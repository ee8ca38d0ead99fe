// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands of the driver, and what they are answered. The cells are in the shared queue page
//! ([`crate::QueuePage`]).

/// Arguments of a command, and values of an answer. Those that an operation does not name are 0.
pub const COMMAND_WORDS: usize = 6;

/// Operations.
pub mod op {
    /// Moderation of both vectors. Values as the arguments of [`SET_MODERATION`].
    pub const GET_MODERATION: u32 = 1;
    /// Moderates from now on so: microseconds and frames of receive, microseconds and frames of
    /// transmit, and [`crate::adaptive`], as `ethtool -C` means them. Values: what is in force then.
    pub const SET_MODERATION: u32 = 2;
}

/// Bits of the fifth argument of [`op::SET_MODERATION`]: the device chooses microseconds and frames
/// by the traffic. A device that cannot does not answer with them.
pub mod adaptive {
    /// Of receive.
    pub const RX: u32 = 1;
    /// Of transmit.
    pub const TX: u32 = 2;
}

/// What became of a command.
pub mod command_status {
    /// It is carried out.
    pub const DONE: u32 = 0;
    /// The device does not know the operation.
    pub const UNKNOWN: u32 = 1;
    /// An argument is out of range; nothing was changed.
    pub const RANGE: u32 = 2;
}

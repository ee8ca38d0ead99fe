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
    /// The NIC's clock, with capability `CLOCK`. Values, of this and of those that follow: its
    /// nanoseconds, and its rate as [`SET_CLOCK_RATE`] has it, each the low half before the high one.
    pub const GET_CLOCK: u32 = 3;
    /// It shows this many nanoseconds now (a 64-bit number, the low half before the high one).
    pub const SET_CLOCK: u32 = 4;
    /// It goes so many nanoseconds on (the same, signed).
    pub const STEP_CLOCK: u32 = 5;
    /// It runs so much faster than without: in 2^-16 parts in a million (the same, signed).
    pub const SET_CLOCK_RATE: u32 = 6;
}

/// Bits of the fifth argument of [`op::SET_MODERATION`]: the device chooses microseconds and frames
/// by the traffic. A device that cannot does not answer with them.
pub mod adaptive {
    /// Of receive.
    pub const RX: u32 = 1;
    /// Of transmit.
    pub const TX: u32 = 2;
}

/// Most that the clock may be tuned by, in either direction, parts in a billion: a tenth.
pub const CLOCK_RATE_MAX_PPB: u32 = 100_000_000;

/// A 64-bit number in two words of a command or an answer.
#[must_use]
pub const fn to_words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// The number in two words.
#[must_use]
pub const fn from_words([low, high]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
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

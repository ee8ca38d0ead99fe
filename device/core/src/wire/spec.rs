// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is asked of the wire, and whether it can be.

use alloc::string::String;

use crate::policy::spec::{MAX_US, Span, SpecError};

/// Most policies of one direction.
pub const MAX_POLICIES: usize = 8;

/// Most copies that are made of a frame.
pub const MAX_COPIES: u16 = 16;

/// Most frames that overtake another one.
pub const MAX_FRAMES: u16 = 128;

/// One packet policy. `per_mille` is how many frames of a thousand it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketSpec {
    /// Frames are lost.
    Loss {
        /// How many, 0 to 1000.
        per_mille: u16,
    },
    /// Frames come more than once, the copies first.
    Duplicate {
        /// How many, 0 to 1000.
        per_mille: u16,
        /// Copies of each, 1 to [`MAX_COPIES`].
        copies: u16,
    },
    /// Frames are overtaken by later ones.
    Reorder {
        /// How many, 0 to 1000.
        per_mille: u16,
        /// By up to so many, evenly distributed: 1 to [`MAX_FRAMES`].
        frames: u16,
        /// They wait no longer than this for them, microseconds: 1 to [`MAX_US`].
        latest_us: u32,
    },
    /// One bit of a frame is flipped.
    Corrupt {
        /// How many, 0 to 1000.
        per_mille: u16,
    },
    /// Every frame is late, for a time evenly distributed. None overtakes another.
    Delay(Span),
}

impl PacketSpec {
    /// Its name in plans.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::Duplicate { .. } => "duplicate",
            Self::Reorder { .. } => "reorder",
            Self::Corrupt { .. } => "corrupt",
            Self::Delay(_) => "delay",
        }
    }

    /// The field that cannot be, and what would be right.
    fn wrong(&self) -> Option<(&'static str, String)> {
        let outside = |field, value: u32, from: u32, to: u32| {
            (!(from..=to).contains(&value))
                .then(|| (field, format!("{field} is {value}: {from} to {to}")))
        };
        let share = |per_mille: u16| outside("per_mille", per_mille.into(), 0, 1000);
        match *self {
            Self::Loss { per_mille } | Self::Corrupt { per_mille } => share(per_mille),
            Self::Duplicate { per_mille, copies } => {
                share(per_mille).or(outside("copies", copies.into(), 1, MAX_COPIES.into()))
            }
            Self::Reorder { per_mille, frames, latest_us } => share(per_mille)
                .or(outside("frames", frames.into(), 1, MAX_FRAMES.into()))
                .or(outside("latest_us", latest_us, 1, MAX_US)),
            Self::Delay(Span { from_us, to_us }) => {
                outside("to_us", to_us, 1, MAX_US).or(outside("from_us", from_us, 0, to_us))
            }
        }
    }
}

/// Checks the policies of one direction.
///
/// # Errors
/// When a field is out of range, or there are too many.
pub fn check(specs: &[PacketSpec]) -> Result<(), SpecError> {
    if let Some(spec) = specs.get(MAX_POLICIES) {
        let what = format!("one of {}: at most {MAX_POLICIES} for a direction", specs.len());
        return Err(SpecError { place: MAX_POLICIES, name: spec.name(), field: None, what });
    }
    for (place, spec) in specs.iter().enumerate() {
        if let Some((field, what)) = spec.wrong() {
            return Err(SpecError { place, name: spec.name(), field: Some(field), what });
        }
    }
    Ok(())
}

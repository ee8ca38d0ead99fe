// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packet policies, as the control socket and plans say them, and what the wire does.

use serde::{Deserialize, Serialize};

/// A direction of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the guest.
    #[default]
    Rx,
    /// From the guest.
    Tx,
}

/// Names of the packet policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketKind {
    /// Loses frames: `per_mille`.
    Loss,
    /// Makes copies of frames: `per_mille`, `copies` (1 when left out).
    Duplicate,
    /// Has up to `frames` later ones overtake a frame, which waits no longer than `latest_us` for
    /// them: `per_mille`, `frames`, `latest_us`.
    Reorder,
    /// Flips one bit of a frame: `per_mille`.
    Corrupt,
    /// Holds each for a time, evenly distributed: `from_us`, `to_us`.
    Delay,
}

/// One packet policy. Which fields go with which kind: see [`PacketKind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketPolicy {
    /// Its direction.
    #[serde(default)]
    pub direction: Direction,
    /// What it does.
    pub kind: PacketKind,
    /// How many of a thousand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_mille: Option<u16>,
    /// How often again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u16>,
    /// By how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u16>,
    /// No longer than this, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_us: Option<u32>,
    /// Shortest, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_us: Option<u32>,
    /// Longest, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_us: Option<u32>,
}

/// Packet policies for both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packets {
    /// Seed of their random choices.
    pub seed: u64,
    /// The policies; frames of one direction go through them in this order.
    pub packets: Vec<PacketPolicy>,
}

/// What the wire does, by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// To the guest.
    pub rx: WireDirection,
    /// From the guest.
    pub tx: WireDirection,
}

/// What one direction of the wire does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDirection {
    /// Names of its policies, in their order.
    pub policies: Vec<String>,
    /// Frames on it at this moment.
    pub frames: usize,
}

impl PacketKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Delay => "delay",
        }
    }
}

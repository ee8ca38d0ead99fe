// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between packet policies as they are said and what the wire is told.

use thiserror::Error;
use tsnic_core::policy::spec::Span;
use tsnic_core::wire::spec::{PacketSpec, check};
use tsnic_protocol::packets::{Direction, PacketKind, PacketPolicy};

use crate::net::pair::{RX, TX};

/// Why a packet policy cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Packet policy {}, {kind}: {what}", .place + 1)]
pub struct PacketError {
    /// Its place among all packet policies, from 0.
    pub place: usize,
    /// Name of the policy.
    pub kind: &'static str,
    /// The field, when it is one.
    pub field: Option<&'static str>,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// What is wrong with one policy: with which field, and what.
type Wrong = (Option<&'static str>, String);

/// The fields that a kind has.
const fn fields(kind: PacketKind) -> &'static [&'static str] {
    match kind {
        PacketKind::Loss | PacketKind::Corrupt => &["per_mille"],
        PacketKind::Duplicate => &["per_mille", "copies"],
        PacketKind::Reorder => &["per_mille", "frames", "latest_us"],
        PacketKind::Delay => &["from_us", "to_us"],
    }
}

fn need<T: Copy>(field: &'static str, value: Option<T>) -> Result<T, Wrong> {
    value.ok_or_else(|| (None, format!("needs {field}")))
}

/// What is asked of the wire.
fn spec(policy: &PacketPolicy) -> Result<PacketSpec, Wrong> {
    let &PacketPolicy { direction: _, kind, per_mille, copies, frames, latest_us, from_us, to_us } =
        policy;
    let allowed = fields(kind);
    let given = [
        ("per_mille", per_mille.is_some()),
        ("copies", copies.is_some()),
        ("frames", frames.is_some()),
        ("latest_us", latest_us.is_some()),
        ("from_us", from_us.is_some()),
        ("to_us", to_us.is_some()),
    ];
    if let Some((name, _)) = given.iter().find(|(name, given)| *given && !allowed.contains(name)) {
        let what = format!("has no {name}; its fields: {}", allowed.join(", "));
        return Err((Some(name), what));
    }
    let per_mille = || need("per_mille", per_mille);
    Ok(match kind {
        PacketKind::Loss => PacketSpec::Loss { per_mille: per_mille()? },
        PacketKind::Corrupt => PacketSpec::Corrupt { per_mille: per_mille()? },
        PacketKind::Duplicate => {
            PacketSpec::Duplicate { per_mille: per_mille()?, copies: copies.unwrap_or(1) }
        }
        PacketKind::Reorder => PacketSpec::Reorder {
            per_mille: per_mille()?,
            frames: need("frames", frames)?,
            latest_us: need("latest_us", latest_us)?,
        },
        PacketKind::Delay => PacketSpec::Delay(Span {
            from_us: need("from_us", from_us)?,
            to_us: need("to_us", to_us)?,
        }),
    })
}

/// The packet policies that are asked for, by queue.
///
/// # Errors
/// When a field is missing, does not belong to the kind or is out of range, or there are too many.
pub fn packets(asked: &[PacketPolicy]) -> Result<[Vec<PacketSpec>; 2], PacketError> {
    let error = |place: usize, (field, what)| PacketError {
        place,
        kind: asked[place].kind.name(),
        field,
        what,
    };
    let mut directions: [Vec<PacketSpec>; 2] = Default::default();
    let mut places: [Vec<usize>; 2] = Default::default();
    for (place, policy) in asked.iter().enumerate() {
        let queue = match policy.direction {
            Direction::Rx => RX,
            Direction::Tx => TX,
        };
        directions[queue].push(spec(policy).map_err(|wrong| error(place, wrong))?);
        places[queue].push(place);
    }
    for (specs, places) in directions.iter().zip(places) {
        check(specs).map_err(|wrong| error(places[wrong.place], (wrong.field, wrong.what)))?;
    }
    Ok(directions)
}

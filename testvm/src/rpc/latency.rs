// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the device to the application: the latency of each request by its hardware timestamp.

use super::offset::{Observation, bounds};
use super::time::{Exchange, HostNs};

/// What a request's times say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Number of the request.
    pub seq: u32,
    /// The host's TCP sent the request again before the reply came.
    pub retransmitted: bool,
    /// The guest's TCP sent the reply before again meanwhile: its acknowledgement lay in the ring
    /// with the request.
    pub reply_repeated: bool,
    /// When the device took its frame from the wire; the device reports injected frames by this.
    pub arrived: HostNs,
    /// From then until the application in the guest had it, ns.
    pub latency_ns: u64,
    /// The true latency is within this of `latency_ns`, because the guest's clock is only known so
    /// well, ns.
    pub uncertainty_ns: u64,
}

/// Times that make no sense. A latency is never made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// The application was told no hardware timestamp.
    #[error("{missing} of {total} requests have no hardware timestamp, the first is request {seq}")]
    NoTimestamp {
        /// The first of them.
        seq: u32,
        /// How many.
        missing: usize,
        /// Of how many.
        total: usize,
    },
    /// The timestamp is not of this request, or the device's clock is not this host's.
    #[error(
        "Request {seq}: its hardware timestamp {arrived} is not between its sending at {sent} and its reply at {returned}"
    )]
    ForeignTimestamp {
        /// The request.
        seq: u32,
        /// Its hardware timestamp.
        arrived: HostNs,
        /// When it was sent.
        sent: HostNs,
        /// When its reply came.
        returned: HostNs,
    },
    /// By the guest's clock the request spent longer in the guest than by the host's clock between
    /// host and host.
    #[error(
        "Request {seq}: the guest's clock does not fit: more time passed in the guest than outside"
    )]
    ClockContradiction {
        /// The request.
        seq: u32,
    },
}

/// The latency of every request.
///
/// # Errors
/// One request's times make no sense.
pub fn latencies(exchanges: &[Exchange]) -> Result<Vec<Latency>, LatencyError> {
    let mut stamped = Vec::with_capacity(exchanges.len());
    for exchange in exchanges {
        let Some(arrived) = exchange.arrived else {
            let missing = exchanges.iter().filter(|e| e.arrived.is_none()).count();
            return Err(LatencyError::NoTimestamp {
                seq: exchange.seq,
                missing,
                total: exchanges.len(),
            });
        };
        let Exchange { seq, sent, returned, .. } = *exchange;
        if !(sent..=returned).contains(&arrived) {
            return Err(LatencyError::ForeignTimestamp { seq, arrived, sent, returned });
        }
        stamped.push((exchange, arrived));
    }
    let observations: Vec<_> = stamped
        .iter()
        .map(|(exchange, arrived)| Observation {
            arrived: arrived.0,
            received: exchange.received.0,
            replied: exchange.replied.0,
            returned: exchange.returned.0,
        })
        .collect();
    let bounds = bounds(&observations)
        .map_err(|index| LatencyError::ClockContradiction { seq: stamped[index].0.seq })?;
    Ok(stamped
        .iter()
        .zip(bounds)
        .map(|((exchange, arrived), bounds)| {
            let elapsed = signed(exchange.received.0, arrived.0);
            Latency {
                seq: exchange.seq,
                retransmitted: exchange.retransmitted,
                reply_repeated: exchange.reply_repeated,
                arrived: *arrived,
                latency_ns: whole(elapsed - f64::midpoint(bounds.lower, bounds.upper)),
                uncertainty_ns: whole((bounds.upper - bounds.lower) / 2.0),
            }
        })
        .collect())
}

/// `guest - host`, ns.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 ns: 104 days between the boots of host and guest"
)]
fn signed(guest: u64, host: u64) -> f64 {
    guest.wrapping_sub(host).cast_signed() as f64
}

/// Nearest whole nanosecond. The offset's upper bound is at most this request's own, so nothing
/// negative is cut off but rounding.
#[expect(clippy::cast_sign_loss, reason = "not negative; a cast saturates anyway")]
fn whole(ns: f64) -> u64 {
    ns.round() as u64
}

#[cfg(test)]
mod tests;

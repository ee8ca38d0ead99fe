// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How far the guest's clock is ahead of the host's, bounded from both sides.
//!
//! Nothing that is received was received before it was sent. So a request bounds the offset from
//! above (`received - arrived >= offset`), and its reply from below (`replied - returned <=
//! offset`). A request that is stuck for 200 ms bounds poorly, but its neighbours bound well, and
//! all that is needed to use them is how fast the clocks drift apart. That is bounded by the same
//! inequalities: a straight line has to pass between all the bounds of the run.

/// Neighbours to each side that take part in bounding the offset at a request.
const WINDOW: usize = 64;
/// No two clocks drift apart faster than this, even when Linux calibrated its TSC against an
/// emulated timer.
const DRIFT_MAX: f64 = 0.01;

/// Bounds of the offset at one exchange: how far the guest's clock is ahead of the host's, ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub lower: f64,
    pub upper: f64,
}

/// A bound seen at one instant.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Host time, ns after that of the first exchange.
    at: f64,
    /// The offset is at least, or at most, this, ns more than the first exchange's reference.
    offset: f64,
}

/// What an exchange says about the offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Host time at which the device had the request, ns.
    pub arrived: u64,
    /// Guest time at which the application had it, ns.
    pub received: u64,
    /// Guest time at which the application replied, ns.
    pub replied: u64,
    /// Host time at which the reply was there, ns.
    pub returned: u64,
}

/// Bounds of the offset at each observation's arrival, or the index of one that contradicts itself.
pub(super) fn bounds(observations: &[Observation]) -> Result<Vec<Bounds>, usize> {
    let Some(first) = observations.first() else { return Ok(Vec::new()) };
    // Everything relative to the first, so that an f64 holds nanoseconds exactly.
    let reference = difference(first.received, first.arrived);
    let bound = |guest: u64, host: u64| Bound {
        at: to_f64(difference(host, first.arrived)),
        offset: to_f64(difference(guest, host) - reference),
    };
    let upper: Vec<Bound> = observations.iter().map(|o| bound(o.received, o.arrived)).collect();
    let lower: Vec<Bound> = observations.iter().map(|o| bound(o.replied, o.returned)).collect();
    let drift = drift_range(&lower, &upper);
    (0..observations.len())
        .map(|index| {
            let mut reach = WINDOW;
            loop {
                let from = index.saturating_sub(reach);
                let to = observations.len().min(index + reach + 1);
                let found = bounds_at(upper[index].at, &lower[from..to], &upper[from..to], drift);
                if found.lower <= found.upper {
                    let shift = to_f64(reference);
                    return Ok(Bounds { lower: found.lower + shift, upper: found.upper + shift });
                }
                // A clock that was stepped or slewed in between: believe only the nearer
                // neighbours.
                if reach == 0 {
                    return Err(index);
                }
                reach /= 2;
            }
        })
        .collect()
}

/// The tightest bounds at host time `at`. A bound seen at another time may have drifted at any rate
/// of the range.
fn bounds_at(at: f64, lower: &[Bound], upper: &[Bound], drift: (f64, f64)) -> Bounds {
    let drifted = |bound: &Bound| {
        let (a, b) = (drift.0 * (at - bound.at), drift.1 * (at - bound.at));
        (bound.offset + a.min(b), bound.offset + a.max(b))
    };
    Bounds {
        lower: lower.iter().map(|bound| drifted(bound).0).fold(f64::NEG_INFINITY, f64::max),
        upper: upper.iter().map(|bound| drifted(bound).1).fold(f64::INFINITY, f64::min),
    }
}

/// The rates, guest nanoseconds per host nanosecond more than 1, at which a straight line passes
/// between all bounds. When none does (the drift was not constant), any rate a clock can have.
fn drift_range(lower: &[Bound], upper: &[Bound]) -> (f64, f64) {
    // How much the lower bounds exceed the upper ones when both are brought to time 0 at rate
    // `drift`. A maximum of linear functions less a minimum of such, so it is convex: ternary
    // search finds its minimum, bisection its two zeros.
    let excess = |drift: f64| {
        let at_zero = |bound: &Bound| bound.offset - drift * bound.at;
        lower.iter().map(at_zero).fold(f64::NEG_INFINITY, f64::max)
            - upper.iter().map(at_zero).fold(f64::INFINITY, f64::min)
    };
    let (mut left, mut right) = (-DRIFT_MAX, DRIFT_MAX);
    for _ in 0..100 {
        let third = (right - left) / 3.0;
        if excess(left + third) <= excess(right - third) {
            right -= third;
        } else {
            left += third;
        }
    }
    let best = left.midpoint(right);
    if excess(best) > 0.0 {
        return (-DRIFT_MAX, DRIFT_MAX);
    }
    (edge(excess, best, -DRIFT_MAX), edge(excess, best, DRIFT_MAX))
}

/// The rate furthest from `inside` towards `limit` that is still possible, erring on the outside.
fn edge(excess: impl Fn(f64) -> f64, inside: f64, limit: f64) -> f64 {
    if excess(limit) <= 0.0 {
        return limit;
    }
    let (mut possible, mut impossible) = (inside, limit);
    for _ in 0..60 {
        let middle = f64::midpoint(possible, impossible);
        if excess(middle) <= 0.0 {
            possible = middle;
        } else {
            impossible = middle;
        }
    }
    impossible
}

/// `a - b` of instants that need not be of one clock.
fn difference(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b).cast_signed()
}

/// Exact for anything below 2^53 ns, which is 104 days.
#[expect(
    clippy::cast_precision_loss,
    reason = "differences within a run, and offsets of machines up for under 104 days"
)]
fn to_f64(ns: i64) -> f64 {
    ns as f64
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between policies as they are said and what the interrupt path is told.

use std::time::Duration;

use thiserror::Error;
use tsnic_core::moderation::{FRAMES_MAX, Limits, Setting, USECS_MAX};
use tsnic_core::policy::decision::{Decision, Hold, Until};
use tsnic_core::policy::spec::{Distribution, PolicySpec, Span, check};
use tsnic_core::policy::window::Window;
use tsnic_core::schedule::{self, Schedule};
use tsnic_protocol::policy::{self as said, Kind};

use crate::net::pair::{RX, TX};

/// Why a policy cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{kind}: {what}")]
pub struct PolicyError {
    /// Name of the policy.
    pub kind: String,
    /// The field, when it is one.
    pub field: Option<&'static str>,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// The same, and which of them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Policy {}, {source}", .place + 1)]
pub struct PlacedError {
    /// Its place among all policies, from 0.
    pub place: usize,
    /// What is wrong.
    pub source: PolicyError,
}

/// A limit of moderation is out of range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{field} is {value}, more than {max}")]
pub struct LimitError {
    /// Which.
    pub field: &'static str,
    /// Given.
    pub value: u32,
    /// Allowed.
    pub max: u32,
}

/// The fields of a policy.
struct Fields<'a>(&'a said::Policy);

type Result<T> = std::result::Result<T, PolicyError>;

impl Fields<'_> {
    fn fail<T>(&self, field: Option<&'static str>, what: String) -> Result<T> {
        Err(PolicyError { kind: self.0.kind.name(), field, what })
    }

    fn need<T: Clone>(&self, field: &'static str, value: Option<&T>) -> Result<T> {
        value.map_or_else(|| self.fail(None, format!("needs {field}")), |value| Ok(value.clone()))
    }

    /// The names of the fields that are given.
    fn given(&self) -> Vec<&'static str> {
        let policy = self.0;
        [
            ("delay_us", policy.delay_us.is_some()),
            ("from_us", policy.from_us.is_some()),
            ("to_us", policy.to_us.is_some()),
            ("slow_from_us", policy.slow_from_us.is_some()),
            ("slow_to_us", policy.slow_to_us.is_some()),
            ("mean_us", policy.mean_us.is_some()),
            ("max_us", policy.max_us.is_some()),
            ("recorded_ns", policy.recorded_ns.is_some()),
            ("step_us", policy.step_us.is_some()),
            ("until", policy.until.is_some()),
            ("latest_us", policy.latest_us.is_some()),
            ("copies", policy.copies.is_some()),
            ("lines", policy.lines.is_some()),
            ("gap_us", policy.gap_us.is_some()),
            ("every_us", policy.every_us.is_some()),
            ("window_us", policy.window_us.is_some()),
            ("per_mille", policy.per_mille.is_some()),
            ("schedule", policy.schedule.is_some()),
            ("schedule_file", policy.schedule_file.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    fn only(&self, allowed: &[&'static str]) -> Result<()> {
        match self.given().into_iter().find(|name| !allowed.contains(name)) {
            Some(name) => {
                self.fail(Some(name), format!("has no {name}; its fields: {}", allowed.join(", ")))
            }
            None => Ok(()),
        }
    }

    fn span(&self) -> Result<Span> {
        Ok(Span {
            from_us: self.need("from_us", self.0.from_us.as_ref())?,
            to_us: self.need("to_us", self.0.to_us.as_ref())?,
        })
    }

    /// The time after what the guest does: none when it is left out.
    fn after(&self) -> Result<Span> {
        if self.0.from_us.is_none() && self.0.to_us.is_none() {
            return Ok(Span::default());
        }
        self.span()
    }

    fn jitter(&self) -> Result<Distribution> {
        let policy = self.0;
        if let Some(delays) = &policy.recorded_ns {
            self.only(&["recorded_ns"])?;
            return Ok(Distribution::Recorded(delays.clone()));
        }
        if let Some(mean_us) = policy.mean_us {
            self.only(&["mean_us", "max_us"])?;
            let max_us = self.need("max_us", policy.max_us.as_ref())?;
            return Ok(Distribution::Exponential { mean_us, max_us });
        }
        if policy.slow_from_us.is_none() && policy.slow_to_us.is_none() {
            self.only(&["from_us", "to_us"])?;
            return Ok(Distribution::Uniform(self.span()?));
        }
        self.only(&["from_us", "to_us", "slow_from_us", "slow_to_us", "per_mille"])?;
        Ok(Distribution::Bimodal {
            fast: self.span()?,
            slow: Span {
                from_us: self.need("slow_from_us", policy.slow_from_us.as_ref())?,
                to_us: self.need("slow_to_us", policy.slow_to_us.as_ref())?,
            },
            slow_per_mille: self.need("per_mille", policy.per_mille.as_ref())?,
        })
    }

    fn on_progress(&self, until: Until) -> Result<PolicySpec> {
        let latest_us = self.need("latest_us", self.0.latest_us.as_ref())?;
        Ok(PolicySpec::OnProgress { until, after: self.after()?, latest_us })
    }
}

/// What is asked of the path.
///
/// # Errors
/// When a field is missing or does not belong to the kind. Whether its value can be, the path
/// itself checks.
pub fn spec(policy: &said::Policy) -> Result<PolicySpec> {
    let fields = Fields(policy);
    let race = ["latest_us", "from_us", "to_us"];
    match policy.kind {
        Kind::FixedDelay => fields.only(&["delay_us"])?,
        // Which fields it may have depends on the distribution.
        Kind::Jitter => {}
        Kind::Sweep => fields.only(&["from_us", "to_us", "step_us"])?,
        Kind::OnProgress => fields.only(&["until", "latest_us", "from_us", "to_us"])?,
        Kind::ArmRace | Kind::ReorderAcrossQueues | Kind::MaskRace => fields.only(&race)?,
        Kind::Duplicate => fields.only(&["copies", "gap_us", "per_mille"])?,
        Kind::Spurious => fields.only(&["from_us", "to_us"])?,
        Kind::Storm => fields.only(&["lines", "gap_us", "every_us"])?,
        Kind::CoalesceLate => fields.only(&["window_us"])?,
        Kind::Drop => fields.only(&["per_mille"])?,
        Kind::Replay => fields.only(&["schedule"])?,
    }
    let spec = match policy.kind {
        Kind::Jitter => PolicySpec::Jitter(fields.jitter()?),
        Kind::FixedDelay => {
            PolicySpec::FixedDelay { delay_us: fields.need("delay_us", policy.delay_us.as_ref())? }
        }
        Kind::Sweep => PolicySpec::Sweep {
            span: fields.span()?,
            step_us: fields.need("step_us", policy.step_us.as_ref())?,
        },
        Kind::OnProgress => {
            fields.on_progress(until(fields.need("until", policy.until.as_ref())?))?
        }
        Kind::ArmRace => fields.on_progress(Until::Arm)?,
        Kind::ReorderAcrossQueues => fields.on_progress(Until::OtherVector)?,
        Kind::MaskRace => PolicySpec::MaskRace {
            after: fields.after()?,
            latest_us: fields.need("latest_us", policy.latest_us.as_ref())?,
        },
        Kind::Duplicate => PolicySpec::Duplicate {
            copies: fields.need("copies", policy.copies.as_ref())?,
            gap_us: fields.need("gap_us", policy.gap_us.as_ref())?,
            per_mille: policy.per_mille.unwrap_or(1000),
        },
        Kind::Spurious => PolicySpec::Spurious { gap: fields.span()? },
        Kind::Storm => PolicySpec::Storm {
            lines: fields.need("lines", policy.lines.as_ref())?,
            gap_us: fields.need("gap_us", policy.gap_us.as_ref())?,
            every_us: fields.need("every_us", policy.every_us.as_ref())?,
        },
        Kind::CoalesceLate => PolicySpec::CoalesceLate {
            window_us: fields.need("window_us", policy.window_us.as_ref())?,
        },
        Kind::Drop => {
            PolicySpec::Drop { per_mille: fields.need("per_mille", policy.per_mille.as_ref())? }
        }
        Kind::Replay => {
            let entries = fields.need("schedule", policy.schedule.as_ref())?;
            PolicySpec::Replay(entries.iter().flat_map(entries_of).collect())
        }
    };
    let window = Window { after_ms: policy.after_ms.unwrap_or(0), for_ms: policy.for_ms };
    Ok(if window == Window::default() {
        spec
    } else {
        PolicySpec::During { window, policy: spec.into() }
    })
}

/// The policies that are asked for, by queue.
///
/// # Errors
/// As [`spec`], or when a stack cannot be.
pub fn policies(
    asked: &tsnic_protocol::Policies,
) -> std::result::Result<[Vec<PolicySpec>; 2], PlacedError> {
    let mut stacks: [Vec<PolicySpec>; 2] = Default::default();
    let mut places: [Vec<usize>; 2] = Default::default();
    for (place, policy) in asked.policies.iter().enumerate() {
        let queue = queue(policy.vector);
        stacks[queue].push(spec(policy).map_err(|source| PlacedError { place, source })?);
        places[queue].push(place);
    }
    for (stack, places) in stacks.iter().zip(places) {
        check(stack).map_err(|error| PlacedError {
            place: places[error.place],
            source: PolicyError {
                kind: asked.policies[places[error.place]].kind.name(),
                field: error.field,
                what: error.what,
            },
        })?;
    }
    Ok(stacks)
}

/// The queue of a vector.
#[must_use]
pub const fn queue(vector: said::Vector) -> usize {
    match vector {
        said::Vector::Rx => RX,
        said::Vector::Tx => TX,
    }
}

/// The moderation that is asked for: of which queue, and how.
///
/// # Errors
/// When a limit is out of range.
pub fn moderation(
    asked: tsnic_protocol::Moderation,
) -> std::result::Result<(usize, Setting), LimitError> {
    let tsnic_protocol::Moderation { vector, usecs, frames, adaptive } = asked;
    for (field, value, max) in [("usecs", usecs, USECS_MAX), ("frames", frames, FRAMES_MAX)] {
        if value > max {
            return Err(LimitError { field, value, max });
        }
    }
    Ok((queue(vector), Setting { limits: Limits { usecs, frames }, adaptive }))
}

const fn until(until: said::Until) -> Until {
    match until {
        said::Until::Kick => Until::Kick,
        said::Until::Refill => Until::Refill,
        said::Until::Arm => Until::Arm,
        said::Until::Handler => Until::Handler,
        said::Until::OtherVector => Until::OtherVector,
    }
}

const fn said_until(until: Until) -> said::Until {
    match until {
        Until::Kick => said::Until::Kick,
        Until::Refill => said::Until::Refill,
        Until::Arm => said::Until::Arm,
        Until::Handler => said::Until::Handler,
        Until::OtherVector => said::Until::OtherVector,
    }
}

fn hold(hold: said::Hold) -> Hold {
    Hold {
        until: hold.until.map(|event| (until(event), Duration::from_nanos(hold.latest_ns))),
        delay: Duration::from_nanos(hold.delay_ns),
    }
}

fn said_hold(hold: Hold) -> said::Hold {
    said::Hold {
        until: hold.until.map(|(event, _)| said_until(event)),
        latest_ns: hold.until.map_or(0, |(_, latest)| latest.as_nanos() as u64),
        delay_ns: hold.delay.as_nanos() as u64,
    }
}

fn entries_of(entry: &said::Entry) -> Vec<schedule::Entry> {
    let &said::Entry {
        intent,
        hold: held,
        joins,
        dropped,
        copies,
        copies_after,
        spurious,
        after_ns,
    } = entry;
    let decision =
        Decision { hold: hold(held), joins, dropped, copies, copies_after: hold(copies_after) };
    let mut entries = Vec::new();
    if spurious != 0 {
        let after = Duration::from_nanos(after_ns);
        entries.push(schedule::Entry::Spurious { before: intent, after, lines: spurious });
    }
    if decision != Decision::default() {
        entries.push(schedule::Entry::Decided { intent, decision });
    }
    entries
}

/// A schedule as it is told.
#[must_use]
pub fn schedule(schedule: &Schedule) -> tsnic_protocol::ScheduleReport {
    let entries = schedule.entries().iter().map(|entry| match *entry {
        schedule::Entry::Decided { intent, decision } => said::Entry {
            intent,
            hold: said_hold(decision.hold),
            joins: decision.joins,
            dropped: decision.dropped,
            copies: decision.copies,
            copies_after: said_hold(decision.copies_after),
            ..said::Entry::default()
        },
        schedule::Entry::Spurious { before, after, lines } => said::Entry {
            intent: before,
            spurious: lines,
            after_ns: after.as_nanos() as u64,
            ..said::Entry::default()
        },
    });
    tsnic_protocol::ScheduleReport { entries: entries.collect(), left_out: schedule.left_out() }
}

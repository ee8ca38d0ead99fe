// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What policies are asked for, and whether it can be.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::decision::{Hold, Until};
use super::window::Window;
use crate::schedule::{ENTRIES_MAX, Entry};

/// Longest that anything is held or put off: ten seconds.
pub const MAX_US: u32 = 10_000_000;

/// Most interrupts that one intent or one storm may add.
pub const MAX_COPIES: u16 = 1_000;

/// Most policies of one vector.
pub const MAX_POLICIES: usize = 16;

/// Longest that all policies of a vector together can hold an interrupt.
const MAX_HOLD: Duration = Duration::from_micros(MAX_US as u64 * MAX_POLICIES as u64);

/// From one time to another, both included, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Shortest.
    pub from_us: u32,
    /// Longest.
    pub to_us: u32,
}

/// How delays are distributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly.
    Uniform(Span),
    /// Exponentially, cut off at `max_us`.
    Exponential {
        /// Mean before it is cut off.
        mean_us: u32,
        /// Longest.
        max_us: u32,
    },
    /// Mostly fast and now and then slow.
    Bimodal {
        /// As a rule.
        fast: Span,
        /// Otherwise.
        slow: Span,
        /// How often, per thousand.
        slow_per_mille: u16,
    },
    /// These, nanoseconds, in order and from the start again.
    Recorded(Vec<u64>),
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySpec {
    /// Holds each interrupt for the same time.
    FixedDelay {
        /// Microseconds.
        delay_us: u32,
    },
    /// Holds each for a random time.
    Jitter(Distribution),
    /// Holds each for one step longer than the one before, then begins again.
    Sweep {
        /// First and last.
        span: Span,
        /// Step, microseconds.
        step_us: u32,
    },
    /// Holds each until the guest has done something.
    OnProgress {
        /// What.
        until: Until,
        /// And so long after it.
        after: Span,
        /// No longer than this, microseconds.
        latest_us: u32,
    },
    /// Raises each once more when its handler has run: while the device is masked or callbacks are
    /// off.
    MaskRace {
        /// So long after it.
        after: Span,
        /// No later than this, microseconds.
        latest_us: u32,
    },
    /// Raises some of them again.
    Duplicate {
        /// How often.
        copies: u16,
        /// Between two of them, microseconds.
        gap_us: u32,
        /// How many interrupts, per thousand.
        per_mille: u16,
    },
    /// Raises interrupts that nobody has requested, at random gaps.
    Spurious {
        /// Between two of them.
        gap: Span,
    },
    /// Raises many in a row, again and again.
    Storm {
        /// How many.
        lines: u16,
        /// Between two of them, microseconds.
        gap_us: u32,
        /// Between two storms, microseconds.
        every_us: u32,
    },
    /// Holds the first for a time, and one interrupt then stands for all that came meanwhile.
    CoalesceLate {
        /// Microseconds.
        window_us: u32,
    },
    /// Never raises some of them. Not conformant.
    Drop {
        /// How many, per thousand.
        per_mille: u16,
    },
    /// Decides as was recorded; an intent that is not in the record is raised at once.
    Replay(Vec<Entry>),
    /// Another policy, some of the time.
    During {
        /// When.
        window: Window,
        /// Which; not a replay, whose record says when, nor another of this kind.
        policy: Box<PolicySpec>,
    },
}

impl PolicySpec {
    /// The policy itself, and when it acts.
    #[must_use]
    pub fn split(&self) -> (Window, &Self) {
        match self {
            Self::During { window, policy } => (*window, policy),
            always => (Window::default(), always),
        }
    }

    /// A right driver must survive it.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        match self {
            Self::During { policy, .. } => policy.is_conformant(),
            Self::Drop { .. } => false,
            Self::Replay(entries) => !entries
                .iter()
                .any(|entry| matches!(entry, Entry::Decided { decision, .. } if decision.dropped)),
            _ => true,
        }
    }

    /// Its name in plans.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::During { policy, .. } => policy.name(),
            Self::FixedDelay { .. } => "fixed-delay",
            Self::Jitter(_) => "jitter",
            Self::Sweep { .. } => "sweep",
            Self::OnProgress { .. } => "on-progress",
            Self::MaskRace { .. } => "mask-race",
            Self::Duplicate { .. } => "duplicate",
            Self::Spurious { .. } => "spurious",
            Self::Storm { .. } => "storm",
            Self::CoalesceLate { .. } => "coalesce-late",
            Self::Drop { .. } => "drop",
            Self::Replay(_) => "replay",
        }
    }

    fn times(&self) -> Vec<(&'static str, u32)> {
        let span = |span: &Span| [("from_us", span.from_us), ("to_us", span.to_us)];
        match self {
            Self::FixedDelay { delay_us } => vec![("delay_us", *delay_us)],
            Self::Jitter(Distribution::Uniform(uniform)) => span(uniform).to_vec(),
            Self::Jitter(Distribution::Exponential { mean_us, max_us }) => {
                vec![("mean_us", *mean_us), ("max_us", *max_us)]
            }
            Self::Jitter(Distribution::Bimodal { fast, slow, .. }) => {
                [span(fast), span(slow)].concat()
            }
            Self::Sweep { span: swept, step_us } => {
                [&span(swept)[..], &[("step_us", *step_us)]].concat()
            }
            Self::OnProgress { after, latest_us, .. } | Self::MaskRace { after, latest_us } => {
                [&span(after)[..], &[("latest_us", *latest_us)]].concat()
            }
            Self::Duplicate { gap_us, .. } => vec![("gap_us", *gap_us)],
            Self::Spurious { gap } => span(gap).to_vec(),
            Self::Storm { gap_us, every_us, .. } => {
                vec![("gap_us", *gap_us), ("every_us", *every_us)]
            }
            Self::CoalesceLate { window_us } => vec![("window_us", *window_us)],
            Self::Jitter(Distribution::Recorded(_))
            | Self::Drop { .. }
            | Self::Replay(_)
            | Self::During { .. } => vec![],
        }
    }

    fn spans(&self) -> Vec<Span> {
        match self {
            Self::Jitter(Distribution::Uniform(span))
            | Self::Sweep { span, .. }
            | Self::OnProgress { after: span, .. }
            | Self::MaskRace { after: span, .. }
            | Self::Spurious { gap: span } => vec![*span],
            Self::Jitter(Distribution::Bimodal { fast, slow, .. }) => vec![*fast, *slow],
            _ => vec![],
        }
    }

    /// The field that must not be 0. Without a pause between two interrupts of its own a policy
    /// would never let the worker sleep.
    fn positive(&self) -> Option<(&'static str, u64)> {
        match self {
            Self::FixedDelay { delay_us } => Some(("delay_us", (*delay_us).into())),
            Self::Jitter(Distribution::Recorded(delays)) => {
                Some(("recorded_ns", delays.len() as u64))
            }
            Self::Jitter(Distribution::Exponential { mean_us, .. }) => {
                Some(("mean_us", (*mean_us).into()))
            }
            Self::Sweep { step_us, .. } => Some(("step_us", (*step_us).into())),
            Self::OnProgress { latest_us, .. } | Self::MaskRace { latest_us, .. } => {
                Some(("latest_us", (*latest_us).into()))
            }
            Self::Duplicate { copies, .. } => Some(("copies", (*copies).into())),
            Self::Spurious { gap } => Some(("from_us", gap.from_us.into())),
            Self::Storm { gap_us, every_us, .. } => {
                Some(if *gap_us == 0 { ("gap_us", 0) } else { ("every_us", (*every_us).into()) })
            }
            Self::CoalesceLate { window_us } => Some(("window_us", (*window_us).into())),
            Self::Jitter(_) | Self::Drop { .. } | Self::Replay(_) | Self::During { .. } => None,
        }
    }

    /// It holds interrupts for something the guest does: two of that kind cannot both have their
    /// way.
    const fn holds_until(&self) -> bool {
        matches!(self, Self::OnProgress { .. })
    }

    /// It raises interrupts once more, in its own way.
    const fn repeats(&self) -> bool {
        matches!(self, Self::MaskRace { .. } | Self::Duplicate { .. })
    }

    /// What is recorded and cannot have been: in which field, and what is wrong.
    fn wrong_record(&self) -> Option<(&'static str, String)> {
        let (field, wrong) = match self {
            Self::Jitter(Distribution::Recorded(delays)) => {
                let most = u64::from(MAX_US) * 1000;
                let wrong = delays.iter().find(|delay| **delay > most);
                ("recorded_ns", wrong.map(|delay| format!("{delay} ns is more than ten seconds")))
            }
            Self::Replay(entries) if entries.len() > ENTRIES_MAX => {
                ("schedule", Some(format!("{} entries: at most {ENTRIES_MAX}", entries.len())))
            }
            Self::Replay(entries) => ("schedule", entries.iter().find_map(wrong_entry)),
            _ => return None,
        };
        wrong.map(|what| (field, what))
    }
}

fn wrong_entry(entry: &Entry) -> Option<String> {
    let too_long = |time: Duration| time > MAX_HOLD;
    let hold_is_too_long = |hold: &Hold| {
        too_long(hold.delay) || hold.until.is_some_and(|(_, latest)| too_long(latest))
    };
    let (intent, more, late) = match entry {
        Entry::Decided { intent, decision } => (
            intent,
            u32::from(decision.copies),
            hold_is_too_long(&decision.hold) || hold_is_too_long(&decision.copies_after),
        ),
        Entry::Spurious { before, lines, .. } => (before, *lines, false),
    };
    if late {
        Some(format!("Intent {intent} is held for more than {} s", MAX_HOLD.as_secs()))
    } else if more > MAX_COPIES.into() {
        Some(format!("{more} more at intent {intent}: at most {MAX_COPIES}"))
    } else {
        None
    }
}

/// What is wrong with when a policy acts, and in which field if it is one.
fn wrong_window(spec: &PolicySpec) -> Option<(Option<&'static str>, String)> {
    let PolicySpec::During { window, policy } = spec else { return None };
    if matches!(**policy, PolicySpec::Replay(_) | PolicySpec::During { .. }) {
        return Some((None, "a record says itself when it acts".into()));
    }
    window.wrong().map(|(field, what)| (Some(field), what))
}

/// Why a stack of policies cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Policy {place} ({name}): {what}")]
pub struct SpecError {
    /// Place in the stack, from 0.
    pub place: usize,
    /// Name of the policy.
    pub name: &'static str,
    /// The field, when it is one.
    pub field: Option<&'static str>,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Checks a stack.
///
/// # Errors
/// When a field is out of range, or two policies exclude each other.
pub fn check(specs: &[PolicySpec]) -> Result<(), SpecError> {
    if let Some(spec) = specs.get(MAX_POLICIES) {
        let what = format!("one of {}: at most {MAX_POLICIES} for a vector", specs.len());
        return Err(SpecError { place: MAX_POLICIES, name: spec.name(), field: None, what });
    }
    for (place, spec) in specs.iter().enumerate() {
        let fail = |field: Option<&'static str>, what: String| {
            Err(SpecError { place, name: spec.name(), field, what })
        };
        if let Some((field, what)) = wrong_window(spec) {
            return fail(field, what);
        }
        let (window, spec) = spec.split();
        for (field, value) in spec.times() {
            if value > MAX_US {
                return fail(
                    Some(field),
                    format!("{field} is {value}, more than {MAX_US} (ten seconds)"),
                );
            }
        }
        for span in spec.spans() {
            if span.from_us > span.to_us {
                let Span { from_us, to_us } = span;
                return fail(
                    Some("to_us"),
                    format!("to_us is {to_us}, less than from_us, {from_us}"),
                );
            }
        }
        if let Some((field, 0)) = spec.positive() {
            return fail(Some(field), format!("{field} is 0: 1 or more"));
        }
        let copies = match spec {
            PolicySpec::Duplicate { copies, .. } => Some(("copies", *copies)),
            PolicySpec::Storm { lines, .. } => Some(("lines", *lines)),
            _ => None,
        };
        if let Some((field, value)) = copies
            && (value == 0 || value > MAX_COPIES)
        {
            return fail(Some(field), format!("{field} is {value}: 1 to {MAX_COPIES}"));
        }
        let per_mille = match spec {
            PolicySpec::Duplicate { per_mille, .. } | PolicySpec::Drop { per_mille } => {
                Some(*per_mille)
            }
            PolicySpec::Jitter(Distribution::Bimodal { slow_per_mille, .. }) => {
                Some(*slow_per_mille)
            }
            _ => None,
        };
        if let Some(value) = per_mille
            && value > 1000
        {
            return fail(Some("per_mille"), format!("{value} in a thousand: 0 to 1000"));
        }
        if let Some((field, what)) = spec.wrong_record() {
            return fail(Some(field), what);
        }
        // Those before it that may act when it does.
        let mut earlier = specs[..place].iter().filter_map(|earlier| {
            let (other, earlier) = earlier.split();
            window.overlaps(other).then_some(earlier)
        });
        if spec.holds_until() && earlier.clone().any(PolicySpec::holds_until) {
            return fail(
                None,
                "an interrupt can be held for one thing only, and one before it does".into(),
            );
        }
        if spec.repeats() && earlier.any(PolicySpec::repeats) {
            return fail(
                None,
                "an interrupt can be repeated in one way only, and one before it does".into(),
            );
        }
        if matches!(spec, PolicySpec::Replay(_)) && specs.len() != 1 {
            return fail(
                None,
                "a record holds what all policies had decided: no others beside it".into(),
            );
        }
    }
    Ok(())
}

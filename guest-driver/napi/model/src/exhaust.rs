// SPDX-License-Identifier: GPL-2.0-only
//! Every interleaving of a model, by loom.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::model::Builder;
use napi_state::Bits;
use parking_lot::Mutex;

use crate::protocol::Protocol;
use crate::run::run;
use crate::runtime::Loom;
use crate::scenario::{Owner, Scenario};
use crate::verdict::{Execution, Tally};

/// What an exploration came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The protocol.
    pub protocol: &'static str,
    /// Where its bits are.
    pub bits: Bits,
    /// What was modelled.
    pub scenario: Scenario,
    /// The executions.
    pub tally: Tally,
    /// Why it ended before every execution was seen; `None` when all were.
    pub cut_short: Option<String>,
}

/// Explores every execution of a model.
///
/// No bound ends the search: it is complete, or cut short by a panic inside the model, which is
/// then in [`Outcome::cut_short`]. Of loom's bounds the number of threads and of branches in one
/// execution are left, and exceeding one of them is such a panic.
#[must_use]
pub fn exhaust<P: Protocol>(scenario: &Scenario) -> Outcome {
    exhaust_with::<P>(scenario, |_| ())
}

/// The same, and shows each execution to `look`.
#[must_use]
pub fn exhaust_with<P: Protocol>(
    scenario: &Scenario,
    look: impl Fn(&Execution) + Send + Sync + 'static,
) -> Outcome {
    let scenario = *scenario;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let sink = Arc::clone(&tally);
    let explored = catch_unwind(AssertUnwindSafe(|| {
        unbounded().check(move || {
            let execution = run::<Loom, P>(scenario);
            look(&execution);
            sink.lock().add(execution);
        });
    }));
    let tally = tally.lock().clone();
    let cut_short = match explored {
        Ok(()) if tally.executions == 0 => Some("nothing was explored".to_owned()),
        Ok(()) => None,
        Err(cause) => Some(message(&*cause)),
    };
    Outcome { protocol: P::NAME, bits: P::BITS, scenario, tally, cut_short }
}

/// Every field is set, since loom takes their defaults from the environment, where a bound could
/// make it return early without a word.
fn unbounded() -> Builder {
    let mut builder = Builder::new();
    builder.max_threads = loom::MAX_THREADS;
    builder.max_branches = 100_000;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.preemption_bound = None;
    builder.checkpoint_file = None;
    builder.checkpoint_interval = usize::MAX;
    builder.expect_explicit_explore = false;
    builder.location = false;
    builder.log = false;
    builder
}

/// What a panic said.
pub(crate) fn message(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}

impl Outcome {
    /// Nothing went wrong in any execution.
    ///
    /// # Panics
    /// If something did, or if not every execution was seen.
    pub fn assert_sound(&self) {
        self.assert_complete();
        assert!(self.tally.violations.is_empty(), "{}", self.report());
    }

    /// Every execution was seen.
    ///
    /// # Panics
    /// If not.
    pub fn assert_complete(&self) {
        assert!(self.cut_short.is_none(), "not every execution was seen. {}", self.report());
    }

    /// In words, with the timeline of the worst execution.
    #[must_use]
    pub fn report(&self) -> String {
        let Self { protocol, bits, scenario, tally, cut_short } = self;
        let owners: Vec<_> = scenario.owners.iter().map(|owner| Owner::name(*owner)).collect();
        let owners = if owners.is_empty() { "nobody".to_owned() } else { owners.join(", ") };
        let mut text = format!(
            "{protocol}, beside the interrupt: {owners}. {} executions, {} broken; {} polls at most, {} of them empty; {} \
             interrupts at most, {} spurious.\n",
            tally.executions,
            tally.broken,
            tally.polls.most,
            tally.idle_polls.most,
            tally.interrupts.most,
            tally.idle_interrupts.most
        );
        if let Some(cause) = cut_short {
            text.extend(["Cut short: ", cause, "\n"]);
        }
        if let Some(worst) = &tally.worst {
            text += &crate::timeline::render(worst, scenario, *bits);
        }
        text
    }
}

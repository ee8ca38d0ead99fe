// SPDX-License-Identifier: GPL-2.0-only
//! Random interleavings of worlds too large to see all of, by shuttle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use shuttle::scheduler::{DfsScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::exhaust::{Outcome, message};
use crate::protocol::Protocol;
use crate::run::run;
use crate::runtime::{Runtime, Shuttle};
use crate::scenario::Scenario;
use crate::verdict::{Execution, Tally};

/// A random exploration.
#[derive(Clone, Debug)]
pub struct Explored {
    /// What it came to; cut short where it panicked.
    pub outcome: Outcome,
    /// Seed of the first broken execution: with it as the first seed that execution is the first.
    pub broken_seed: Option<u64>,
}

/// Runs `iterations` executions, of `queues` contexts with a device and owners each, all beside one
/// another. Execution `n` depends on `seed + n` and on nothing else.
#[must_use]
pub fn explore<P: Protocol>(
    scenario: &Scenario,
    queues: usize,
    seed: u64,
    iterations: u64,
) -> Explored {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut broken_seed = None;
    let mut cut_short = None;
    for seed in (0..iterations).map(|n| seed.wrapping_add(n)) {
        let run = catch_unwind(AssertUnwindSafe(|| once::<P>(*scenario, queues, seed, &tally)));
        if run.is_err() || tally.lock().broken > 0 {
            broken_seed = broken_seed.or(Some(seed));
        }
        if let Err(cause) = run {
            cut_short = Some(format!("seed {seed}: {}", message(&*cause)));
            break;
        }
    }
    let tally = tally.lock().clone();
    Explored {
        outcome: Outcome {
            protocol: P::NAME,
            bits: P::BITS,
            scenario: *scenario,
            tally,
            cut_short,
        },
        broken_seed,
    }
}

fn once<P: Protocol>(scenario: Scenario, queues: usize, seed: u64, tally: &Arc<Mutex<Tally>>) {
    let tally = Arc::clone(tally);
    Runner::new(RandomScheduler::new_from_seed(seed, 1), config()).run(move || {
        let queue = |tally: &Arc<Mutex<Tally>>| {
            let tally = Arc::clone(tally);
            move || {
                let execution = run::<Shuttle, P>(scenario);
                tally.lock().add(execution);
            }
        };
        let others: Vec<_> = (1..queues).map(|_| Shuttle::spawn(queue(&tally))).collect();
        queue(&tally)();
        others.into_iter().for_each(Shuttle::join);
    });
}

/// Runs every schedule there is, however many come to the same, and passes each execution to
/// `sink`.
///
/// A check on the checker: slow, and without the reasoning by which loom leaves out what it need
/// not run.
pub fn every_schedule<P: Protocol>(
    scenario: Scenario,
    sink: impl Fn(Execution) + Send + Sync + 'static,
) {
    Runner::new(DfsScheduler::new(None, false), config())
        .run(move || sink(run::<Shuttle, P>(scenario)));
}

fn config() -> Config {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    // Of orderings weaker than SeqCst, which it takes for SeqCst: the model of x86 asks for no
    // less.
    config.silence_warnings = true;
    config
}

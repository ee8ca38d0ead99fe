// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model of NAPI's scheduling protocol against the kernel that runs: the same random steps for
//! both, and the same must be seen.
//!
//! What is compared after every step is the whole state word, what the function returned, whether a
//! poll was scheduled, whether the watchdog runs, how many deferrals are left, whether GRO was
//! flushed, and for a busy loop the word and the watchdog at the beginning of each of its polls.
//! What is not: steps of two processors at once; that is the model checker's.

mod device;
mod draw;
mod model;
mod rows;
mod step;

use std::collections::VecDeque;
use std::fmt::Write as _;

use device::{Device, STEPS_MAX};
use guest_protocol::{NapiReport, NapiRow};
use model::{Model, Situation};
use napi_state::v6_1::DeferredStop;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rows::ROWS;
use step::{POLL_WATCHDOG, Poll, Seen, Settings, Step};

use crate::error::Error;

/// Steps shown before one that differs.
const SHOWN: usize = 10;

/// Whatever carries steps out.
trait Subject {
    /// Carries out as many as it permits, in order; what was seen of each. An error when it permits
    /// none.
    fn run(&mut self, steps: &[Step]) -> Result<Vec<Seen>, Error>;
}

/// Compares the running kernel with the model for `steps` random steps, or up to the first that
/// differs. The module is loaded.
///
/// # Errors
/// The module is not there, refuses a step that the model permits, or accepts what it must refuse.
pub fn check(seed: u64, steps: u32) -> Result<NapiReport, Error> {
    let mut device = Device::open()?;
    let refused = device.refusals()?;
    let report = compare(&mut device, seed, steps)?;
    Ok(NapiReport { refused, ..report })
}

/// The steps that show how a preferred busy loop ends while interrupts are deferred: its last poll,
/// if there is one, uses up its budget.
const PROBE: [Step; 2] = {
    let quiet = Poll { work: 0, irq_before: false, irq_after: false, held: false };
    [
        Step::Settings(Settings {
            timeout: true,
            held: false,
            threaded: false,
            defer_hard_irqs: 1,
        }),
        Step::Busy { prefer: true, polls: [quiet, Poll { work: 8, ..quiet }] },
    ]
};

/// What the probe's busy loop shows.
fn deferred_stop(seen: &Seen) -> DeferredStop {
    if seen.polls < 2 {
        DeferredStop::WatchdogOnly
    } else if seen.poll_flags[1] & POLL_WATCHDOG != 0 {
        DeferredStop::WatchdogThenPoll
    } else {
        DeferredStop::PollThenWatchdog
    }
}

fn form(deferred_stop: DeferredStop) -> &'static str {
    match deferred_stop {
        DeferredStop::WatchdogThenPoll => "the watchdog, then the last poll (before 58e2330bd455)",
        DeferredStop::PollThenWatchdog => "the last poll, then the watchdog (58e2330bd455)",
        DeferredStop::WatchdogOnly => "the watchdog and no last poll (7599c13dbe7a)",
    }
}

fn compare(subject: &mut impl Subject, seed: u64, steps: u32) -> Result<NapiReport, Error> {
    let idle = idle_word(&subject.run(&[Step::Look])?)?;
    let probed = subject.run(&PROBE)?;
    let Some(busy) = probed.get(1) else {
        let (step, number) = if probed.is_empty() { (PROBE[0], 0) } else { (PROBE[1], 1) };
        return Err(Error::Refusal { step: step.to_string(), number });
    };
    let model = Model::new(idle, deferred_stop(busy));
    compare_from(subject, &model, &probed, seed, steps)
}

/// Compares what the probe has shown with the model, and then random steps.
fn compare_from(
    subject: &mut impl Subject,
    model: &Model,
    probed: &[Seen],
    seed: u64,
    steps: u32,
) -> Result<NapiReport, Error> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut counts = vec![0; ROWS.len()];
    let mut history = VecDeque::new();
    let mut compared = 0;
    let mut mismatch = None;
    let deferred_stop = model.situation().deferred_stop;
    for (step, seen) in PROBE.into_iter().zip(probed) {
        let expected = Expected { step, before: model.situation(), seen: model.step(step) };
        if expected.seen != *seen {
            mismatch = Some(describe(compared, &history, &expected, seen));
            break;
        }
        compared += 1;
        history.push_back((step, *seen));
    }
    'chunks: while mismatch.is_none() && compared < steps {
        let left = usize::try_from(steps - compared).unwrap_or(usize::MAX);
        let chunk: Vec<Expected> = (0..left.min(STEPS_MAX))
            .map(|_| {
                let before = model.situation();
                let step = draw::draw(&mut random, &before);
                Expected { step, before, seen: model.step(step) }
            })
            .collect();
        let observed =
            subject.run(&chunk.iter().map(|expected| expected.step).collect::<Vec<_>>())?;
        for (expected, seen) in chunk.iter().zip(&observed) {
            if expected.seen != *seen {
                mismatch = Some(describe(compared, &history, expected, seen));
                break 'chunks;
            }
            compared += 1;
            rows::rows(expected.step, &expected.before, seen, |row| counts[row as usize] += 1);
            if history.len() == SHOWN {
                history.pop_front();
            }
            history.push_back((expected.step, *seen));
        }
        if observed.len() < chunk.len() {
            return Err(Error::Refusal {
                step: chunk[observed.len()].step.to_string(),
                number: compared,
            });
        }
    }
    let applicable =
        ROWS.iter().zip(counts).filter(|((row, ..), _)| rows::applies(*row, deferred_stop));
    let rows = applicable.map(|((_, function, row), count)| NapiRow {
        function: (*function).to_owned(),
        row: (*row).to_owned(),
        count,
    });
    let busy_poll_stop = form(deferred_stop).to_owned();
    Ok(NapiReport { steps: compared, busy_poll_stop, rows: rows.collect(), refused: 0, mismatch })
}

/// A step, how things were before it, and what the model makes of it.
struct Expected {
    step: Step,
    before: Situation,
    seen: Seen,
}

/// The word of an instance that nobody owns and nothing blocks. It may have bits that are no part
/// of the protocol.
fn idle_word(seen: &[Seen]) -> Result<usize, Error> {
    let word = seen.first().map_or(0, |seen| seen.word) as usize;
    let bits = Model::BITS;
    let others = draw::others_bits().into_iter().fold(0, |all, bit| all | usize::from(bit));
    if word & (others | bits.sched_mask() | bits.missed_mask() | bits.sched_threaded_mask()) == 0 {
        Ok(word)
    } else {
        Err(Error::NotIdle { word })
    }
}

fn describe(
    number: u32,
    history: &VecDeque<(Step, Seen)>,
    expected: &Expected,
    seen: &Seen,
) -> String {
    let mut text = String::new();
    for (at, (step, seen)) in history.iter().enumerate() {
        let number = number as usize + at - history.len();
        let _ = writeln!(text, "step {number}: {step}\n    both    {seen}");
    }
    let _ = write!(
        text,
        "step {number}: {}\n    kernel  {seen}\n    model   {}",
        expected.step, expected.seen
    );
    text
}

#[cfg(test)]
mod tests;

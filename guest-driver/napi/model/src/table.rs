// SPDX-License-Identifier: GPL-2.0-only
//! `docs/napi-ablation.md`: each clause taken away, and what becomes of it.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::ablation::{
    CompleteIgnoresMissed, CompleteInTwoSteps, DisableTestedAfterSched, PrepInTwoSteps,
    PrepSetsNoMissed, StopKeepsMissed, WatchdogSetsMissed,
};
use crate::device::Kind;
use crate::exhaust::{Outcome, exhaust};
use crate::protocol::{Protocol, V4_10, V4_10PrepOn6_1, V4_11, V6_1, V6_1PollThenWatchdog, V7_3};
use crate::random::explore;
use crate::scenario::{Machine, Order, Owner, Scenario, Settings};
use crate::timeline;
use crate::verdict::Tally;

/// One row: what was changed, and what that came to.
#[derive(Debug)]
pub struct Row {
    /// What was changed.
    pub change: &'static str,
    /// Why it is there, or what the row shows.
    pub note: &'static str,
    /// Every execution of the small model.
    pub outcome: Outcome,
    /// What the change costs, where it costs something.
    pub cost: Option<Cost>,
    /// Whether it breaks under sequential consistency, too.
    pub breaks_sequentially: fn(&Scenario) -> bool,
}

/// Random executions of the large model: with the change, and without it.
type Cost = fn() -> [Tally; 2];

impl Row {
    fn costs(self, cost: Cost) -> Self {
        Self { cost: Some(cost), ..self }
    }
}

/// A model of the interrupt alone: packets come one by one.
const INTERRUPTS: Scenario = Scenario { waiting: 0, packets: 2, ..Scenario::INTERRUPT };

/// A model of a disable beside an interrupt.
const DOWN: Scenario =
    Scenario { owners: &[Owner::Disable { reopen: false }], ..Scenario::INTERRUPT };

/// A driver that arms first and rechecks, on an edge-triggered device. It begins with its own poll,
/// as after `napi_enable()`.
const EDGE_RECHECK: Scenario = Scenario {
    waiting: 0,
    armed: false,
    order: ARM_FIRST_RECHECK,
    device: Kind::EdgeTriggered,
    ..Scenario::DRIVER
};

/// A preferred busy poll of an instance whose interrupts are deferred, with a budget of one packet
/// and three to read.
pub const PREFERRED: Scenario = Scenario {
    waiting: 3,
    armed: false,
    packets: 0,
    weight: 8,
    settings: Settings::PREFER_BUSY_POLL,
    ..Scenario::BUSY_POLL
};

/// `virtio_net`'s order, with and without its look at the ring after completing.
const ARM_FIRST: Order = Order::ArmThenComplete { recheck: false };
const ARM_FIRST_RECHECK: Order = Order::ArmThenComplete { recheck: true };

/// Everybody at once, where costs are counted.
const LARGE: Scenario = Scenario {
    owners: &[Owner::BusyPoll { turns: 3 }, Owner::Driver { times: 1 }, Owner::Watchdog],
    packets: 4,
    settings: Settings::GRO,
    ..Scenario::INTERRUPT
};

/// Random executions in which costs are counted, and the seed of the first.
const RANDOM: u64 = 5_000;
const SEED: u64 = 1;

/// Sequentially consistent executions in which a broken one is looked for, and how many at a time.
const SEQUENTIAL: u64 = 100_000;
const SEQUENTIAL_STEP: u64 = 500;

/// A part of the table.
#[derive(Debug)]
pub struct Part {
    /// Its heading.
    pub heading: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// Explores everything.
#[must_use]
pub fn parts() -> Vec<Part> {
    vec![
        Part { heading: "As the kernels are", rows: kernels() },
        Part { heading: "The fix, one clause at a time", rows: clauses() },
        Part { heading: "The driver", rows: drivers() },
        Part { heading: "The device", rows: devices() },
        Part { heading: "Beside the fix", rows: beside() },
    ]
}

fn row<P: Protocol>(change: &'static str, note: &'static str, scenario: &Scenario) -> Row {
    Row {
        change,
        note,
        outcome: exhaust::<P>(scenario),
        cost: None,
        breaks_sequentially: breaks_sequentially::<P>,
    }
}

/// Whether one of many random executions is broken. They are sequentially consistent, loom's are
/// not: it treats sequentially consistent loads and read-modify-writes as acquire and release.
fn breaks_sequentially<P: Protocol>(scenario: &Scenario) -> bool {
    (0..SEQUENTIAL / SEQUENTIAL_STEP).any(|step| {
        explore::<P>(scenario, 1, SEED + step * SEQUENTIAL_STEP, SEQUENTIAL_STEP)
            .broken_seed
            .is_some()
    })
}

/// Random executions of the large model, or what became of it.
fn large<P: Protocol>(scenario: &Scenario) -> Tally {
    explore::<P>(scenario, 1, SEED, RANDOM).outcome.tally
}

fn kernels() -> Vec<Row> {
    vec![
        row::<V4_10>("4.10.0, busy polling", "the changelog's interleaving", &Scenario::BUSY_POLL),
        row::<V4_10>(
            "4.10.0, `napi_watchdog()`",
            "the same interleaving; rescued within `gro_flush_timeout` unless the last poll found nothing, as here",
            &Scenario::WATCHDOG,
        ),
        row::<V4_10>(
            "4.10.0, the driver's own `napi_schedule()`",
            "the same interleaving",
            &Scenario::DRIVER,
        ),
        row::<V4_10>(
            "4.10.0, the interrupt alone",
            "immune: the device is not armed while a poll that it started runs",
            &INTERRUPTS,
        ),
        row::<V4_11>("4.11, busy polling", "", &Scenario::BUSY_POLL),
        row::<V4_11>("4.11, `napi_watchdog()`", "", &Scenario::WATCHDOG),
        row::<V4_11>("4.11, the driver's own `napi_schedule()`", "", &Scenario::DRIVER),
        row::<V4_11>("4.11, the interrupt alone", "", &INTERRUPTS),
        row::<V6_1>("6.1 and 6.12, busy polling", "", &Scenario::BUSY_POLL),
        row::<V6_1>("6.1 and 6.12, `napi_watchdog()`", "", &Scenario::WATCHDOG),
        row::<V7_3>("7.3, busy polling", "", &Scenario::BUSY_POLL),
        row::<V4_10PrepOn6_1>(
            "6.1 with the `napi_schedule_prep()` of 4.10.0, busy polling",
            "what the experiments run, by the driver's `v4_10` mode or by the livepatch, beside a busy poller",
            &Scenario::BUSY_POLL,
        ),
    ]
}

fn clauses() -> Vec<Row> {
    vec![
        row::<PrepSetsNoMissed>("`napi_schedule_prep()` sets no `MISSED`", "", &Scenario::DRIVER),
        row::<CompleteIgnoresMissed>(
            "`napi_complete_done()` does not honour `MISSED`",
            "",
            &Scenario::DRIVER,
        ),
        row::<CompleteInTwoSteps>(
            "`napi_complete_done()`: two bit operations for one cmpxchg",
            "`MISSED` is set between the look at it and the clearing of `SCHED`, and stays behind",
            &Scenario::DRIVER,
        ),
        row::<PrepInTwoSteps>(
            "`napi_schedule_prep()`: two bit operations for one cmpxchg",
            "the owner completes between them, and `MISSED` is set for nobody",
            &Scenario::DRIVER,
        ),
        row::<WatchdogSetsMissed>(
            "`napi_watchdog()` by the full `napi_schedule_prep()`",
            "harmless, and there are empty polls; beside a busy poller checked at random only",
            &Scenario::WATCHDOG,
        )
        .costs(|| [large::<WatchdogSetsMissed>(&LARGE), large::<V4_11>(&LARGE)]),
        row::<StopKeepsMissed>(
            "`busy_poll_stop()` does not clear `MISSED`",
            "harmless, and there are empty polls",
            &Scenario::BUSY_POLL,
        )
        .costs(|| [large::<StopKeepsMissed>(&LARGE), large::<V4_11>(&LARGE)]),
        row::<DisableTestedAfterSched>(
            "4.10.0's order of the two tests, which the fix keeps: `DISABLE` tested after `SCHED` instead",
            "`SCHED` is set by somebody who then turns away",
            &DOWN,
        ),
    ]
}

fn drivers() -> Vec<Row> {
    let alone = |order| Scenario { order, ..INTERRUPTS };
    let owner = |order| Scenario { order, ..Scenario::DRIVER };
    vec![
        row::<V4_10>(
            "4.10.0, arms before it completes, the interrupt alone",
            "`virtio_net`'s order without its recheck: another bug than the changelog's, and needs no other owner",
            &alone(ARM_FIRST),
        ),
        row::<V4_10>(
            "4.10.0, arms before it completes and rechecks, the interrupt alone",
            "the recheck finds it",
            &alone(ARM_FIRST_RECHECK),
        ),
        row::<V4_10>(
            "4.10.0, arms before it completes and rechecks, beside the driver's own `napi_schedule()`",
            "",
            &owner(ARM_FIRST_RECHECK),
        ),
        row::<V4_11>(
            "4.11, arms before it completes, the interrupt alone",
            "`MISSED` covers it too",
            &alone(ARM_FIRST),
        ),
        row::<V4_11>(
            "4.11, arms before it completes, beside the driver's own `napi_schedule()`",
            "",
            &owner(ARM_FIRST),
        ),
        row::<V4_11>(
            "4.11, arms before it completes and rechecks, the interrupt alone",
            "sound twice over, and pays for both",
            &alone(ARM_FIRST_RECHECK),
        )
        .costs(|| {
            [
                large::<V4_11>(&Scenario { order: ARM_FIRST_RECHECK, ..LARGE }),
                large::<V4_11>(&LARGE),
            ]
        }),
        row::<V4_11>(
            "4.11, busy polling, arms without `ci`",
            "the device cannot know what was consumed, and interrupts for it",
            &Scenario { arm_with_ci: false, ..Scenario::BUSY_POLL },
        )
        .costs(|| {
            [large::<V4_11>(&Scenario { arm_with_ci: false, ..LARGE }), large::<V4_11>(&LARGE)]
        }),
    ]
}

fn devices() -> Vec<Row> {
    let made = |device, base| Scenario { device, ..base };
    vec![
        row::<V4_10>(
            "4.10.0, on a level-triggered device, which ignores `signaled`",
            "it interrupts again for what is in the ring: no race",
            &made(Kind::LevelTriggered, Scenario::DRIVER),
        )
        .costs(|| {
            [
                large::<V4_10>(&Scenario { device: Kind::LevelTriggered, ..LARGE }),
                large::<V4_10>(&LARGE),
            ]
        }),
        row::<V4_11>(
            "4.11, on an edge-triggered device",
            "what comes between the last look and the arm raises nothing: `MISSED` is no help without an interrupt",
            &made(Kind::EdgeTriggered, INTERRUPTS),
        ),
        row::<V4_11>(
            "4.11, on an edge-triggered device, arms visibly, completes and rechecks",
            "what an edge-triggered device needs of its driver: the arm is with the device before the recheck",
            &EDGE_RECHECK,
        ),
    ]
}

fn beside() -> Vec<Row> {
    vec![
        row::<V4_11>(
            "4.11, down and up again",
            "`napi_enable()` clears `SCHED` and then `NPSVC`; an interrupt in between",
            &Scenario::REOPEN,
        ),
        row::<V6_1>(
            "6.1, down and up again",
            "`napi_enable()` clears both at once",
            &Scenario::REOPEN,
        ),
        row::<V4_11>(
            "4.11, busy polling, on a weakly ordered machine",
            "`busy_poll_stop()` clears `MISSED` by `clear_bit()`, which does not order the look at the ring after it",
            &Scenario { machine: Machine::Weak, waiting: 0, ..Scenario::BUSY_POLL },
        ),
        row::<V4_11>(
            "4.11, busy polling, on a weakly ordered machine, fully ordered clears in `busy_poll_stop()`",
            "the control of the row above",
            &Scenario { machine: Machine::WeakOrderedClears, waiting: 0, ..Scenario::BUSY_POLL },
        ),
        row::<V6_1>(
            "6.1 and 6.12 before 58e2330bd455, preferred busy polling, interrupts deferred",
            "`busy_poll_stop()` starts the watchdog before the last poll. When that poll uses up its budget, `SCHED` is cleared and the rest left to the watchdog, \
             which may have come and gone during the poll",
            &PREFERRED,
        ),
        row::<V6_1PollThenWatchdog>(
            "6.1 and 6.12 with 58e2330bd455, preferred busy polling, interrupts deferred",
            "the last poll comes first, and the watchdog is started when `SCHED` is clear",
            &PREFERRED,
        ),
        row::<V7_3>(
            "7.3 (7599c13dbe7a), preferred busy polling, interrupts deferred",
            "no last poll, and the watchdog is started when `SCHED` is clear",
            &PREFERRED,
        ),
    ]
}

/// The table and the timelines, as Markdown.
#[must_use]
pub fn markdown(parts: &[Part]) -> String {
    let mut text = String::new();
    let mut timelines = String::new();
    let rows = parts.iter().flat_map(|part| part.rows.iter().map(move |row| (part.heading, row)));
    let mut last = "";
    for (number, (heading, row)) in (1..).zip(rows) {
        if heading != last {
            last = heading;
            let _ = writeln!(
                text,
                "### {heading}\n\n| | model | executions | broken | verdict | cost, per 1,000 of 5,000 random executions |\n\
                 |--:|---|--:|--:|---|---|"
            );
        }
        let tally = &row.outcome.tally;
        let note = if row.note.is_empty() { String::new() } else { format!(": {}", row.note) };
        let _ = writeln!(
            text,
            "| {number} | {}{note} | {} | {} | {} | {} |",
            row.change,
            tally.executions,
            tally.broken,
            verdict(&row.outcome, number),
            row.cost.map_or_else(String::new, |runs| cost(&runs())),
        );
        if let Some(worst) = &tally.worst {
            let told = timeline::render(worst, &row.outcome.scenario, row.outcome.bits);
            let _ = writeln!(
                timelines,
                "\n<a id=\"how-{number}\"></a>\n### {number}. {}\n\n```\n{told}```",
                row.change
            );
        }
    }
    let text = text.replace("\n###", "\n\n###");
    format!("{text}\n## Interleavings\n{timelines}")
}

fn verdict(outcome: &Outcome, number: usize) -> String {
    if let Some(cause) = &outcome.cut_short {
        return format!("**not explored to the end: {cause}**");
    }
    let violations: Vec<_> = outcome.tally.violations.iter().map(ToString::to_string).collect();
    if violations.is_empty() {
        "sound".to_owned()
    } else {
        format!("[**{}**](#how-{number})", violations.join(", "))
    }
}

fn cost([with, without]: &[Tally; 2]) -> String {
    let per_thousand =
        |total: u64, tally: &Tally| (total * 1000 + tally.executions / 2) / tally.executions.max(1);
    let figure = |of: fn(&Tally) -> u64| {
        format!("{} (else {})", per_thousand(of(with), with), per_thousand(of(without), without))
    };
    format!(
        "{} empty polls, {} spurious interrupts",
        figure(|tally| tally.idle_polls.total),
        figure(|tally| tally.idle_interrupts.total)
    )
}

/// The line of the page below which everything is generated.
const MARKER: &str = "<!-- generated by: cargo run --release -p napi-model -- table -->\n";

/// Replaces the generated part of the page.
///
/// # Errors
/// When the line that begins it is not there.
pub fn replace(page: &str, generated: &str) -> anyhow::Result<String> {
    let (by_hand, _) =
        page.split_once(MARKER).with_context(|| format!("No line `{}`", MARKER.trim_end()))?;
    Ok(format!("{by_hand}{MARKER}\n{generated}"))
}

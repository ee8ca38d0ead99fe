// SPDX-License-Identifier: GPL-2.0-only
//! Random interleavings of worlds that are too large to see all of.

use napi_model::ablation::{StopKeepsMissed, WatchdogSetsMissed};
use napi_model::protocol::{Protocol, V4_10, V4_11, V6_1, V6_1PollThenWatchdog, V7_3};
use napi_model::random::explore;
use napi_model::scenario::{Owner, Scenario, Settings};
use napi_model::verdict::Violation;

/// Three owners and four packets.
const BUSY: Scenario = Scenario {
    owners: &[Owner::BusyPoll { turns: 3 }, Owner::Driver { times: 1 }, Owner::Watchdog],
    packets: 4,
    settings: Settings::GRO,
    ..Scenario::INTERRUPT
};

/// Interrupts are deferred, a timer polls meanwhile, and the busy poller prefers it so.
const DEFERRED: Scenario = Scenario {
    owners: &[Owner::BusyPoll { turns: 2 }, Owner::BusyPoll { turns: 2 }],
    packets: 4,
    settings: Settings {
        gro_held: true,
        gro_flush_timeout: true,
        defer_hard_irqs: 1,
        prefer_busy_poll: true,
    },
    ..Scenario::INTERRUPT
};

const SEED: u64 = 7;

fn finds_nothing<P: Protocol>(scenario: &Scenario, queues: usize, iterations: u64) {
    let explored = explore::<P>(scenario, queues, SEED, iterations);
    explored.outcome.assert_sound();
    assert_eq!(explored.broken_seed, None);
    assert_eq!(explored.outcome.tally.executions, iterations * queues as u64);
}

#[test]
fn pre_fix_loses_and_the_seed_shows_it_again() {
    let explored = explore::<V4_10>(&BUSY, 2, SEED, 2_000);
    let seed = explored
        .broken_seed
        .unwrap_or_else(|| panic!("nothing was lost: {}", explored.outcome.report()));
    assert_eq!(explored.outcome.tally.violations, [Violation::Lost]);
    let (again, once_more) =
        (explore::<V4_10>(&BUSY, 2, seed, 1), explore::<V4_10>(&BUSY, 2, seed, 1));
    assert_eq!(again.broken_seed, Some(seed));
    assert_eq!(again.outcome.tally.worst, once_more.outcome.tally.worst);
}

#[test]
fn with_the_fix_nothing_is_lost() {
    finds_nothing::<V4_11>(&BUSY, 2, 5_000);
    finds_nothing::<V6_1>(&BUSY, 2, 5_000);
    finds_nothing::<V7_3>(&BUSY, 2, 5_000);
}

/// Two owners and one interrupt: too much for every interleaving, so `loom.rs` has them without the
/// interrupt.
#[test]
fn two_owners_and_an_interrupt_lose_nothing_but_before_the_fix() {
    for owners in [
        &[Owner::BusyPoll { turns: 1 }, Owner::Driver { times: 1 }],
        &[Owner::BusyPoll { turns: 1 }, Owner::Watchdog],
        &[Owner::BusyPoll { turns: 1 }, Owner::BusyPoll { turns: 1 }],
    ] {
        let scenario = Scenario { owners, waiting: 0, packets: 1, ..BUSY };
        let before = explore::<V4_10>(&scenario, 1, SEED, 5_000).outcome;
        assert_eq!(before.tally.violations, [Violation::Lost], "{}", before.report());
        finds_nothing::<V4_11>(&scenario, 1, 5_000);
        finds_nothing::<V6_1>(&scenario, 1, 5_000);
        finds_nothing::<WatchdogSetsMissed>(&scenario, 1, 5_000);
        finds_nothing::<StopKeepsMissed>(&scenario, 1, 5_000);
    }
}

#[test]
fn with_small_budgets_nothing_is_lost() {
    let scenario = Scenario { weight: 4, packets: 6, ..BUSY };
    finds_nothing::<V4_11>(&scenario, 1, 5_000);
    finds_nothing::<V6_1>(&scenario, 1, 5_000);
}

#[test]
fn with_deferred_interrupts_and_a_preferred_busy_poll_nothing_is_lost() {
    finds_nothing::<V6_1>(&DEFERRED, 1, 5_000);
    finds_nothing::<V6_1PollThenWatchdog>(&DEFERRED, 1, 5_000);
    finds_nothing::<V7_3>(&DEFERRED, 1, 5_000);
}

/// 6.1 and 6.12 start the watchdog before the last poll, and when that uses up its budget give
/// `SCHED` up and leave the rest to the watchdog, which may have come and gone by then. 7.3 starts
/// it when `SCHED` is clear.
#[test]
fn with_deferred_interrupts_and_small_budgets_packets_are_left_until_7_3() {
    let scenario = Scenario { weight: 8, ..DEFERRED };
    let explored = explore::<V6_1>(&scenario, 1, SEED, 5_000);
    assert!(
        explored.outcome.tally.violations.contains(&Violation::Lost),
        "{}",
        explored.outcome.report()
    );
    finds_nothing::<V6_1PollThenWatchdog>(&scenario, 1, 5_000);
    finds_nothing::<V7_3>(&scenario, 1, 5_000);
}

#[test]
fn down_and_up_again_among_all_others_nothing_is_lost() {
    let owners = &[
        Owner::Disable { reopen: true },
        Owner::BusyPoll { turns: 2 },
        Owner::Driver { times: 1 },
        Owner::Watchdog,
    ];
    let scenario = Scenario { owners, packets: 3, ..BUSY };
    finds_nothing::<V6_1>(&scenario, 1, 5_000);
    finds_nothing::<V6_1PollThenWatchdog>(&scenario, 1, 5_000);
    finds_nothing::<V7_3>(&scenario, 1, 5_000);
}

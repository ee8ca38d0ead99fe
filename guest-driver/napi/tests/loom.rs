// SPDX-License-Identifier: GPL-2.0-only
//! Every interleaving of the protocol with the device and its interrupt, for every kind of owner.
//!
//! Each test is one small model, explored to the end: [`Outcome::assert_complete`] fails when it
//! was not. What the models leave out is in `docs/napi-ablation.md`.

use napi_model::exhaust::{Outcome, exhaust};
use napi_model::protocol::{
    Protocol, V4_10, V4_10PrepOn6_1, V4_11, V6_1, V6_1PollThenWatchdog, V7_3,
};
use napi_model::scenario::{Owner, Scenario, Settings};
use napi_model::trace::{Event, Who};
use napi_model::verdict::Violation;

/// The protocol loses a packet in the way that the changelog of the fix describes, and breaks
/// nothing else.
fn loses_as_in_the_changelog<P: Protocol>(scenario: &Scenario) {
    let outcome = exhaust::<P>(scenario);
    outcome.assert_complete();
    assert_eq!(outcome.tally.violations, [Violation::Lost], "{}", outcome.report());
    assert!(
        outcome.tally.broken < outcome.tally.executions,
        "not every interleaving loses: {}",
        outcome.report()
    );
    let worst = outcome.tally.worst.as_ref().expect("there was a violation");
    let sched = P::BITS.sched_mask();
    let waiting = scenario.waiting;
    let owner = |wanted: fn(Event) -> bool| move |who, event| who == Who::Owner(0) && wanted(event);
    let word = move |who: Who, change: fn(bool, bool) -> bool| {
        move |by, event| match event {
            Event::Word { before, after, .. } => {
                by == who && change(before & sched != 0, after & sched != 0)
            }
            _ => false,
        }
    };
    let steps: [&dyn Fn(Who, Event) -> bool; 8] = [
        &word(Who::Owner(0), |before, after| !before && after),
        &move |who, event| {
            waiting == 0
                || who == Who::Owner(0)
                    && event == Event::Consumed { packets: waiting, ci: waiting }
        },
        &owner(|event| event == Event::Empty),
        &move |_, event| event == Event::Published(waiting + 1),
        &move |_, event| matches!(event, Event::Raised { signaled, .. } if signaled == waiting + 1),
        &|who, event| who == Who::Interrupt(0) && event == Event::Handled { taken: false },
        &word(Who::Owner(0), |before, after| before && !after),
        &move |who, event| {
            who == Who::Owner(0) && event == Event::Armed { ci: Some(waiting), irq_seen: None }
        },
    ];
    if let Err(step) = worst.in_order(&steps) {
        panic!("step {step} of the changelog's interleaving is not in it: {}", outcome.report());
    }
    let looks_after =
        worst.events.iter().skip_while(|(_, event)| *event != Event::Published(waiting + 1));
    assert_eq!(
        looks_after.filter(|(_, event)| *event == Event::Empty).count(),
        0,
        "{}",
        outcome.report()
    );
    println!("{}", outcome.report());
}

/// Nothing goes wrong in any execution, and there are enough of them for a model with that many
/// threads.
fn is_sound<P: Protocol>(scenario: &Scenario) -> Outcome {
    let outcome = exhaust::<P>(scenario);
    println!("{}", outcome.report());
    outcome.assert_sound();
    outcome
}

mod v4_10 {
    use super::*;

    #[test]
    fn an_interrupt_after_a_busy_pollers_last_look_is_lost() {
        loses_as_in_the_changelog::<V4_10>(&Scenario::BUSY_POLL);
    }

    /// What the experiments run.
    #[test]
    fn and_on_6_1_with_the_old_prep_too() {
        loses_as_in_the_changelog::<V4_10PrepOn6_1>(&Scenario::BUSY_POLL);
    }

    #[test]
    fn an_interrupt_after_the_watchdogs_last_look_is_lost() {
        loses_as_in_the_changelog::<V4_10>(&Scenario::WATCHDOG);
    }

    #[test]
    fn an_interrupt_after_the_drivers_own_last_look_is_lost() {
        loses_as_in_the_changelog::<V4_10>(&Scenario::DRIVER);
    }

    /// Why the race was rare: the device does not interrupt again before it is armed, and it is
    /// armed after `SCHED` is clear.
    #[test]
    fn a_poll_that_the_interrupt_started_is_immune() {
        is_sound::<V4_10>(&Scenario { packets: 3, waiting: 0, ..Scenario::INTERRUPT });
    }
}

mod v4_11 {
    use super::*;

    #[test]
    fn an_interrupt_during_a_busy_poll_is_not_lost() {
        is_sound::<V4_11>(&Scenario::BUSY_POLL);
        is_sound::<V6_1>(&Scenario::BUSY_POLL);
        is_sound::<V7_3>(&Scenario::BUSY_POLL);
    }

    #[test]
    fn an_interrupt_during_the_watchdogs_poll_is_not_lost() {
        is_sound::<V4_11>(&Scenario::WATCHDOG);
        is_sound::<V6_1>(&Scenario::WATCHDOG);
    }

    #[test]
    fn an_interrupt_during_the_drivers_own_poll_is_not_lost() {
        is_sound::<V4_11>(&Scenario::DRIVER);
        is_sound::<V6_1>(&Scenario::DRIVER);
    }

    #[test]
    fn interrupts_alone_lose_nothing() {
        is_sound::<V4_11>(&Scenario { packets: 3, waiting: 0, ..Scenario::INTERRUPT });
        is_sound::<V6_1>(&Scenario { packets: 3, waiting: 0, ..Scenario::INTERRUPT });
    }

    /// The second leaves `MISSED` to the first, and may not join the poll that it brings about when
    /// it comes again.
    #[test]
    fn the_poll_that_missed_brings_about_is_alone_in_the_ring() {
        let owners = &[Owner::Driver { times: 1 }, Owner::Driver { times: 2 }];
        let scenario = Scenario { owners, waiting: 1, packets: 0, ..Scenario::INTERRUPT };
        is_sound::<V4_11>(&scenario);
        is_sound::<V6_1>(&scenario);
    }

    /// No two at a time, and none leaves `SCHED` behind. Nothing can be lost here, for there is no
    /// interrupt: with one, the search does not come to an end, so that is tried at random
    /// (`random.rs`).
    #[test]
    fn owners_take_turns() {
        for owners in [
            &[Owner::BusyPoll { turns: 1 }, Owner::Driver { times: 1 }],
            &[Owner::BusyPoll { turns: 1 }, Owner::Watchdog],
            &[Owner::BusyPoll { turns: 1 }, Owner::BusyPoll { turns: 1 }],
        ] {
            let scenario = Scenario {
                owners,
                waiting: 1,
                packets: 0,
                settings: Settings::GRO,
                ..Scenario::INTERRUPT
            };
            is_sound::<V4_11>(&scenario);
            is_sound::<V6_1>(&scenario);
        }
    }
}

/// A budget is one packet here.
mod budget {
    use super::*;

    #[test]
    fn a_poll_that_used_it_up_is_followed_by_another() {
        is_sound::<V4_11>(&Scenario { weight: 8, ..Scenario::DRIVER });
        is_sound::<V6_1>(&Scenario { weight: 8, ..Scenario::DRIVER });
    }

    #[test]
    fn a_last_busy_poll_that_used_it_up_is_followed_by_another() {
        is_sound::<V4_11>(&Scenario { weight: 8, ..Scenario::BUSY_POLL });
        is_sound::<V6_1>(&Scenario { weight: 8, ..Scenario::BUSY_POLL });
        is_sound::<V7_3>(&Scenario { weight: 8, ..Scenario::BUSY_POLL });
    }

    /// Nothing of this changed: what 4.10.0 loses it loses to the interrupt alone.
    #[test]
    fn without_an_interrupt_v4_10_follows_up_too() {
        is_sound::<V4_10>(&Scenario { weight: 8, packets: 0, ..Scenario::BUSY_POLL });
    }
}

mod disable {
    use super::*;

    const DOWN: Owner = Owner::Disable { reopen: false };

    #[test]
    fn returns_beside_an_interrupt() {
        let scenario = Scenario { owners: &[DOWN], ..Scenario::INTERRUPT };
        is_sound::<V4_10>(&scenario);
        is_sound::<V4_11>(&scenario);
        is_sound::<V6_1>(&scenario);
    }

    /// A poll that uses up its budget while a disable is pending completes all the same.
    #[test]
    fn returns_beside_a_poll_that_never_empties_the_ring() {
        let scenario = Scenario {
            owners: &[DOWN, Owner::Driver { times: 1 }],
            waiting: 2,
            packets: 0,
            weight: 8,
            ..Scenario::INTERRUPT
        };
        is_sound::<V4_10>(&scenario);
        is_sound::<V4_11>(&scenario);
        is_sound::<V6_1>(&scenario);
    }

    #[test]
    fn returns_beside_a_busy_poller() {
        let owners = &[DOWN, Owner::BusyPoll { turns: 1 }];
        let scenario = Scenario { owners, waiting: 0, packets: 0, ..Scenario::INTERRUPT };
        is_sound::<V4_10>(&scenario);
        is_sound::<V4_11>(&scenario);
        is_sound::<V6_1>(&scenario);
    }

    #[test]
    fn and_enable_lose_nothing_when_the_driver_schedules_after_it() {
        is_sound::<V6_1>(&Scenario::REOPEN);
    }

    /// 4.10.0 and 4.11 clear `SCHED` and `NPSVC` one after the other. An interrupt in between takes
    /// the instance, and its poll cannot complete, since `NPSVC` is set: `SCHED` stays with nobody.
    /// 6.1 clears both in one transaction.
    #[test]
    fn and_an_enable_in_two_steps_leave_sched_without_an_owner() {
        fn orphans<P: Protocol>() {
            let outcome = exhaust::<P>(&Scenario::REOPEN);
            println!("{}", outcome.report());
            outcome.assert_complete();
            assert!(
                outcome.tally.violations.contains(&Violation::OwnedByNobody),
                "{}",
                outcome.report()
            );
        }
        orphans::<V4_10>();
        orphans::<V4_11>();
    }
}

/// Interrupts are deferred, the watchdog polls meanwhile, and the busy poller prefers it so.
mod deferred {
    use napi_model::table::PREFERRED;

    use super::*;

    #[test]
    fn the_watchdog_takes_over_from_a_busy_poller() {
        is_sound::<V6_1>(&Scenario { weight: 1, ..PREFERRED });
        is_sound::<V6_1PollThenWatchdog>(&Scenario { weight: 1, ..PREFERRED });
        is_sound::<V7_3>(&Scenario { weight: 1, ..PREFERRED });
    }

    #[test]
    fn a_watchdog_that_came_during_the_last_poll_leaves_packets_behind_until_58e2330bd455() {
        let outcome = exhaust::<V6_1>(&PREFERRED);
        println!("{}", outcome.report());
        outcome.assert_complete();
        assert_eq!(outcome.tally.violations, [Violation::Lost], "{}", outcome.report());
        is_sound::<V6_1PollThenWatchdog>(&PREFERRED);
        is_sound::<V7_3>(&PREFERRED);
    }
}

/// A search that ends early is no proof.
#[test]
#[should_panic(expected = "not every execution was seen")]
fn an_exploration_cut_short_is_a_failure() {
    exhaust::<V4_11>(&Scenario { owners: &[Owner::Driver { times: 1 }; 6], ..Scenario::INTERRUPT })
        .assert_sound();
}

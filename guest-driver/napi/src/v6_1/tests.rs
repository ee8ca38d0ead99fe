// SPDX-License-Identifier: GPL-2.0-only

use std::vec::Vec;

use super::DeferredStop::{PollThenWatchdog, WatchdogOnly, WatchdogThenPoll};
use super::*;
use crate::table::{Asked, Bench, Value, check, on_bench};

const BITS: Bits = Bits::LINUX_6_1;

/// What every completion clears.
fn given_back(before: Value) -> Value {
    before
        .without(Bits::missed_mask)
        .without(Bits::sched_threaded_mask)
        .without(Bits::prefer_busy_poll_mask)
}

#[test]
fn complete_done_is_its_table() {
    check(BITS, 4, on_bench(|bench| complete_done(bench, 1)), |before| {
        if before.has(Bits::npsvc_mask) {
            Some(("netpoll", (before, (false, Vec::new()))))
        } else if before.has(Bits::in_busy_poll_mask) {
            Some(("busy", (before, (false, Vec::new()))))
        } else if !before.has(Bits::sched_mask) {
            None // It is for the owner only.
        } else if before.has(Bits::missed_mask) {
            Some(("missed", (given_back(before), (false, [Asked::Schedule].to_vec()))))
        } else {
            Some(("done", (given_back(before).without(Bits::sched_mask), (true, Vec::new()))))
        }
    });
}

#[test]
fn the_watchdog_is_started_after_sched_is_cleared_and_not_when_a_poll_follows() {
    let bench =
        Bench { gro_held: true, gro_flush_timeout: true, ..Bench::new(BITS, BITS.sched_mask()) };
    assert!(complete_done(&bench, 1));
    assert_eq!(bench.asked(), [Asked::Flush { only_old: true }, Asked::Watchdog]);
    assert_eq!(bench.word_when_asked.get(), 0);
    let missed = BITS.sched_mask() | BITS.missed_mask();
    let bench = Bench { gro_held: true, gro_flush_timeout: true, ..Bench::new(BITS, missed) };
    assert!(!complete_done(&bench, 1));
    assert_eq!(bench.asked(), [Asked::Flush { only_old: true }, Asked::Schedule]);
}

#[test]
fn deferred_interrupts_stay_silent_for_as_many_completions_as_set() {
    let bench = Bench { gro_flush_timeout: true, defer_hard_irqs: 2, ..Bench::new(BITS, 0) };
    let complete = |work_done| {
        bench.word.set(BITS.sched_mask());
        bench.asked.borrow_mut().clear();
        (complete_done(&bench, work_done), bench.asked(), bench.word.read())
    };
    assert_eq!(complete(1), (false, [Asked::Watchdog].to_vec(), 0));
    assert_eq!(complete(0), (false, [Asked::Watchdog].to_vec(), 0));
    assert_eq!(complete(0), (true, Vec::new(), 0), "the deferrals are used up");
    assert_eq!(complete(1), (false, [Asked::Watchdog].to_vec(), 0), "work fills them up again");
}

#[test]
fn without_a_timeout_nothing_is_deferred() {
    let bench = Bench { defer_hard_irqs: 1, ..Bench::new(BITS, BITS.sched_mask()) };
    assert!(complete_done(&bench, 1));
    assert_eq!((bench.asked(), bench.deferrals.get()), (Vec::new(), 0));
}

#[test]
fn the_watchdog_is_its_table() {
    check(BITS, 2, on_bench(watchdog), |before| {
        Some(if before.has(Bits::disable_mask) || before.has(Bits::sched_mask) {
            ("taken", (before, ((), Vec::new())))
        } else {
            (
                "free",
                (
                    before.with(Bits::sched_mask).without(Bits::prefer_busy_poll_mask),
                    ((), [Asked::Schedule].to_vec()),
                ),
            )
        })
    });
}

#[test]
fn hand_to_thread_is_its_table() {
    check(BITS, 2, hand_to_thread, |before| {
        Some(if before.has(Bits::threaded_mask) {
            ("threaded", (before.with(Bits::sched_threaded_mask), true))
        } else {
            ("softirq", (before, false))
        })
    });
}

#[test]
fn busy_poll_take_is_its_table() {
    for prefer in [false, true] {
        check(
            BITS,
            2,
            |word, bits| busy_poll_take(word, bits, prefer),
            |before| {
                let held = before.has(Bits::disable_mask)
                    || before.has(Bits::sched_mask)
                    || before.has(Bits::in_busy_poll_mask);
                Some(match (held, prefer) {
                    (false, _) => (
                        "free",
                        (before.with(Bits::sched_mask).with(Bits::in_busy_poll_mask), true),
                    ),
                    (true, false) => ("held", (before, false)),
                    (true, true) => ("held", (before.with(Bits::prefer_busy_poll_mask), false)),
                })
            },
        );
    }
}

/// A busy loop's word, with an interrupt that came meanwhile.
const BUSY: usize = BITS.sched_mask() | BITS.in_busy_poll_mask() | BITS.missed_mask();

fn deferring(work: u32) -> Bench {
    Bench { work, gro_flush_timeout: true, defer_hard_irqs: 1, ..Bench::new(BITS, BUSY) }
}

#[test]
fn stopping_a_preferred_busy_loop_starts_the_watchdog_before_the_last_poll() {
    let bench = deferring(0);
    busy_poll_stop(&bench, WatchdogThenPoll, true);
    assert_eq!(bench.asked(), [Asked::Watchdog, Asked::Poll]);
    let bench = deferring(BUSY_POLL_BUDGET);
    busy_poll_stop(&bench, WatchdogThenPoll, true);
    assert_eq!(bench.asked(), [Asked::Watchdog, Asked::Poll, Asked::Flush { only_old: false }]);
    assert_eq!(
        bench.word.read(),
        0,
        "with its budget used up SCHED is dropped: the watchdog will poll"
    );
}

#[test]
fn since_58e2330bd455_the_watchdog_is_started_after_the_last_poll_and_only_if_it_used_its_budget_up()
 {
    let bench = deferring(0);
    busy_poll_stop(&bench, PollThenWatchdog, true);
    assert_eq!(bench.asked(), [Asked::Poll]);
    let bench = deferring(BUSY_POLL_BUDGET);
    busy_poll_stop(&bench, PollThenWatchdog, true);
    assert_eq!(bench.asked(), [Asked::Poll, Asked::Flush { only_old: false }, Asked::Watchdog]);
    assert_eq!(bench.word_when_asked.get(), 0, "the watchdog finds SCHED clear");
}

#[test]
fn stopping_a_preferred_busy_loop_in_7_3_does_not_poll() {
    let bench = deferring(0);
    busy_poll_stop(&bench, WatchdogOnly, true);
    assert_eq!(bench.asked(), [Asked::Flush { only_old: false }, Asked::Watchdog]);
    assert_eq!(bench.word_when_asked.get(), 0);
}

#[test]
fn stopping_any_other_busy_loop_polls_once_more() {
    for form in [WatchdogThenPoll, PollThenWatchdog, WatchdogOnly] {
        for (bench, prefer) in [(deferring(0), false), (Bench::new(BITS, BUSY), true)] {
            busy_poll_stop(&bench, form, prefer);
            assert_eq!(
                (bench.asked(), bench.word.read()),
                ([Asked::Poll].to_vec(), BITS.sched_mask())
            );
        }
        let bench = Bench { work: BUSY_POLL_BUDGET, ..Bench::new(BITS, BUSY) };
        busy_poll_stop(&bench, form, false);
        assert_eq!(bench.asked(), [Asked::Poll, Asked::Schedule]);
    }
}

#[test]
fn disable_takes_sched_and_npsvc_together_and_forgets_the_thread() {
    let others = BITS.npsvc_mask() | BITS.sched_mask();
    let word = others | BITS.threaded_mask() | BITS.prefer_busy_poll_mask();
    let bench = Bench { goes: others, ..Bench::new(BITS, word) };
    disable(&bench);
    assert_eq!(bench.asked(), [Asked::Relax, Asked::CancelWatchdog]);
    assert_eq!(bench.word_when_asked.get(), others | BITS.disable_mask());
    assert_eq!(bench.word.read(), others);
    enable(&bench, true);
    assert_eq!(bench.word.read(), BITS.threaded_mask());
}

#[test]
#[should_panic(expected = "not disabled")]
fn enabling_an_instance_that_is_not_disabled_panics() {
    enable(&Bench::new(BITS, 0), false);
}

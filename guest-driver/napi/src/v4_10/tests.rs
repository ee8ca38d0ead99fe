// SPDX-License-Identifier: GPL-2.0-only

use core::sync::atomic::AtomicUsize;

use super::*;
use crate::table::{Asked, Bench, check, on_bench};

const LAYOUTS: [Bits; 3] = [Bits::LINUX_4_10, Bits::LINUX_4_11, Bits::LINUX_6_1];

#[test]
fn schedule_prep_is_its_table() {
    for bits in LAYOUTS {
        check(bits, 3, schedule_prep, |before| {
            Some(if before.has(Bits::disable_mask) {
                ("disable", (before, false))
            } else if before.has(Bits::sched_mask) {
                ("owned", (before, false))
            } else {
                ("free", (before.with(Bits::sched_mask), true))
            })
        });
    }
}

#[test]
fn the_bit_numbers_are_the_callers() {
    // 4.11's MISSED is where 4.10.0 had DISABLE: a hardcoded number would refuse here.
    let word = AtomicUsize::new(0b10);
    assert!(schedule_prep(&word, Bits::for_v4_10_prep(0, 2)));
    let word = AtomicUsize::new(0b10);
    assert!(!schedule_prep(&word, Bits::for_v4_10_prep(0, 1)));
    let word = AtomicUsize::new(0);
    assert!(schedule_prep(&word, Bits::for_v4_10_prep(5, 7)));
    assert_eq!(word.into_inner(), 1 << 5);
}

#[test]
fn complete_done_is_its_table() {
    check(Bits::LINUX_4_10, 3, on_bench(|bench| complete_done(bench, 1)), |before| {
        let nothing = std::vec::Vec::new();
        if before.has(Bits::npsvc_mask) {
            Some(("netpoll", (before, (false, nothing))))
        } else if before.has(Bits::in_busy_poll_mask) {
            Some(("busy", (before, (false, nothing))))
        } else {
            // It is for the owner only.
            before
                .has(Bits::sched_mask)
                .then_some(("done", (before.without(Bits::sched_mask), (true, nothing))))
        }
    });
}

#[test]
fn the_watchdog_is_started_before_sched_is_cleared() {
    let bits = Bits::LINUX_4_10;
    let bench =
        Bench { gro_held: true, gro_flush_timeout: true, ..Bench::new(bits, bits.sched_mask()) };
    assert!(complete_done(&bench, 1));
    assert_eq!(bench.asked(), [Asked::Watchdog]);
    assert_ne!(bench.word_when_asked.get() & bits.sched_mask(), 0);
}

#[test]
fn gro_is_flushed_when_nothing_was_done_or_there_is_no_timeout() {
    let bits = Bits::LINUX_4_10;
    for (work_done, timeout) in [(0, true), (1, false)] {
        let bench = Bench {
            gro_held: true,
            gro_flush_timeout: timeout,
            ..Bench::new(bits, bits.sched_mask())
        };
        assert!(complete_done(&bench, work_done));
        assert_eq!(bench.asked(), [Asked::Flush { only_old: false }], "{work_done} {timeout}");
    }
}

#[test]
fn the_watchdog_takes_a_free_context_only_for_gro() {
    let bits = Bits::LINUX_4_10;
    for (held, word, asked) in
        [(true, 0, 1), (false, 0, 0), (true, bits.sched_mask(), 0), (true, bits.disable_mask(), 0)]
    {
        let bench = Bench { gro_held: held, ..Bench::new(bits, word) };
        watchdog(&bench);
        assert_eq!(bench.asked().len(), asked, "{held} {word:#x}");
    }
}

#[test]
fn a_busy_loop_polls_at_least_once_and_once_more_to_stop() {
    let bits = Bits::LINUX_4_10;
    let bench = Bench::new(bits, 0);
    busy_poll(&bench, || true);
    assert_eq!(bench.asked(), [Asked::Poll, Asked::Poll]);
    // This poll completes nothing, so SCHED is left; IN_BUSY_POLL is not.
    assert_eq!(bench.word.read(), bits.sched_mask());
}

#[test]
fn a_busy_loop_that_never_gets_the_context_leaves_it_alone() {
    let bits = Bits::LINUX_4_10;
    for word in [bits.sched_mask(), bits.disable_mask(), bits.in_busy_poll_mask()] {
        let bench = Bench::new(bits, word);
        let mut turns = 0;
        busy_poll(&bench, || {
            turns += 1;
            turns == 3
        });
        assert_eq!((bench.word.read(), bench.asked()), (word, [Asked::Relax; 2].to_vec()));
    }
}

#[test]
fn a_last_poll_that_used_its_budget_up_is_scheduled_again() {
    let bits = Bits::LINUX_4_10;
    let bench =
        Bench { work: 100, ..Bench::new(bits, bits.sched_mask() | bits.in_busy_poll_mask()) };
    busy_poll_stop(&bench);
    assert_eq!(bench.asked(), [Asked::Poll, Asked::Schedule]);
    assert_eq!(bench.word.read(), bits.sched_mask());
}

#[test]
fn disable_waits_for_the_owner_and_keeps_the_context() {
    let bits = Bits::LINUX_4_10;
    let bench = Bench { goes: bits.sched_mask(), ..Bench::new(bits, bits.sched_mask()) };
    disable(&bench);
    assert_eq!(bench.asked(), [Asked::Relax, Asked::CancelWatchdog]);
    assert_ne!(bench.word_when_asked.get() & bits.disable_mask(), 0);
    assert_eq!(bench.word.read(), bits.sched_mask() | bits.npsvc_mask());
    enable(&bench);
    assert_eq!(bench.word.read(), 0);
}

#[test]
#[should_panic(expected = "not disabled")]
fn enabling_a_context_that_is_not_disabled_panics() {
    enable(&Bench::new(Bits::LINUX_4_10, 0));
}

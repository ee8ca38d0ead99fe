// SPDX-License-Identifier: GPL-2.0-only

use std::vec::Vec;

use super::*;
use crate::table::{Asked, Bench, check, on_bench};

const LAYOUTS: [Bits; 2] = [Bits::LINUX_4_11, Bits::LINUX_6_1];

#[test]
fn schedule_prep_is_its_table() {
    for bits in LAYOUTS {
        check(bits, 3, schedule_prep, |before| {
            Some(if before.has(Bits::disable_mask) {
                ("disable", (before, false))
            } else if before.has(Bits::sched_mask) {
                ("owned", (before.with(Bits::missed_mask), false))
            } else {
                ("free", (before.with(Bits::sched_mask), true))
            })
        });
    }
}

#[test]
fn if_scheduled_mark_missed_is_its_table() {
    for bits in LAYOUTS {
        check(bits, 3, if_scheduled_mark_missed, |before| {
            Some(if before.has(Bits::disable_mask) {
                ("disable", (before, true))
            } else if before.has(Bits::sched_mask) {
                ("owned", (before.with(Bits::missed_mask), true))
            } else {
                ("free", (before, false))
            })
        });
    }
}

#[test]
fn complete_done_is_its_table() {
    check(Bits::LINUX_4_11, 4, on_bench(|bench| complete_done(bench, 1)), |before| {
        if before.has(Bits::npsvc_mask) {
            Some(("netpoll", (before, (false, Vec::new()))))
        } else if before.has(Bits::in_busy_poll_mask) {
            Some(("busy", (before, (false, Vec::new()))))
        } else if !before.has(Bits::sched_mask) {
            None // It is for the owner only.
        } else if before.has(Bits::missed_mask) {
            Some((
                "missed",
                (before.without(Bits::missed_mask), (false, [Asked::Schedule].to_vec())),
            ))
        } else {
            Some(("done", (before.without(Bits::sched_mask), (true, Vec::new()))))
        }
    });
}

#[test]
fn the_watchdog_never_sets_missed() {
    let bits = Bits::LINUX_4_11;
    for (held, word, after, asked) in [
        (true, 0, bits.sched_mask(), 1),
        (false, 0, 0, 0),
        (true, bits.sched_mask(), bits.sched_mask(), 0),
        (true, bits.disable_mask(), bits.disable_mask(), 0),
    ] {
        let bench = Bench { gro_held: held, ..Bench::new(bits, word) };
        watchdog(&bench);
        assert_eq!((bench.word.read(), bench.asked().len()), (after, asked), "{held} {word:#x}");
    }
}

#[test]
fn stopping_a_busy_loop_forgets_missed_before_its_last_poll() {
    let bits = Bits::LINUX_4_11;
    let owned = bits.sched_mask() | bits.in_busy_poll_mask() | bits.missed_mask();
    let bench = Bench::new(bits, owned);
    busy_poll_stop(&bench);
    assert_eq!(
        (bench.asked(), bench.word_when_asked.get()),
        ([Asked::Poll].to_vec(), bits.sched_mask())
    );
    let bench = Bench { work: BUSY_POLL_BUDGET, ..Bench::new(bits, owned) };
    busy_poll_stop(&bench);
    assert_eq!(bench.asked(), [Asked::Poll, Asked::Schedule]);
}

#[test]
fn missed_survives_a_disable_and_costs_a_poll() {
    let bits = Bits::LINUX_4_11;
    let bench = Bench::new(bits, 0);
    disable(&bench);
    assert!(!schedule_prep(&bench.word, bits), "an interrupt while it is disabled");
    enable(&bench);
    assert_eq!(bench.word.read(), bits.missed_mask());
    schedule(&bench);
    assert!(!complete_done(&bench, 0));
    assert!(complete_done(&bench, 0));
    assert_eq!(bench.word.read(), 0);
}

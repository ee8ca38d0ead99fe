// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(ns: u64) -> Instant {
    Instant::from_ns(ns)
}

fn shows(clock: &NicClock, ns: u64) -> u64 {
    clock.read(at(ns)).as_ns()
}

#[test]
fn at_first_it_shows_timer_time() {
    let clock = NicClock::default();
    assert_eq!((shows(&clock, 0), shows(&clock, 5 * SECOND), clock.rate()), (0, 5 * SECOND, 0));
}

#[test]
fn it_is_set_stepped_and_tuned() {
    let mut clock = NicClock::default();
    clock.adjust(Adjustment::Set(NicTime::from_ns(1_000)), at(SECOND)).unwrap();
    assert_eq!((shows(&clock, SECOND), shows(&clock, 2 * SECOND)), (1_000, SECOND + 1_000));
    clock.adjust(Adjustment::Step(-600), at(2 * SECOND)).unwrap();
    assert_eq!(shows(&clock, 2 * SECOND), SECOND + 400);
    // 10 ppm.
    clock.adjust(Adjustment::Rate(10 << 16), at(2 * SECOND)).unwrap();
    assert_eq!(shows(&clock, 3 * SECOND), 2 * SECOND + 400 + 10_000);
    clock.adjust(Adjustment::Rate(-(10 << 16)), at(3 * SECOND)).unwrap();
    assert_eq!(shows(&clock, 4 * SECOND), 3 * SECOND + 400, "what it has gained it keeps");
    assert_eq!(clock.rate(), -(10 << 16));
}

#[test]
fn what_is_out_of_range_changes_nothing() {
    let mut clock = NicClock::default();
    let most = RATE_MAX.cast_signed();
    for rate in [most, -most] {
        clock.adjust(Adjustment::Rate(rate), at(0)).unwrap();
    }
    let before = clock;
    for adjustment in [
        Adjustment::Set(NicTime::from_ns(1 << 63)),
        Adjustment::Set(NicTime::from_ns(u64::MAX)),
        Adjustment::Step(-1),
        Adjustment::Step(i64::MIN),
        Adjustment::Rate(most + 1),
        Adjustment::Rate(-most - 1),
        Adjustment::Rate(i64::MIN),
    ] {
        assert_eq!(clock.adjust(adjustment, at(0)), Err(OutOfRange), "{adjustment:?}");
        assert_eq!(clock, before);
    }
    assert_eq!(clock.adjust(Adjustment::Step(i64::MAX), at(0)), Ok(()));
    assert_eq!(shows(&clock, u64::MAX), i64::MAX as u64, "and there it stays");
}

#[test]
fn parts_in_a_billion_are_kept() {
    for ppb in [0, 1, -1, 999, 100_000_000, -100_000_000] {
        assert_eq!(ppb_of_rate(rate_of_ppb(ppb)), ppb);
    }
    assert_eq!((rate_of_ppb(1_000), rate_of_ppb(-1_000)), (1 << 16, -(1 << 16)));
    for ppb in [i64::MAX, i64::MIN] {
        let adjusted = NicClock::default().adjust(Adjustment::Rate(rate_of_ppb(ppb)), at(0));
        assert_eq!(adjusted, Err(OutOfRange));
    }
}

fn adjustment() -> impl Strategy<Value = Adjustment> {
    prop_oneof![
        any::<u64>().prop_map(|ns| Adjustment::Set(NicTime::from_ns(ns))),
        any::<i64>().prop_map(Adjustment::Step),
        any::<i64>().prop_map(Adjustment::Rate),
        (-10_000_000i64..10_000_000).prop_map(Adjustment::Step),
        (-(RATE_MAX.cast_signed())..=RATE_MAX.cast_signed()).prop_map(Adjustment::Rate),
    ]
}

proptest! {
    /// Between two adjustments it never goes back, nor away from its rate by more than the rounding
    /// of one; and tuning alone moves it by nothing.
    #[test]
    fn it_runs_on_between_adjustments(
        steps in prop::collection::vec((0u64..10 * SECOND, adjustment()), 1..40),
    ) {
        let (mut clock, mut now) = (NicClock::default(), 0u64);
        for (after, adjustment) in steps {
            let before = shows(&clock, now);
            now += after;
            let shown = shows(&clock, now);
            prop_assert!(shown >= before);
            let gained = i128::from(after) * i128::from(clock.rate()) / RATE_UNIT;
            let expected = (i128::from(before) + i128::from(after) + gained).min(LATEST);
            prop_assert!((i128::from(shown) - expected).abs() <= 1);
            let adjusted = clock.adjust(adjustment, at(now));
            let expected = match (adjusted, adjustment) {
                (Ok(()), Adjustment::Set(to)) => to.as_ns(),
                (Ok(()), Adjustment::Step(by)) => shown.wrapping_add_signed(by),
                _ => shown,
            };
            prop_assert_eq!(shows(&clock, now), expected);
        }
    }
}

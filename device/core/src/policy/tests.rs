// SPDX-License-Identifier: Apache-2.0 OR MIT

use alloc::vec::Vec;
use core::time::Duration;

use tsnic_abi::Counter;

use super::Policies;
use super::decision::{Cause, Decision, Hold, Intent, Until};
use super::spec::{Distribution, MAX_COPIES, PolicySpec, Span, check};
use crate::schedule::{ENTRIES_MAX, Entry};
use crate::time::Instant;

const fn span(from_us: u32, to_us: u32) -> Span {
    Span { from_us, to_us }
}

#[test]
fn what_cannot_be_is_named() {
    let arm = PolicySpec::OnProgress { until: Until::Arm, after: span(0, 0), latest_us: 10 };
    let mask_race = PolicySpec::MaskRace { after: span(0, 0), latest_us: 10 };
    let duplicate = PolicySpec::Duplicate { copies: 1, gap_us: 1, per_mille: 1 };
    for (specs, place, field) in [
        (vec![PolicySpec::FixedDelay { delay_us: 0 }], 0, Some("delay_us")),
        (vec![PolicySpec::FixedDelay { delay_us: 10_000_001 }], 0, Some("delay_us")),
        (vec![arm.clone(), PolicySpec::Spurious { gap: span(0, 5) }], 1, Some("from_us")),
        (vec![PolicySpec::Sweep { span: span(5, 4), step_us: 1 }], 0, Some("to_us")),
        (vec![PolicySpec::Drop { per_mille: 1001 }], 0, Some("per_mille")),
        (vec![PolicySpec::Duplicate { copies: 1001, gap_us: 1, per_mille: 1 }], 0, Some("copies")),
        (vec![PolicySpec::Storm { lines: 0, gap_us: 1, every_us: 1 }], 0, Some("lines")),
        (vec![PolicySpec::Storm { lines: 9, gap_us: 0, every_us: 1 }], 0, Some("gap_us")),
        (vec![PolicySpec::Jitter(Distribution::Recorded(vec![]))], 0, Some("recorded_ns")),
        (
            vec![PolicySpec::Jitter(Distribution::Recorded(vec![1, 10_000_000_001]))],
            0,
            Some("recorded_ns"),
        ),
        (vec![arm.clone(), arm.clone()], 1, None),
        (vec![duplicate.clone(), mask_race.clone()], 1, None),
        (vec![mask_race, duplicate], 1, None),
        (vec![PolicySpec::Drop { per_mille: 1 }; 17], 16, None),
        (vec![arm, PolicySpec::Replay(vec![])], 1, None),
    ] {
        let error = check(&specs).expect_err("it cannot be");
        assert_eq!((error.place, error.field), (place, field), "{error}");
        assert!(Policies::new(&specs, 1, Instant::default()).is_err());
    }
}

#[test]
fn only_what_drops_is_not_conformant() {
    assert!(!PolicySpec::Drop { per_mille: 1 }.is_conformant());
    assert!(PolicySpec::FixedDelay { delay_us: 1 }.is_conformant());
}

#[test]
fn a_record_holds_nothing_that_no_policy_could_have_decided() {
    const MOST: Duration = Duration::from_secs(160);
    let more = MOST + Duration::from_nanos(1);
    let decided = |decision| Entry::Decided { intent: 7, decision };
    let holds = |delay| Hold { until: None, delay };
    let waits = |latest| Hold { until: Some((Until::Arm, latest)), delay: Duration::ZERO };
    let (hold, copies_after) = (holds(MOST), waits(MOST));
    let right = Decision { hold, copies: MAX_COPIES, copies_after, ..Decision::default() };
    let spurious = |lines| Entry::Spurious { before: 7, after: Duration::MAX, lines };
    assert_eq!(check(&[PolicySpec::Replay(vec![decided(right), spurious(1_000)])]), Ok(()));
    for wrong in [
        decided(Decision { hold: holds(more), ..right }),
        decided(Decision { hold: waits(more), ..right }),
        decided(Decision { copies_after: holds(Duration::MAX), ..right }),
        decided(Decision { copies: MAX_COPIES + 1, ..right }),
        spurious(1_001),
        spurious(u32::MAX),
    ] {
        let error = check(&[PolicySpec::Replay(vec![spurious(1), wrong])]).expect_err("too much");
        assert_eq!(error.field, Some("schedule"));
        assert!(error.what.contains("ntent 7"), "{error}");
    }
    let entries = |count| PolicySpec::Replay(vec![spurious(1); count]);
    assert_eq!(check(&[entries(ENTRIES_MAX)]), Ok(()));
    assert_eq!(check(&[entries(ENTRIES_MAX + 1)]).expect_err("one more").field, Some("schedule"));
}

/// Whatever was written into a record, the worker has an end.
#[test]
fn a_replay_raises_no_more_at_a_time_than_a_policy_may() {
    let now = Instant::from_ns(5);
    let spurious = |lines| Entry::Spurious { before: 0, after: Duration::ZERO, lines };
    let record = PolicySpec::Replay([700, 700, 0, 3, 1_000].map(spurious).to_vec());
    let mut replay = Policies::new(&[record], 1, now).expect("it can be");
    let raised: Vec<_> =
        core::iter::from_fn(|| replay.due().map(|_| replay.stimuli(now))).collect();
    assert_eq!(raised, [1_000, 1_000, 403]);
    let cause = Cause::Completions;
    let intent = Intent { number: 0, cause, produced: Counter(1), now };
    assert_eq!(replay.decide(&intent), Decision::default());
}

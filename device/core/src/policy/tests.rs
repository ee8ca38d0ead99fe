// SPDX-License-Identifier: Apache-2.0 OR MIT

use alloc::vec::Vec;
use core::time::Duration;

use tsnic_abi::Counter;

use super::Policies;
use super::decision::{Cause, Decision, Hold, Intent, Until};
use super::spec::{Distribution, MAX_COPIES, PolicySpec, Span, check};
use super::window::Window;
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

fn during(after_ms: u32, for_ms: Option<u32>, policy: PolicySpec) -> PolicySpec {
    PolicySpec::During { window: Window { after_ms, for_ms }, policy: policy.into() }
}

fn intent(number: u64, ms: u64) -> Intent {
    let now = Instant::from_ns(ms * 1_000_000);
    Intent { number, cause: Cause::Completions, produced: Counter(1), now }
}

#[test]
fn a_policy_acts_in_its_time_and_not_before_or_after() {
    let now = Instant::from_ns(7_000_000);
    let sweep = PolicySpec::Sweep { span: span(1, 9), step_us: 1 };
    let mut policies = Policies::new(&[during(10, Some(5), sweep)], 1, now).expect("it can be");
    let held = [7, 16, 17, 18, 21, 22, 90].map(|ms| {
        let hold = policies.decide(&intent(ms, ms)).hold;
        hold.delay.as_micros()
    });
    // It has not counted the intents that it was not there for.
    assert_eq!(held, [0, 0, 1, 2, 3, 0, 0]);
}

#[test]
fn interrupts_of_its_own_are_raised_in_its_time_only() {
    let every_ms = PolicySpec::Spurious { gap: span(1_000, 1_000) };
    for (window, first, last) in [((10, Some(5)), 11, 14), ((0, Some(3)), 1, 2)] {
        let spec = during(window.0, window.1, every_ms.clone());
        let mut policies = Policies::new(&[spec], 1, Instant::default()).expect("it can be");
        let mut raised = Vec::new();
        while let Some(due) = policies.due() {
            assert_eq!(policies.stimuli(due), 1);
            raised.push(due.as_ns() / 1_000_000);
        }
        assert_eq!((raised[0], raised[raised.len() - 1]), (first, last));
        // The worker was late, and the time is over.
        let spec = during(window.0, window.1, every_ms.clone());
        let mut policies = Policies::new(&[spec], 1, Instant::default()).expect("it can be");
        assert_eq!(policies.stimuli(Instant::from_ns(90_000_000)), 0);
        assert_eq!(policies.due(), None);
    }
}

#[test]
fn policies_that_exclude_each_other_may_follow_each_other() {
    let arm = PolicySpec::OnProgress { until: Until::Arm, after: span(0, 0), latest_us: 10 };
    let until = |end| during(0, Some(end), arm.clone());
    assert_eq!(check(&[until(5), during(5, None, arm.clone())]), Ok(()));
    assert_eq!(check(&[until(6), during(5, None, arm.clone())]).expect_err("both at 5").place, 1);
    assert_eq!(check(&[arm.clone(), during(5, None, arm.clone())]).expect_err("both").place, 1);
    for (spec, field) in [
        (during(3_600_001, None, arm.clone()), Some("after_ms")),
        (during(0, Some(3_600_001), arm.clone()), Some("for_ms")),
        (during(0, Some(0), arm), Some("for_ms")),
        (during(1, None, PolicySpec::Replay(vec![])), None),
    ] {
        assert_eq!(check(&[spec]).expect_err("it cannot be").field, field);
    }
    let drop = during(0, None, PolicySpec::Drop { per_mille: 1 });
    assert!(!drop.is_conformant());
    let slow = PolicySpec::FixedDelay { delay_us: 10_000_001 };
    assert_eq!(check(&[during(1, None, slow)]).expect_err("long").field, Some("delay_us"));
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

// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::spec::{Distribution, PolicySpec, Span, check};
use super::{Policies, Until};
use crate::time::Instant;

const fn span(from_us: u32, to_us: u32) -> Span {
    Span { from_us, to_us }
}

#[test]
fn what_cannot_be_is_named() {
    let arm = PolicySpec::OnProgress { until: Until::Arm, after: span(0, 0), latest_us: 10 };
    for (specs, place, field) in [
        (vec![PolicySpec::FixedDelay { delay_us: 0 }], 0, Some("delay_us")),
        (vec![PolicySpec::FixedDelay { delay_us: 10_000_001 }], 0, Some("delay_us")),
        (vec![arm.clone(), PolicySpec::Spurious { gap: span(0, 5) }], 1, Some("from_us")),
        (vec![PolicySpec::Sweep { span: span(5, 4), step_us: 1 }], 0, Some("to_us")),
        (vec![PolicySpec::Drop { per_mille: 1001 }], 0, Some("per_mille")),
        (vec![PolicySpec::Duplicate { copies: 1001, gap_us: 1, per_mille: 1 }], 0, Some("copies")),
        (vec![PolicySpec::Storm { lines: 0, gap_us: 1, every_us: 1 }], 0, Some("lines")),
        (vec![PolicySpec::Storm { lines: 9, gap_us: 0, every_us: 1 }], 0, Some("gap_us")),
        (vec![PolicySpec::Jitter(Distribution::Recorded(vec![]))], 0, Some("recorded")),
        (vec![arm.clone(), arm.clone()], 1, None),
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

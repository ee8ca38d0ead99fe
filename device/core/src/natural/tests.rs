// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not to be seen from outside. The run as a whole is tested with the worker:
//! device/tests/worker.

use alloc::vec::Vec;

use super::*;
use crate::fixtures::FLOW;

fn request() -> NaturalSpec {
    NaturalSpec {
        seed: 3,
        trials: 10,
        flow: FLOW,
        burst: 48,
        burst_us: (100, 300),
        straggler_us: (0, 1_000),
        interrupt_us: (0, 400),
        stuck_us: (1_000, 1_000),
        nudges: false,
    }
}

#[test]
fn the_plan_must_make_sense() {
    for (bad, field) in [
        (NaturalSpec { trials: 0, ..request() }, "trials"),
        (NaturalSpec { trials: 100_001, ..request() }, "trials"),
        (NaturalSpec { burst: 0, ..request() }, "burst"),
        (NaturalSpec { burst: 63, ..request() }, "burst"),
        (NaturalSpec { burst_us: (2, 1), ..request() }, "burst_us"),
        (NaturalSpec { straggler_us: (0, 100_001), ..request() }, "straggler_us"),
        (NaturalSpec { interrupt_us: (9, 8), ..request() }, "interrupt_us"),
        (NaturalSpec { stuck_us: (9, 8), ..request() }, "stuck_us"),
    ] {
        let Err(StartError::Field { field: named, .. }) = Natural::new(bad, Instant::default(), 1)
        else {
            panic!()
        };
        assert_eq!(named, field);
    }
}

#[test]
fn what_became_of_earlier_trials_does_not_change_the_offsets() {
    let offsets = |seed, inconclusive: bool| {
        let now = Instant::default();
        let mut run = Natural::new(NaturalSpec { seed, ..request() }, now, 1).expect("in range");
        for _ in 0..9 {
            if inconclusive {
                run.inconclusive("test".into(), now);
            } else {
                run.end_trial(now);
            }
        }
        run.report.trials.iter().map(|trial| trial.offsets).collect::<Vec<_>>()
    };
    assert_eq!(offsets(3, true), offsets(3, false));
    assert_ne!(offsets(3, true), offsets(4, true));
}

// SPDX-License-Identifier: GPL-2.0-only
//! The device's verdict "lost", with and without the `irq_seen` that an arm carries. At random: the
//! accesses to the page are too many for an exhaustive search.

use napi_model::protocol::V4_11;
use napi_model::random::explore;
use napi_model::scenario::{Detector, Owner, Scenario};
use napi_model::verdict::Violation;

/// One packet comes to an empty ring, and the driver takes the instance twice.
const fn judged(detector: Detector) -> Scenario {
    Scenario {
        owners: &[Owner::Driver { times: 2 }],
        waiting: 0,
        detector: Some(detector),
        ..Scenario::INTERRUPT
    }
}

const EXECUTIONS: u64 = 20_000;

#[test]
fn without_irq_seen_a_later_owner_is_taken_for_the_one_that_armed() {
    let outcome = explore::<V4_11>(&judged(Detector::ArmWithoutIrqSeen), 1, 0, EXECUTIONS).outcome;
    outcome.assert_complete();
    assert_eq!(outcome.tally.violations, [Violation::CalledLost], "{}", outcome.report());
    println!("{}", outcome.report());
}

#[test]
fn with_irq_seen_no_owner_that_is_still_to_poll_is_overlooked() {
    let outcome = explore::<V4_11>(&judged(Detector::ArmWithIrqSeen), 1, 0, EXECUTIONS).outcome;
    outcome.assert_sound();
}

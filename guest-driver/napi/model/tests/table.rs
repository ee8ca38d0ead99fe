// SPDX-License-Identifier: GPL-2.0-only
//! `docs/napi-ablation.md` is what the models say today.

use napi_model::exhaust::{Outcome, exhaust};
use napi_model::protocol::V4_10;
use napi_model::scenario::{Machine, Order};
use napi_model::table::{markdown, parts, replace};
use napi_model::verdict::Violation;

#[test]
fn the_page_is_what_the_models_say() {
    let page = include_str!("../../../../docs/napi-ablation.md");
    let parts = parts();
    for row in parts.iter().flat_map(|part| &part.rows) {
        row.outcome.assert_complete();
        // A device that does not judge itself rightly would make every experiment's verdict
        // worthless.
        assert!(
            !row.outcome.tally.violations.contains(&Violation::DeviceWrong),
            "{}",
            row.outcome.report()
        );
    }
    for row in parts
        .iter()
        .flat_map(|part| &part.rows)
        .filter(|row| !row.outcome.tally.violations.is_empty())
    {
        // What breaks only as the machine is weak must not break on one that is not.
        let weak = row.outcome.scenario.machine == Machine::Weak;
        assert_eq!(
            (row.breaks_sequentially)(&row.outcome.scenario),
            !weak,
            "{}: {}",
            row.change,
            row.outcome.report()
        );
    }
    parts[..3]
        .iter()
        .flat_map(|part| &part.rows)
        .for_each(|row| the_fix_makes_it_sound(&row.outcome));
    let now = replace(page, &markdown(&parts)).expect("the page has its marker");
    for (line, (page, now)) in (1..).zip(page.lines().zip(now.lines())) {
        assert_eq!(
            page, now,
            "line {line} of docs/napi-ablation.md: `cargo run --release -p napi-model -- table` writes it anew"
        );
    }
    assert_eq!(page, now);
}

/// A sound row of the fix says something only if the same model breaks without the fix. Two kinds
/// of model never do, and the page says so: the interrupt alone, and a driver that rechecks after
/// arming.
fn the_fix_makes_it_sound(outcome: &Outcome) {
    let scenario = &outcome.scenario;
    let immune = match scenario.order {
        Order::CompleteThenArm => scenario.owners.is_empty(),
        Order::ArmThenComplete { recheck } => recheck,
    };
    if outcome.tally.violations.is_empty() {
        let without = exhaust::<V4_10>(scenario);
        without.assert_complete();
        assert_eq!(
            without.tally.violations.contains(&Violation::Lost),
            !immune,
            "{}",
            without.report()
        );
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! A check on the checker: loom leaves out schedules that it takes to be the same as one it runs.
//! Does it leave out too many?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use napi_model::exhaust::exhaust_with;
use napi_model::protocol::{Protocol, V4_10, V4_11};
use napi_model::random::every_schedule;
use napi_model::scenario::Scenario;
use napi_model::trace::Event;
use napi_model::verdict::Execution;

/// What an execution did to the state word, in order, with who did it, and how it ended: all that
/// executions differ in.
fn history(execution: &Execution) -> String {
    let word = execution.events.iter().filter(|(_, event)| matches!(event, Event::Word { .. }));
    format!("{:?} {:?}", word.collect::<Vec<_>>(), execution.violation)
}

type Histories = BTreeSet<String>;

fn by_loom<P: Protocol>(scenario: Scenario) -> Histories {
    let histories = Arc::new(Mutex::new(Histories::new()));
    let sink = Arc::clone(&histories);
    exhaust_with::<P>(&scenario, move |execution| {
        sink.lock().unwrap().insert(history(execution));
    })
    .assert_complete();
    std::mem::take(&mut histories.lock().unwrap())
}

fn by_all_schedules<P: Protocol>(scenario: Scenario) -> Histories {
    let histories = Arc::new(Mutex::new(Histories::new()));
    let sink = Arc::clone(&histories);
    every_schedule::<P>(scenario, move |execution| {
        sink.lock().unwrap().insert(history(&execution));
    });
    std::mem::take(&mut histories.lock().unwrap())
}

const SCENARIOS: [Scenario; 3] = [Scenario::DRIVER, Scenario::WATCHDOG, Scenario::BUSY_POLL];

#[test]
fn what_loom_leaves_out_makes_no_difference() {
    // One checker after the other: each has its own panic hook, and both use panics to unwind.
    let loom = SCENARIOS.map(|scenario| [by_loom::<V4_10>(scenario), by_loom::<V4_11>(scenario)]);
    let all = SCENARIOS
        .map(|scenario| [by_all_schedules::<V4_10>(scenario), by_all_schedules::<V4_11>(scenario)]);
    assert_eq!(loom, all);
    for histories in all.as_flattened() {
        println!("{} histories", histories.len());
        assert!(histories.len() > 3, "{histories:?}");
    }
}

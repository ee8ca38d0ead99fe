// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

pub(super) mod fixture;

/// Compares with the stored text; `TSNIC_BLESS=1` stores what there is now.
fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/tests").join(name);
    if std::env::var_os("TSNIC_BLESS").is_some() {
        std::fs::write(&path, text).expect("the snapshot is writable");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{name} differs (TSNIC_BLESS=1 accepts it):\n{text}");
}

fn report(fixture: fixture::Fixture) -> Report {
    Report::new(fixture.expected, fixture.results, fixture::provenance())
}

#[test]
fn a_pass_as_text() {
    snapshot("pass.txt", &report(fixture::pass()).to_string());
}

#[test]
fn a_failure_as_text() {
    snapshot("fail.txt", &report(fixture::fail()).to_string());
}

#[test]
fn a_run_that_ended_early_as_text() {
    snapshot("no-verdict.txt", &report(fixture::ended_early()).to_string());
}

#[test]
fn a_pass_as_json() {
    snapshot("pass.json", &report(fixture::pass()).to_json());
}

#[test]
fn a_run_that_ended_early_as_json() {
    snapshot("no-verdict.json", &report(fixture::ended_early()).to_json());
}

#[test]
fn text_is_plain_and_at_most_100_columns_wide() {
    for fixture in [fixture::pass(), fixture::fail(), fixture::ended_early()] {
        for line in report(fixture).to_string().lines() {
            assert!(line.len() <= 100, "{} columns: {line}", line.len());
            assert!(
                line.is_ascii() && !line.contains('\x1b') && line.trim_end() == line,
                "{line:?}"
            );
        }
    }
}

#[test]
fn the_verdict_is_the_last_line() {
    let last =
        |fixture| report(fixture).to_string().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(last(fixture::pass()).starts_with("PASS: "));
    assert!(last(fixture::fail()).starts_with("FAIL: "));
    assert!(last(fixture::ended_early()).starts_with("NO VERDICT: "));
}

#[test]
fn json_has_the_promised_fields() {
    let value: serde_json::Value =
        serde_json::from_str(&report(fixture::pass()).to_json()).expect("JSON");
    assert_eq!(value["verdict"], "pass");
    let has = |value: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    has(
        &value["cells"][0],
        &["owner", "vcpus", "mode", "rounds", "lost", "rescued", "inconclusive"],
    );
    has(&value["cells"][0]["delivered_us"], &["p50", "p99", "max"]);
    has(&value["cells"][0]["stuck_ms"], &["p50", "max"]);
    has(&value["cells"][0], &["rounds_per_second"]);
    has(
        &value["natural"][0],
        &["mode", "batch", "trials", "lost", "lost_per_second", "window_us", "interrupt_us"],
    );
    has(
        &value["sweeps"][0]["cells"][0],
        &["straggler_us", "interrupt_us", "trials", "lost", "low", "high"],
    );
    has(&value["rpc"][0], &["mode", "requests", "injected", "over_100ms"]);
    has(&value["rpc"][0]["latency_us"], &["p50", "p99", "max"]);
    has(&value["ablations"][0], &["clause", "vcpus"]);
    has(&value["ablations"][0]["rounds"][0], &["owner", "rounds", "lost", "bent"]);
    has(&value["ablations"][2]["model"], &["row", "verdict", "cost"]);
    has(
        &value["ablations"][2]["traffic"],
        &["blocks", "packets", "lost", "bent", "polls", "empty_polls", "interrupts"],
    );
    has(&value["provenance"], &["commit", "kernel", "qemu", "accelerator", "cpu", "seed"]);
}

#[test]
fn what_was_not_measured_is_null_not_zero() {
    let value: serde_json::Value =
        serde_json::from_str(&report(fixture::ended_early()).to_json()).expect("JSON");
    let missing = value["cells"].as_array().and_then(|cells| cells.last()).expect("a planned cell");
    for key in ["rounds", "lost", "rescued", "inconclusive"] {
        assert!(missing[key].is_null(), "{missing}");
    }
    assert!(missing["delivered_us"]["p50"].is_null() && missing["stuck_ms"]["max"].is_null());
    let clause = &value["ablations"][1];
    assert!(clause["rounds"][0]["lost"].is_null() && clause["traffic"].is_null(), "{clause}");
    let lost_all = &value["cells"][0];
    assert_eq!(lost_all["lost"], 100);
    assert!(lost_all["delivered_us"]["p50"].is_null(), "nothing was delivered: {lost_all}");
}

#[test]
fn an_injected_frame_is_found_among_the_requests_by_its_timestamp() {
    let run = fixture::pass().results.rpc.into_iter().next().expect("a run");
    // One injected frame of the fixture is a retransmission, which no application saw.
    assert_eq!((run.injected.total, run.injected.matched, run.injected.over_100ms), (32, 31, 31));
    assert_eq!(run.over_100ms, 31);
}

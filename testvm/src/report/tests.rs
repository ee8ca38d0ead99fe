// SPDX-License-Identifier: Apache-2.0 OR MIT

use tsnic_protocol::{InjectionReport, Outcome, Round};

use super::*;
use crate::scenario::plan::{Mode, Owner};

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

/// The report with the number of samples in place of each series.
fn without_samples(json: &str) -> String {
    let line = |line: &str| {
        let counted = line.split_once("_ns\": [").and_then(|(name, rest)| {
            let (samples, end) = rest.rsplit_once(']')?;
            let count = samples.split_terminator(',').count();
            Some(format!("{name}_ns\": [{count} samples]{end}\n"))
        });
        counted.unwrap_or_else(|| format!("{line}\n"))
    };
    json.lines().map(line).collect()
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
    snapshot("pass.json", &without_samples(&report(fixture::pass()).to_json()));
}

#[test]
fn a_run_that_ended_early_as_json() {
    snapshot("no-verdict.json", &without_samples(&report(fixture::ended_early()).to_json()));
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

/// The samples of a series, if there is one.
fn samples(series: &serde_json::Value) -> Option<Vec<u64>> {
    series.as_array()?.iter().map(serde_json::Value::as_u64).collect()
}

#[test]
fn a_series_has_as_many_samples_as_the_summary_counts() {
    for fixture in [fixture::pass(), fixture::fail(), fixture::ended_early()] {
        let value: serde_json::Value =
            serde_json::from_str(&report(fixture).to_json()).expect("JSON");
        let rows = |name: &str| value[name].as_array().cloned().expect("rows");
        for (rows, total) in [(rows("cells"), "rounds"), (rows("natural"), "trials")] {
            for row in rows {
                let count = |name: &str| row[name].as_u64();
                let lengths = ["delivered_ns", "stuck_ns"]
                    .map(|name| samples(&row["series"][name]).map(|it| it.len() as u64));
                let delivered = count(total)
                    .zip(count("lost"))
                    .zip(count("rescued").zip(count("inconclusive")))
                    .map(|((total, lost), (rescued, gone))| total - lost - rescued - gone);
                assert_eq!(lengths, [delivered, count("lost")], "{} {}", row["owner"], row["mode"]);
            }
        }
        for row in rows("rpc") {
            let length = samples(&row["latency_ns"]).map(|it| it.len() as u64);
            assert_eq!(length, row["requests"].as_u64(), "{}", row["mode"]);
        }
    }
}

#[test]
fn the_samples_are_those_of_the_rounds_in_their_order() {
    let round = |outcome, delivered_ns, stuck_ns| Round {
        outcome,
        reason: None,
        took_effect: true,
        delivered_ns,
        stuck_ns,
    };
    let rounds = vec![
        round(Outcome::Delivered, Some(30), None),
        round(Outcome::Lost, None, Some(9)),
        round(Outcome::Rescued, None, Some(7)),
        round(Outcome::Delivered, Some(10), None),
        round(Outcome::Lost, None, Some(5)),
        round(Outcome::Delivered, Some(20), None),
    ];
    let report = InjectionReport { rounds, stimuli: 6, elapsed_ns: 1 };
    let cell = Cell::new(Owner::Driver, 1, Mode::V4_10, &report);
    assert_eq!(cell.series.delivered_ns, [30, 10, 20]);
    assert_eq!(cell.series.stuck_ns, [9, 5]);
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
    assert!(missing["series"].is_null() && value["rpc"][0]["latency_ns"].is_null());
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

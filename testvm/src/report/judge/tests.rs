// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::super::tests::fixture::{self, Fixture};
use super::*;
use crate::scenario::plan::Owner;

fn verdict_of(fixture: &Fixture) -> Judgement {
    judge(&fixture.expected, &fixture.results)
}

/// A cell of the fixture.
fn cell(results: &mut Results, owner: Owner, mode: Mode) -> &mut Cell {
    results
        .cells
        .iter_mut()
        .find(|cell| cell.owner == owner && cell.mode == mode)
        .expect("a cell of the plan")
}

fn natural(results: &mut Results, batch: u32, mode: Mode) -> &mut Natural {
    results
        .natural
        .iter_mut()
        .find(|run| (run.batch, run.mode) == (batch, mode))
        .expect("a natural run of the plan")
}

fn rpc(results: &mut Results, mode: Mode) -> &mut RpcRun {
    results
        .rpc
        .iter_mut()
        .find(|run| run.mode == mode && !run.unassisted())
        .expect("an RPC run of the plan")
}

#[test]
fn everything_as_expected_is_a_pass() {
    let judgement = verdict_of(&fixture::pass());
    assert_eq!(judgement, Judgement { verdict: Verdict::Pass, failures: vec![], gaps: vec![] });
}

#[test]
fn a_single_loss_in_a_v4_11_cell_is_a_failure() {
    let mut run = fixture::pass();
    cell(&mut run.results, Owner::Watchdog, Mode::V4_11).lost = 1;
    let judgement = verdict_of(&run);
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(
        judgement.failures,
        ["watchdog, 1 vCPU, v4_11: 1 of 100 packets were lost, none should be"]
    );
}

#[test]
fn a_rescue_in_a_v4_11_cell_was_a_loss() {
    let mut run = fixture::pass();
    cell(&mut run.results, Owner::Driver, Mode::V4_11).rescued = 2;
    assert_eq!(verdict_of(&run).verdict, Verdict::Fail);
}

#[test]
fn losing_cells_lose_95_percent_of_their_conclusive_rounds() {
    for (lost, inconclusive, verdict) in [
        (95, 0, Verdict::Pass),
        (94, 0, Verdict::Fail),
        // 95 conclusive rounds: 91 are 95.8 %, 90 are 94.7 %.
        (91, 5, Verdict::Pass),
        (90, 5, Verdict::Fail),
        (94, 6, Verdict::Undecided),
    ] {
        for mode in [Mode::V4_10, Mode::Livepatch] {
            let mut run = fixture::pass();
            let cell = cell(&mut run.results, Owner::BusyPoll, mode);
            (cell.lost, cell.inconclusive) = (lost, inconclusive);
            let judgement = verdict_of(&run);
            assert_eq!(
                judgement.verdict, verdict,
                "{lost} lost, {inconclusive} inconclusive: {judgement:?}"
            );
        }
    }
}

#[test]
fn too_many_inconclusive_rounds_are_no_verdict_and_say_why() {
    let mut run = fixture::pass();
    let cell = cell(&mut run.results, Owner::BusyPoll, Mode::V4_11);
    cell.inconclusive = 6;
    cell.inconclusive_reasons.insert("no rendezvous in 200 ms".to_owned(), 6);
    let judgement = verdict_of(&run);
    assert_eq!(judgement.verdict, Verdict::Undecided);
    let text =
        "busy-poll, 1 vCPU, v4_11: 6 of 100 rounds were inconclusive (6 x no rendezvous in 200 ms)";
    assert_eq!(judgement.gaps, [text]);
}

#[test]
fn a_v4_11_packet_whose_end_was_not_seen_is_no_verdict() {
    let mut run = fixture::pass();
    let v4_11 = cell(&mut run.results, Owner::BusyPoll, Mode::V4_11);
    (v4_11.inconclusive, v4_11.inconclusive_injected) = (1, 0);
    assert_eq!(
        verdict_of(&run).verdict,
        Verdict::Pass,
        "the injection did not land: a mishap of the set-up"
    );
    cell(&mut run.results, Owner::BusyPoll, Mode::V4_11).inconclusive_injected = 1;
    assert_eq!(verdict_of(&run).verdict, Verdict::Undecided);

    let mut run = fixture::pass();
    natural(&mut run.results, 64, Mode::V4_11).inconclusive = 1;
    assert_eq!(
        verdict_of(&run).gaps,
        ["natural, batch 64, v4_11: the end of 1 of 10000 trials was not seen"]
    );

    let mut run = fixture::pass();
    rpc(&mut run.results, Mode::V4_11).injected.inconclusive = 1;
    assert_eq!(verdict_of(&run).verdict, Verdict::Undecided);
}

#[test]
fn whatever_is_missing_is_no_verdict() {
    type Remove = fn(&mut Results);
    let removals: [(Remove, &str); 6] = [
        (|r| r.cells.truncate(17), "not run: watchdog, 2 vCPUs, v4_11"),
        (|r| r.natural.retain(|run| run.mode.loses()), "not run: natural, batch 64, v4_11"),
        (|r| r.sweeps.truncate(1), "not run: sweep, batch 8, v4_10"),
        (|r| r.rpc.truncate(3), "not run: RPC, v4_11"),
        (|r| r.rpc.retain(|run| !run.unassisted()), "not run: RPC, unassisted, v4_10"),
        (
            |r| *r = Results::default(),
            "not run: driver, 1 vCPU, v4_10; driver, 1 vCPU, livepatch; ",
        ),
    ];
    for (remove, text) in removals {
        let mut run = fixture::pass();
        remove(&mut run.results);
        let judgement = verdict_of(&run);
        assert_eq!(judgement.verdict, Verdict::Undecided, "{text}");
        assert!(judgement.gaps.iter().any(|gap| gap.contains(text)), "{judgement:?}");
    }
}

#[test]
fn less_than_was_asked_for_is_no_verdict() {
    type Reduce = fn(&mut Results);
    let reductions: [Reduce; 3] = [
        |r| {
            let cell = cell(r, Owner::Driver, Mode::V4_10);
            (cell.rounds, cell.lost) = (57, 57);
        },
        |r| natural(r, 64, Mode::V4_11).trials -= 1,
        |r| rpc(r, Mode::V4_11).requests -= 1,
    ];
    for reduce in reductions {
        let mut run = fixture::pass();
        reduce(&mut run.results);
        assert_eq!(verdict_of(&run).verdict, Verdict::Undecided);
    }
}

#[test]
fn a_problem_on_the_way_is_no_verdict() {
    let mut run = fixture::pass();
    run.results.problems.push("The guest hung".to_owned());
    assert_eq!(verdict_of(&run).verdict, Verdict::Undecided);
}

#[test]
fn a_failure_stands_whatever_is_missing() {
    let mut run = fixture::pass();
    run.results.rpc.clear();
    cell(&mut run.results, Owner::Driver, Mode::V4_11).lost = 1;
    let judgement = verdict_of(&run);
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert!(!judgement.gaps.is_empty(), "and what is missing is said as well");
}

#[test]
fn natural_losses_are_a_count_before_the_fix_and_a_failure_after_it() {
    let mut run = fixture::pass();
    for mode in [Mode::V4_10, Mode::Livepatch] {
        natural(&mut run.results, 64, mode).lost = 0;
        assert_eq!(verdict_of(&run).verdict, Verdict::Pass, "nature owes nobody a loss");
    }
    for (batch, lost, rescued, failure) in [
        (64, 1, 0, "natural, batch 64, v4_11: 1 of 10000 packets were lost, none should be"),
        (
            8,
            0,
            2,
            "natural, batch 8, v4_11: 2 of 2000 packets were lost until another poll found them, none should be",
        ),
    ] {
        let mut run = fixture::pass();
        let v4_11 = natural(&mut run.results, batch, Mode::V4_11);
        (v4_11.lost, v4_11.rescued) = (lost, rescued);
        assert_eq!(verdict_of(&run).failures, [failure]);
    }
}

#[test]
fn a_zero_has_power_only_beside_a_loss_at_the_same_offsets() {
    let mut run = fixture::pass();
    assert!(power(&run.results, 64));
    for mode in [Mode::V4_10, Mode::Livepatch] {
        assert!(power(&run.results, 64), "the other mode has lost some");
        natural(&mut run.results, 64, mode).lost = 0;
    }
    natural(&mut run.results, 64, Mode::V4_11).lost = 1;
    natural(&mut run.results, 8, Mode::V4_10).lost = 1;
    assert!(!power(&run.results, 64));
}

#[test]
fn rpc_is_judged_by_the_device_not_by_the_clock() {
    let mut run = fixture::pass();
    // A loaded machine: slow requests, none lost.
    let v4_11 = rpc(&mut run.results, Mode::V4_11);
    (v4_11.over_100ms, v4_11.injected.over_100ms) = (4, 2);
    assert_eq!(verdict_of(&run).verdict, Verdict::Pass);
    rpc(&mut run.results, Mode::V4_11).lost = 1;
    assert_eq!(
        verdict_of(&run).failures,
        ["RPC, v4_11: 1 of 1000 requests were lost, none should be"]
    );
}

#[test]
fn injected_requests_are_lost_before_the_fix() {
    let mut run = fixture::pass();
    rpc(&mut run.results, Mode::V4_10).injected.lost = 20;
    assert_eq!(
        verdict_of(&run).failures,
        ["RPC, v4_10: 20 of 32 injected requests lost their packet, 95 % should"]
    );
}

#[test]
fn no_injections_no_verdict() {
    for mode in [Mode::V4_10, Mode::V4_11] {
        let mut run = fixture::pass();
        let rpc = rpc(&mut run.results, mode);
        (rpc.injected.total, rpc.injected.lost, rpc.not_met) = (0, 0, 30);
        assert_eq!(verdict_of(&run).verdict, Verdict::Undecided, "{mode}");
    }
}

#[test]
fn too_few_injections_no_verdict() {
    let mut run = fixture::pass();
    let v4_11 = rpc(&mut run.results, Mode::V4_11);
    (v4_11.injected.total, v4_11.injected.matched) = (6, 6);
    let judgement = verdict_of(&run);
    let text =
        "RPC, v4_11: only 6 of 6 chosen requests were injected with a result, 30 were aimed at";
    assert_eq!((judgement.verdict, judgement.gaps), (Verdict::Undecided, vec![text.to_owned()]));
}

#[test]
fn timestamps_that_never_match_are_no_verdict() {
    let mut run = fixture::pass();
    rpc(&mut run.results, Mode::V4_10).injected.matched = 0;
    assert_eq!(verdict_of(&run).verdict, Verdict::Undecided);
}

#[test]
fn an_empty_plan_is_no_pass() {
    assert_eq!(judge(&Expected::default(), &Results::default()).verdict, Verdict::Undecided);
}

#[test]
fn a_clause_that_was_not_taken_away_fails_where_the_models_lose_packets() {
    // What a module that bends nothing would bring.
    let mut run = fixture::pass();
    for trials in &mut run.results.ablation.trials {
        (trials.bent, trials.cell.lost) = (0, 0);
    }
    let judgement = verdict_of(&run);
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(judgement.failures.len(), Owner::ALL.len());
    assert_eq!(
        judgement.failures[0],
        "without a clause, complete-ignores-missed, driver: 0 of 100 rounds lost their packet, 95 % should"
    );

    let mut run = fixture::pass();
    for block in &mut run.results.ablation.blocks {
        block.tally.bent = 0;
    }
    let judgement = verdict_of(&run);
    assert_eq!((judgement.verdict, judgement.gaps.len()), (Verdict::Undecided, 2));
    assert_eq!(
        judgement.gaps[0],
        "without a clause, stop-keeps-missed, traffic: MISSED was never another than with the clause: no power"
    );
}

#[test]
fn a_loss_where_the_models_lose_nothing_is_a_failure() {
    for clause in [Clause::None, Clause::StopKeepsMissed, Clause::WatchdogSetsMissed] {
        let mut run = fixture::pass();
        let rounds = run.results.ablation.trials.iter_mut().find(|it| it.clause == clause);
        rounds.expect("rounds").cell.lost = 1;
        assert_eq!(verdict_of(&run).verdict, Verdict::Fail, "{clause}");
    }
}

#[test]
fn a_clause_that_was_not_run_is_missing() {
    let mut run = fixture::pass();
    run.results.ablation.trials.pop();
    run.results.ablation.blocks.retain(|block| block.clause != Clause::None);
    assert_eq!(
        verdict_of(&run).gaps,
        ["not run: without a clause, watchdog-sets-missed, watchdog; \
             without a clause, none, traffic"]
    );
    let mut run = fixture::pass();
    run.results.ablation.blocks.pop();
    assert_eq!(
        verdict_of(&run).gaps,
        ["without a clause, watchdog-sets-missed, traffic: 9 blocks of 10 were run"]
    );
}

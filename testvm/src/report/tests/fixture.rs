// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plausible results, made from what the device and the client would have reported.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_protocol::{
    Injected, InjectionReport, MonitorReport, NaturalReport, Offsets, Outcome, Round, Trial, Window,
};

use super::super::*;
use crate::rpc::{HostNs, Latency};
use crate::scenario::clause::Clause;
use crate::scenario::plan::{
    AblationPlan, Boot, Mode, ModePlan, Owner, RpcPlan, Size, SweepPlan, plan,
};

/// A plan and what came of it.
pub(in crate::report) struct Fixture {
    pub expected: Expected,
    pub results: Results,
}

/// A quiet machine, the full run.
pub(in crate::report) fn pass() -> Fixture {
    let boots = plan(Size::full());
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut results = Results::default();
    for boot in &boots {
        for mode in &boot.modes {
            measure(&mut random, boot, mode, &mut results);
        }
    }
    Fixture { expected: Expected::of(&boots, Size::full().rounds), results }
}

/// The fix does not hold in one place, and a cell was not conclusive.
pub(in crate::report) fn fail() -> Fixture {
    let mut fixture = pass();
    let cell = &mut fixture.results.cells[5];
    *cell = Cell::new(
        cell.owner,
        cell.vcpus,
        cell.mode,
        &injection(&mut Pcg64Mcg::seed_from_u64(2), 3, 0),
    );
    let cell = &mut fixture.results.cells[13];
    *cell = Cell::new(
        cell.owner,
        cell.vcpus,
        cell.mode,
        &injection(&mut Pcg64Mcg::seed_from_u64(3), 0, 9),
    );
    fixture
}

/// The second guest hung.
pub(in crate::report) fn ended_early() -> Fixture {
    let mut fixture = pass();
    fixture.results.cells.truncate(11);
    fixture.results.sweeps.clear();
    fixture.results.natural.clear();
    fixture.results.rpc.clear();
    fixture.results.ablation = ablation::Ablation::default();
    fixture
        .results
        .problems
        .push("Boot with 2 vCPUs: the guest agent gave no answer for 30 s".to_owned());
    fixture
}

pub(in crate::report) fn provenance() -> Provenance {
    let some = |text: &str| Some(text.to_owned());
    Provenance {
        commit: some("0123456789ab"),
        kernel: some("6.1.0-56-cloud-amd64"),
        qemu: some("10.0.2"),
        accelerator: some("tcg"),
        cpu: some("AMD EPYC 7B13"),
        seed: 1,
        host_cpus: Some(2),
        host_kernel: some("6.12.95+deb13-amd64"),
        interrupts: some("msix"),
        clocksource: some("tsc"),
    }
}

fn measure(random: &mut Pcg64Mcg, boot: &Boot, plan: &ModePlan, results: &mut Results) {
    let ModePlan { mode, ref owners, ref sweeps, natural: ref runs, ref rpc, ablation } = *plan;
    for &owner in owners {
        let inconclusive =
            u32::from(owner == Owner::Watchdog && boot.vcpus == 1 && mode == Mode::V4_10);
        let lost = if mode.loses() { 100 - inconclusive } else { 0 };
        results.cells.push(Cell::new(
            owner,
            boot.vcpus,
            mode,
            &injection(random, lost, inconclusive),
        ));
    }
    for &SweepPlan { batch, trials } in sweeps {
        let report = natural(random, trials, Aim::SWEEP, batch, mode);
        results.sweeps.push(Sweep::new(mode, boot.vcpus, batch, &report));
    }
    for &plan in runs {
        let aim =
            results.sweeps.iter().find(|it| it.batch == plan.batch).expect("it is first").aim();
        let report = natural(random, plan.trials(mode), aim, plan.batch, mode);
        results.natural.push(Natural::new(mode, boot.vcpus, plan.batch, aim, &report));
    }
    for &rpc in rpc {
        results.rpc.push(rpc_run(random, mode, boot.vcpus, rpc));
    }
    if let Some(plan) = ablation {
        clauses(random, mode, boot.vcpus, plan, results);
    }
}

/// A guest in which each clause that costs something costs some polls.
fn clauses(
    random: &mut Pcg64Mcg,
    mode: Mode,
    vcpus: usize,
    plan: AblationPlan,
    results: &mut Results,
) {
    for owner in Owner::ALL {
        for clause in Clause::ALL {
            let lost = if clause == Clause::CompleteIgnoresMissed { 100 } else { 0 };
            let cell = Cell::new(owner, vcpus, mode, &injection(random, lost, 0));
            results.ablation.trials.push(Trials { clause, bent: lost, cell });
        }
    }
    for _ in 0..plan.blocks {
        for clause in Clause::COSTING {
            let bent = if clause == Clause::None { 0 } else { random.random_range(30..60) };
            let packets = random.random_range(5_500..6_000);
            let empty_polls = random.random_range(100..150) + bent;
            results.ablation.blocks.push(Block {
                clause,
                tally: Tally {
                    packets,
                    interrupts: random.random_range(400..500),
                    polls: empty_polls + random.random_range(400..500),
                    empty_polls,
                    bent,
                    ..Tally::default()
                },
            });
        }
    }
}

fn injection(random: &mut Pcg64Mcg, lost: u32, inconclusive: u32) -> InjectionReport {
    let round = |outcome| Round {
        outcome,
        reason: None,
        took_effect: false,
        delivered_ns: None,
        stuck_ns: None,
    };
    let rounds = (0..100)
        .map(|n| match n {
            n if n < lost => {
                let stuck_ns = Some(random.random_range(20_000_000..60_000_000));
                Round { stuck_ns, ..round(Outcome::Lost) }
            }
            n if n < lost + inconclusive => {
                let reason = Some("the guest did not come to the rendezvous".to_owned());
                Round { reason, ..round(Outcome::Inconclusive) }
            }
            _ => Round { delivered_ns: Some(delivered(random)), ..round(Outcome::Delivered) },
        })
        .collect();
    InjectionReport { rounds, stimuli: 104, elapsed_ns: 450_000_000 }
}

/// A guest whose watchdog polls about 200 us after the burst, for 150 us, and whose stack takes 300
/// us for a large batch.
fn natural(random: &mut Pcg64Mcg, trials: u32, aim: Aim, batch: u32, mode: Mode) -> NaturalReport {
    let mut report = NaturalReport::default();
    for _ in 0..trials {
        let mut draw = |(from, to): (u32, u32)| random.random_range(from..=to);
        let (straggler_us, interrupt_us) = (draw(aim.straggler_us), draw(aim.interrupt_us));
        let from_ns = u64::from(draw((330_000, 400_000)));
        let length = if batch > 8 { (200_000, 400_000) } else { (5_000, 30_000) };
        let window = Window { from_ns, to_ns: from_ns + u64::from(draw(length)) };
        let handled_ns = u64::from(draw((50_000, 150_000)));
        let published = u64::from(straggler_us) * 1_000 + u64::from(draw((1_000, 20_000)));
        let raised = u64::from(interrupt_us) * 1_000;
        let arrives = published + raised + handled_ns;
        let owned = published > window.from_ns && arrives < window.to_ns;
        let lost = owned && mode.loses();
        report.lost += u32::from(lost);
        report.elapsed_ns += if lost { 3_000_000 } else { 1_400_000 };
        report.trials.push(Trial {
            offsets: Offsets { burst_us: 300, straggler_us, interrupt_us },
            outcome: if lost { Outcome::Lost } else { Outcome::Delivered },
            reason: None,
            straggler_ns: Some(published),
            interrupt_ns: Some(raised),
            handled_ns: Some(handled_ns),
            owned,
            window: Some(window),
            delivered_ns: (!lost).then_some(handled_ns + 40_000),
            stuck_ns: lost.then(|| u64::from(draw((1_200_000, 2_300_000)))),
        });
    }
    report
}

/// A skewed time around 100 us, ns.
fn delivered(random: &mut Pcg64Mcg) -> u64 {
    (0..8).fold(40_000, |time, _| time * random.random_range(80..160) / 100)
}

fn rpc_run(random: &mut Pcg64Mcg, mode: Mode, vcpus: usize, plan: RpcPlan) -> RpcRun {
    let injected = if plan.inject_per_mille > 0 { 30 } else { 0 };
    let mut watch = MonitorReport { requests: plan.requests, ..MonitorReport::default() };
    let mut latencies = Vec::new();
    for seq in 0..plan.requests {
        let arrived = 1_000_000_000 + u64::from(seq) * 4_000_000;
        let mut latency_ns = delivered(random) * 3 / 2;
        if injected > 0 && seq % (plan.requests / injected) == 7 {
            let outcome = if mode.loses() { Outcome::Lost } else { Outcome::Delivered };
            watch.injected.push(Injected { timestamp_ns: arrived, outcome });
            if mode.loses() {
                watch.lost += 1;
                latency_ns = random.random_range(201_000_000..212_000_000);
            }
        }
        let uncertainty_ns = random.random_range(60_000..80_000);
        let late = latency_ns > 200_000_000;
        // Which of the two retransmits first is a matter of their timers.
        let retransmitted = late && seq % 2 > 0;
        let reply_repeated = late && !retransmitted;
        latencies.push(Latency {
            seq,
            retransmitted,
            reply_repeated,
            arrived: HostNs(arrived),
            latency_ns,
            uncertainty_ns,
        });
    }
    if injected > 0 && mode.loses() {
        // A retransmission, injected in its turn; and a loss by itself.
        watch.injected.push(Injected { timestamp_ns: 3, outcome: Outcome::Lost });
        watch.lost += 2;
        watch.not_met = 1;
    }
    RpcRun::new(mode, vcpus, plan, &latencies, &watch)
}

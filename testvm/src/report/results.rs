// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was measured, counted once.

use std::collections::{BTreeMap, HashMap};

use tsnic_protocol::{InjectionReport, MonitorReport, Outcome};

use super::ablation::Ablation;
use super::buckets::Buckets;

pub use super::distribution::{MedianMax, Quantiles};
use super::expected::CellKey;
use super::natural::{Natural, per_second};
use super::sweep::Sweep;
use crate::rpc::Latency;
use crate::scenario::plan::{Mode, Owner, RpcPlan};

/// A request that took longer than this was late, ns.
const LATE_NS: u64 = 100_000_000;

/// Everything a run measured. What was planned and is not here counts as missing.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Cells of the matrix.
    pub cells: Vec<Cell>,
    /// Sweeps.
    pub sweeps: Vec<Sweep>,
    /// Natural runs.
    pub natural: Vec<Natural>,
    /// RPC runs.
    pub rpc: Vec<RpcRun>,
    /// The protocol with one clause taken away.
    pub ablation: Ablation,
    /// What went wrong on the way, one sentence each: a guest that hung, a module that did not
    /// load. Each one makes the run at best undecided.
    pub problems: Vec<String>,
}

/// One cell of the matrix: rounds at the rendezvous.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Who owned `NAPI_STATE_SCHED`.
    pub owner: Owner,
    /// Virtual CPUs of the guest.
    pub vcpus: usize,
    /// How the interrupt took the NAPI.
    pub mode: Mode,
    /// Rounds run.
    pub rounds: u32,
    /// How many a second.
    pub rounds_per_second: f64,
    /// Of these: the injected packet was lost until the next one.
    pub lost: u32,
    /// It was lost, then found by a poll that no interrupt of the device started.
    pub rescued: u32,
    /// The injection did not come about, or its result was not seen.
    pub inconclusive: u32,
    /// Of these: after the injection took effect.
    pub inconclusive_injected: u32,
    /// Why, and how often.
    pub inconclusive_reasons: BTreeMap<String, u32>,
    /// Stimuli sent, repeats included: how often the guest had to be asked to come to the
    /// rendezvous.
    pub stimuli: u32,
    /// From the packet's timestamp to the arm that covers it, the rendezvous included, of the
    /// packets that were never lost, microseconds.
    pub delivered_us: Quantiles,
    /// How long the lost ones stayed stuck until the next packet, milliseconds.
    pub stuck_ms: MedianMax,
}

impl Cell {
    /// Counts the rounds of a cell.
    #[must_use]
    pub fn new(owner: Owner, vcpus: usize, mode: Mode, report: &InjectionReport) -> Self {
        let rounds = &report.rounds;
        let count = |outcome| count(rounds.iter().filter(|round| round.outcome == outcome));
        let mut inconclusive_reasons = BTreeMap::new();
        for round in rounds.iter().filter(|round| round.outcome == Outcome::Inconclusive) {
            let reason = round.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
            *inconclusive_reasons.entry(reason).or_insert(0) += 1;
        }
        let of = |outcome| rounds.iter().filter(move |round| round.outcome == outcome);
        Self {
            owner,
            vcpus,
            mode,
            rounds: self::count(rounds.iter()),
            rounds_per_second: per_second(self::count(rounds.iter()), report.elapsed_ns),
            lost: count(Outcome::Lost),
            rescued: count(Outcome::Rescued),
            inconclusive: count(Outcome::Inconclusive),
            inconclusive_injected: self::count(
                of(Outcome::Inconclusive).filter(|round| round.took_effect),
            ),
            inconclusive_reasons,
            stimuli: report.stimuli,
            delivered_us: Quantiles::in_us(
                of(Outcome::Delivered).filter_map(|round| round.delivered_ns),
            ),
            stuck_ms: MedianMax::in_ms(of(Outcome::Lost).filter_map(|round| round.stuck_ns)),
        }
    }

    pub(super) fn key(&self) -> CellKey {
        CellKey { owner: self.owner, vcpus: self.vcpus, mode: self.mode }
    }

    /// Rounds with a result.
    #[must_use]
    pub fn conclusive(&self) -> u32 {
        self.rounds - self.inconclusive
    }
}

/// A run of RPCs over real TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcRun {
    /// How the interrupt took the NAPI.
    pub mode: Mode,
    /// Virtual CPUs of the guest.
    pub vcpus: usize,
    /// Of a thousand requests, how many the device was to inject; 0: unassisted.
    pub inject_per_mille: u32,
    /// Requests answered.
    pub requests: u32,
    /// Requests injected at the rendezvous.
    pub injected: Injected,
    /// Requests chosen to be injected, but the guest did not come to the rendezvous in time.
    pub not_met: u32,
    /// Packets lost in the run, injected or not.
    pub lost: u32,
    /// Packets lost, then found by another poll.
    pub rescued: u32,
    /// Requests with a latency of more than 100 ms.
    pub over_100ms: u32,
    /// From the device to the application, of all requests, microseconds.
    pub latency_us: Quantiles,
    /// Half-width of what is known of the guest's clock at each request, microseconds: latencies
    /// are true within this.
    pub uncertainty_us: Quantiles,
    pub(super) buckets: Buckets,
}

/// The injected requests of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Injected {
    /// How many.
    pub total: u32,
    /// By the device: lost until the next packet, which is the peer's retransmission.
    pub lost: u32,
    /// By the device: lost, then found by another poll.
    pub rescued: u32,
    /// By the device: no result.
    pub inconclusive: u32,
    /// Found among the requests by their hardware timestamp. A injected retransmission is not: TCP
    /// throws it away.
    pub matched: u32,
    /// Of the matched: latency of more than 100 ms.
    pub over_100ms: u32,
    /// Of these: the peer's TCP sent them again before they were answered.
    pub retransmitted: u32,
    /// Of these: not so, but the guest's TCP sent the reply before again, which the peer's
    /// acknowledged; that came as the next packet.
    pub reply_repeated: u32,
    /// Latency of the matched, microseconds.
    pub latency_us: Quantiles,
}

impl RpcRun {
    /// Brings together what the client and what the device saw: the same frame has the same
    /// timestamp in both.
    #[must_use]
    pub fn new(
        mode: Mode,
        vcpus: usize,
        plan: RpcPlan,
        latencies: &[Latency],
        watch: &MonitorReport,
    ) -> Self {
        let by_stamp: HashMap<u64, &Latency> = latencies.iter().map(|l| (l.arrived.0, l)).collect();
        let injected: Vec<&Latency> = watch
            .injected
            .iter()
            .filter_map(|injected| by_stamp.get(&injected.timestamp_ns).copied())
            .collect();
        let late_ones = || injected.iter().filter(|latency| latency.latency_ns > LATE_NS);
        let matched: Vec<u64> = injected.iter().map(|latency| latency.latency_ns).collect();
        let outcome =
            |outcome| count(watch.injected.iter().filter(|injected| injected.outcome == outcome));
        let late = |times: &[u64]| count(times.iter().filter(|&&ns| ns > LATE_NS));
        let all: Vec<u64> = latencies.iter().map(|latency| latency.latency_ns).collect();
        Self {
            mode,
            vcpus,
            inject_per_mille: plan.inject_per_mille,
            requests: count(latencies.iter()),
            injected: Injected {
                total: count(watch.injected.iter()),
                lost: outcome(Outcome::Lost),
                rescued: outcome(Outcome::Rescued),
                inconclusive: outcome(Outcome::Inconclusive),
                matched: count(matched.iter()),
                over_100ms: late(&matched),
                retransmitted: count(late_ones().filter(|l| l.retransmitted)),
                reply_repeated: count(late_ones().filter(|l| !l.retransmitted && l.reply_repeated)),
                latency_us: Quantiles::in_us(matched),
            },
            not_met: watch.not_met,
            lost: watch.lost,
            rescued: watch.rescued,
            over_100ms: late(&all),
            latency_us: Quantiles::in_us(all.iter().copied()),
            uncertainty_us: Quantiles::in_us(
                latencies.iter().map(|latency| latency.uncertainty_ns),
            ),
            buckets: Buckets::of(all),
        }
    }

    /// No request was to be injected: losses come by themselves or not at all.
    #[must_use]
    pub fn unassisted(&self) -> bool {
        self.inject_per_mille == 0
    }
}

pub(super) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

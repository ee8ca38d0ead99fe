// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run of RPCs over real TCP: what the client and what the device saw, brought together.

use std::collections::HashMap;

use tsnic_protocol::{MonitorReport, Outcome};

use super::buckets::Buckets;
use super::distribution::{Quantiles, count};
use crate::rpc::Latency;
use crate::scenario::plan::{Mode, RpcPlan};

/// A request that took longer than this was late, ns.
const LATE_NS: u64 = 100_000_000;

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
    /// What that is of, in the order of the requests.
    pub latency_ns: Vec<u64>,
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
            buckets: Buckets::of(all.iter().copied()),
            latency_ns: all,
        }
    }

    /// No request was to be injected: losses come by themselves or not at all.
    #[must_use]
    pub fn unassisted(&self) -> bool {
        self.inject_per_mille == 0
    }
}

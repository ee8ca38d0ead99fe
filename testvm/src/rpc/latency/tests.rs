// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;

use super::super::time::GuestNs;
use super::*;

/// A run made up of known latencies, so that the answer is known.
#[derive(Debug)]
struct Synthetic {
    /// Guest clock minus host clock at host time 0, ns.
    offset: i64,
    /// Guest nanoseconds per host nanosecond, less one, in parts per billion.
    drift_ppb: i64,
    /// Per request: gap before it, way to the device, way to the application, work, way back, all
    /// ns.
    requests: Vec<[u64; 5]>,
}

impl Synthetic {
    fn guest(&self, host: u64) -> GuestNs {
        let drift = i128::from(host) * i128::from(self.drift_ppb) / 1_000_000_000;
        let guest = i128::from(host) + i128::from(self.offset) + drift;
        GuestNs(u64::try_from(guest).expect("a guest clock after its boot"))
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let mut now = 5_000_000_000;
        (0..)
            .zip(&self.requests)
            .map(|(seq, &[gap, to_device, to_application, work, back])| {
                let sent = now + gap;
                let arrived = sent + to_device;
                let received = arrived + to_application;
                let replied = received + work;
                now = replied + back;
                Exchange {
                    seq,
                    retransmitted: false,
                    reply_repeated: false,
                    sent: HostNs(sent),
                    arrived: Some(HostNs(arrived)),
                    received: self.guest(received),
                    replied: self.guest(replied),
                    returned: HostNs(now),
                }
            })
            .collect()
    }
}

/// A request as on a quiet machine, or one that waits 200 ms for its retransmission.
fn request() -> impl Strategy<Value = [u64; 5]> {
    let to_application = prop_oneof![30 => 60_000..2_000_000u64, 1 => 199_000_000..215_000_000u64];
    (0..3_000_000u64, 20_000..200_000u64, to_application, 1_000..50_000u64, 80_000..2_000_000u64)
        .prop_map(|(gap, device, application, work, back)| [gap, device, application, work, back])
}

fn run() -> impl Strategy<Value = Synthetic> {
    // Uptimes from seconds to months on either side; 300 ppm is beyond any crystal, and what TSC
    // calibration leaves.
    (
        -4_000_000_000..4_000_000_000_000_000i64,
        -300_000..300_000i64,
        prop::collection::vec(request(), 1..400),
    )
        .prop_map(|(offset, drift_ppb, requests)| Synthetic { offset, drift_ppb, requests })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_true_latency_is_within_the_uncertainty(run in run()) {
        let found = latencies(&run.exchanges()).expect("plausible times");
        prop_assert_eq!(found.len(), run.requests.len());
        for (latency, request) in found.iter().zip(&run.requests) {
            // A drifting guest clock measures the guest's own part of the time in its own seconds:
            // 300 ppm of it.
            let tolerance = latency.uncertainty_ns + request[2] / 3_000 + 2;
            prop_assert!(latency.latency_ns.abs_diff(request[2]) <= tolerance, "{latency:?} of {request:?}");
        }
    }

    #[test]
    fn neighbours_make_the_uncertainty_of_a_stuck_request_small(mut run in run()) {
        // Stuck in the middle of a run of ordinary requests: by itself it would be uncertain by 100
        // ms.
        let ordinary = [1_000_000, 50_000, 100_000, 5_000, 150_000];
        run.requests = vec![ordinary; 100];
        run.requests[50][2] = 203_000_000;
        let found = latencies(&run.exchanges()).expect("plausible times");
        prop_assert!(found[50].uncertainty_ns < 400_000, "{:?}", found[50]);
        prop_assert!(found[50].latency_ns.abs_diff(203_000_000) < 500_000, "{:?}", found[50]);
    }
}

#[test]
fn with_equal_ways_the_latency_is_exact_but_for_the_drift() {
    let requests = vec![[10_000_000, 30_000, 120_000, 5_000, 120_000]; 100];
    let run = Synthetic { offset: 77, drift_ppb: 50_000, requests };
    for latency in latencies(&run.exchanges()).expect("plausible times") {
        assert!(latency.latency_ns.abs_diff(120_000) < 200, "{latency:?}");
        assert!(latency.uncertainty_ns.abs_diff(120_000) < 200, "{latency:?}");
    }
}

#[test]
fn a_guest_clock_that_is_slewed_during_the_run_still_gives_bounds() {
    let mut exchanges = Synthetic {
        offset: 0,
        drift_ppb: 0,
        requests: vec![[5_000_000, 30_000, 120_000, 5_000, 120_000]; 600],
    }
    .exchanges();
    // 500 ppm faster after the middle, over 1.5 s: no single line fits.
    let middle = exchanges[300].received.0;
    for exchange in &mut exchanges[301..] {
        let extra = (exchange.received.0 - middle) / 2_000;
        exchange.received.0 += extra;
        exchange.replied.0 += extra;
    }
    for latency in latencies(&exchanges).expect("plausible times") {
        assert!(latency.latency_ns.abs_diff(120_000) <= latency.uncertainty_ns, "{latency:?}");
        assert!(latency.uncertainty_ns <= 125_000, "{latency:?}");
    }
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(latencies(&[]), Ok(vec![]));
}

#[test]
fn requests_without_a_hardware_timestamp_are_an_error() {
    let run = Synthetic {
        offset: 0,
        drift_ppb: 0,
        requests: vec![[1_000, 1_000, 1_000, 1_000, 1_000]; 5],
    };
    let mut exchanges = run.exchanges();
    exchanges[2].arrived = None;
    exchanges[4].arrived = None;
    assert_eq!(
        latencies(&exchanges),
        Err(LatencyError::NoTimestamp { seq: 2, missing: 2, total: 5 })
    );
}

#[test]
fn a_timestamp_of_another_time_is_an_error() {
    let run = Synthetic {
        offset: 0,
        drift_ppb: 0,
        requests: vec![[1_000, 1_000, 1_000, 1_000, 1_000]; 5],
    };
    let mut exchanges = run.exchanges();
    exchanges[3].arrived = exchanges[2].arrived;
    assert!(matches!(latencies(&exchanges), Err(LatencyError::ForeignTimestamp { seq: 3, .. })));
}

#[test]
fn a_guest_in_which_more_time_passes_than_outside_is_an_error() {
    let run = Synthetic {
        offset: 0,
        drift_ppb: 0,
        requests: vec![[1_000, 1_000, 1_000, 1_000, 1_000]; 5],
    };
    let mut exchanges = run.exchanges();
    exchanges[1].replied.0 += 1_000_000;
    assert_eq!(latencies(&exchanges), Err(LatencyError::ClockContradiction { seq: 1 }));
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not to be seen from outside. The runs as a whole are tested with the worker:
//! device/tests/worker.

use alloc::vec::Vec;

use tsnic_abi::Counter;

use super::Monitor;
use crate::arming::Interrupts;
use crate::fixtures::stamp;
use crate::progress::Progress;
use crate::run::{Arrival, PageView, Published, StartError};
use crate::rx_irq::RxIrq;
use crate::spec::MonitorSpec;
use crate::time::Instant;

fn monitor(spec: MonitorSpec) -> Result<Monitor, StartError> {
    let irq = RxIrq::new(Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0)));
    let (progress, arrival) = (Progress::default(), Arrival::default());
    Monitor::new(spec, &PageView { generation: 1, irq: &irq, progress, arrival })
}

fn request(inject_per_mille: u32) -> MonitorSpec {
    MonitorSpec { seed: 11, port: 80, inject_per_mille }
}

#[test]
fn the_same_seed_chooses_the_same_requests() {
    let choose = |seed| {
        let mut monitor = monitor(MonitorSpec { seed, ..request(300) }).expect("in range");
        let at = Instant::default();
        (0..50)
            .map(|n| {
                monitor.after = None;
                monitor.request_published(Published { end: Counter(n), at, timestamp: stamp(at) });
                monitor.after.is_some()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(choose(1), choose(1));
    assert_ne!(choose(1), choose(2));
}

#[test]
fn the_plan_must_make_sense() {
    for (bad, field) in
        [(MonitorSpec { port: 0, ..request(1) }, "port"), (request(1001), "inject_per_mille")]
    {
        let Err(StartError::Field { field: named, .. }) = monitor(bad) else { panic!() };
        assert_eq!(named, field);
    }
}

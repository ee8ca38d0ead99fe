// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not to be seen from outside. The runs as a whole are tested with the worker:
//! device/tests/worker.

use core::time::Duration;

use tsnic_abi::Counter;

use super::Random;
use crate::fixtures::{FLOW, bell, stamp};
use crate::moderation::Limits;
use crate::progress::Progress;
use crate::run::{Arrival, Finished, HeldFrames, Observation, PageView, Published, StartError};
use crate::rx_irq::RxIrq;
use crate::spec::RandomSpec;
use crate::time::Instant;

fn request(packets: u32) -> RandomSpec {
    RandomSpec { seed: 3, packets, gap_us: (50, 500), flow: FLOW }
}

#[test]
fn a_driver_that_gives_buffers_back_and_never_arms_ends_the_run() {
    let mut now = Instant::from_ns(1);
    let mut irq = RxIrq::at_registration(Counter(0), 0, Counter(0), Counter(0), Limits::default());
    irq.doorbell(bell(1, 0), &Progress::default(), now);
    let mut random = Random::new(request(100_000), now, 1).expect("in range");
    for _ in 0..100_000 {
        now = now.plus(Duration::from_millis(1));
        let view = PageView {
            generation: 1,
            irq: &irq,
            progress: Progress::default(),
            arrival: Arrival::default(),
        };
        let actions =
            random.step(now, &Observation { page: Some(view), held: HeldFrames::default() });
        if let Some(finished) = actions.finished {
            let Finished::Failed(why) = *finished else { panic!("{finished:?}") };
            assert!(
                why.starts_with("The driver has not armed for 512 packets within 2s: not armed"),
                "{why}"
            );
            return;
        }
        if actions.publish.is_some() {
            irq.published(1, now);
            random.published(Published {
                end: irq.interrupts().produced(),
                at: now,
                timestamp: stamp(now),
            });
            let _ = irq.poll(now);
        }
        assert!(random.open.len() <= 512);
    }
    panic!("it goes on for ever");
}

#[test]
fn the_plan_must_make_sense() {
    for (bad, field) in [
        (request(0), "packets"),
        (request(1_000_001), "packets"),
        (RandomSpec { gap_us: (2, 1), ..request(1) }, "gap_us"),
    ] {
        let Err(StartError::Field { field: named, .. }) = Random::new(bad, Instant::default(), 1)
        else {
            panic!()
        };
        assert_eq!(named, field);
    }
}

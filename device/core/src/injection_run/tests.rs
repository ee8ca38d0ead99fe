// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not to be seen from outside. The runs as a whole are tested with the worker:
//! device/tests/worker.

use core::time::Duration;

use tsnic_abi::{Counter, phase};

use super::{InjectionRun, State};
use crate::arming::Interrupts;
use crate::fixtures::{FLOW, bell, fire, stamp};
use crate::loss::LossState;
use crate::progress::Progress;
use crate::run::{Arrival, Finished, HeldFrames, Observation, PageView, Published, StartError};
use crate::rx_irq::RxIrq;
use crate::spec::{InjectionSpec, Outcome, Stimulus};
use crate::time::Instant;

fn request(rounds: u32) -> InjectionSpec {
    InjectionSpec {
        seed: 7,
        rounds,
        flow: FLOW,
        stimulus: Stimulus::Udp,
        stuck_us: (1_000, 30_000),
    }
}

#[test]
fn the_outcomes_of_earlier_rounds_do_not_change_the_plan() {
    let mut lost = InjectionRun::new(request(3), Instant::default(), 1).expect("in range");
    let mut other = InjectionRun::new(request(3), Instant::default(), 1).expect("in range");
    for _ in 0..2 {
        lost.conclude(Outcome::Lost, None, Some(1), Instant::default());
        other.inconclusive("test".into(), Instant::default());
        assert_eq!(lost.stuck, other.stuck);
    }
}

#[test]
fn the_plan_must_make_sense() {
    for (bad, field) in [
        (request(0), "rounds"),
        (request(100_001), "rounds"),
        (InjectionSpec { stuck_us: (2, 1), ..request(1) }, "stuck_us"),
    ] {
        let Err(StartError::Field { field: named, .. }) =
            InjectionRun::new(bad, Instant::default(), 1)
        else {
            panic!()
        };
        assert_eq!(named, field);
    }
}

#[test]
fn the_detector_has_the_last_word_when_the_next_packet_is_published() {
    let at = Instant::from_ns(1_000_000);
    let progress = |phase| Progress {
        irq_seen: Counter(1),
        irq_owned: Counter(1),
        phase,
        ..Progress::default()
    };
    let idle = progress(phase::IDLE);
    for (covered, seen, outcome) in [
        (false, idle, Outcome::Lost),
        (true, idle, Outcome::Rescued),
        (false, progress(phase::POLL), Outcome::Inconclusive),
    ] {
        let mut irq =
            RxIrq::new(Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0)));
        irq.doorbell(bell(1, 0), &Progress::default(), at);
        irq.published(1);
        assert_eq!(fire(&mut irq), Some(Counter(1)));
        irq.doorbell(bell(2, 0), &idle, at);
        assert_eq!(irq.loss_state(&idle), LossState::Lost);
        let mut injection = InjectionRun::new(request(1), at, 1).expect("in range");
        let packet = Published { end: Counter(1), at, timestamp: stamp(at) };
        injection.state = State::Free {
            packet,
            before: irq.detector().tally(),
            deadline: at.plus(Duration::from_secs(1)),
        };
        // Between the step that asked for the next packet and its publication.
        irq.doorbell(bell(if covered { 3 } else { 2 }, 1), &seen, at);
        irq.due(&seen);
        irq.published(1);
        irq.doorbell(bell(4, 2), &idle, at);
        let page =
            PageView { generation: 1, irq: &irq, progress: idle, arrival: Arrival::default() };
        let seen = Observation { page: Some(page), held: HeldFrames::default() };
        let actions = injection.step(at, &seen, None);
        let Some(Finished::Injection(report)) = actions.finished.map(|finished| *finished) else {
            panic!("it is over")
        };
        assert_eq!(report.rounds[0].outcome, outcome, "{report:?}");
    }
}

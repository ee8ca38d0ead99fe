// SPDX-License-Identifier: Apache-2.0 OR MIT

use core::time::Duration;

use proptest::prelude::*;
use tsnic_abi::{Counter, phase};

use super::{Request, RxIrq};
use crate::fixtures::bell;
use crate::loss::{LossState, Verdict};
use crate::moderation::Limits;
use crate::progress::Progress;
use crate::time::Instant;

fn at(us: u64) -> Instant {
    Instant::from_ns(us * 1000)
}

/// A queue with nothing published, armed by arm number 1.
fn armed(limits: Limits) -> RxIrq {
    let mut irq = RxIrq::at_registration(Counter(0), 0, Counter(0), Counter(0), limits);
    assert!(irq.doorbell(bell(1, 0), &Progress::default(), at(0)));
    irq
}

fn progress(seen: u32, owned: u32) -> Progress {
    Progress {
        irq_seen: Counter(seen),
        irq_owned: Counter(owned),
        phase: phase::IDLE,
        ..Progress::default()
    }
}

#[test]
fn rule_2_an_interrupt_waits_until_moderation_allows() {
    // "An interrupt is requested when the queue is armed, `produced` is ahead of `signaled`, and
    // moderation allows."
    let mut irq = armed(Limits { rx_usecs: 50, rx_frames: 3 });
    irq.published(1, at(10));
    assert_eq!(irq.poll(at(10)), Request::At(at(60)));
    irq.published(4, at(20));
    assert_eq!(
        irq.poll(at(59)),
        Request::At(at(60)),
        "one frame of four completions is one packet"
    );
    assert_eq!(irq.poll(at(60)), Request::Raise(Counter(1)));
    assert_eq!(irq.poll(at(1_000)), Request::None, "one shot");
    assert_eq!(irq.interrupts().signaled(), Counter(5));
}

#[test]
fn the_adversary_fires_without_regard_to_moderation_but_not_without_the_rules() {
    let mut irq = armed(Limits { rx_usecs: 1_000_000, rx_frames: 100 });
    assert_eq!(irq.force(), Request::None, "nothing to signal");
    irq.published(1, at(10));
    assert_eq!(irq.force(), Request::Raise(Counter(1)));
    irq.published(1, at(10));
    assert_eq!(irq.force(), Request::None, "not armed");
}

#[test]
fn moderation_starts_anew_after_each_interrupt() {
    let mut irq = armed(Limits { rx_usecs: 50, rx_frames: 0 });
    irq.published(1, at(0));
    assert_eq!(irq.poll(at(50)), Request::Raise(Counter(1)));
    irq.published(1, at(70));
    assert!(irq.doorbell(bell(2, 1), &progress(1, 0), at(80)));
    assert_eq!(irq.poll(at(80)), Request::At(at(120)));
}

#[test]
fn a_packet_that_moderation_holds_back_is_no_loss() {
    let mut irq = armed(Limits { rx_usecs: 0, rx_frames: 10 });
    irq.published(1, at(0));
    assert_eq!(irq.poll(at(500)), Request::At(at(1_000)));
    assert!(irq.doorbell(bell(2, 0), &progress(0, 0), at(500)));
    assert_eq!(irq.loss_state(&progress(0, 0)), LossState::Clear);
    assert_eq!(irq.due(&progress(0, 0)), None);
}

#[test]
fn a_loss_is_judged_when_the_next_packet_is_due() {
    let mut irq = armed(Limits::default());
    irq.published(1, at(0));
    assert_eq!(irq.poll(at(0)), Request::Raise(Counter(1)));
    assert!(irq.doorbell(bell(2, 0), &progress(1, 1), at(100)));
    assert_eq!(irq.loss_state(&progress(1, 1)), LossState::Lost);
    assert!(!irq.is_idle(&progress(1, 1)));
    assert_eq!(irq.due(&progress(1, 1)), Some(Verdict::Lost));
    irq.published(1, at(200_000));
    assert_eq!(
        irq.poll(at(200_000)),
        Request::Raise(Counter(2)),
        "and the next packet's interrupt ends it"
    );
    assert!(irq.doorbell(bell(3, 2), &progress(2, 1), at(200_100)));
    assert!(irq.is_idle(&progress(2, 1)));
    assert_eq!((irq.detector().lost(), irq.armed_at()), (1, Some(at(200_100))));
}

proptest! {
    /// Nothing that is published while the queue is armed waits for ever: an interrupt is raised,
    /// or due at a known time, or the driver has been interrupted already.
    #[test]
    fn an_armed_queue_always_has_a_reason_to_be_silent(
        rx_usecs in prop::sample::select(vec![0u32, 50]),
        rx_frames in prop::sample::select(vec![0u32, 3]),
        steps in prop::collection::vec((0u8..3, 1u32..5, 0u64..40), 1..80),
    ) {
        let mut irq = armed(Limits { rx_usecs, rx_frames });
        let (mut now, mut arm, mut seen) = (at(0), 1, 0);
        for (kind, count, us) in steps {
            now = now.plus(Duration::from_micros(us));
            match kind {
                0 => irq.published(count, now),
                1 => {
                    arm += 1;
                    let open = irq.interrupts().produced().since(irq.interrupts().ci());
                    let ci = irq.interrupts().ci().plus(open.min(count));
                    irq.doorbell(bell(arm, ci.0), &progress(seen, 0), now);
                }
                _ => {}
            }
            match irq.poll(now) {
                Request::Raise(number) => {
                    prop_assert_eq!(number, Counter(seen + 1), "numbered one by one");
                    seen = number.0;
                    prop_assert!(!irq.interrupts().armed());
                }
                Request::At(due) => {
                    let usecs = Limits { rx_usecs, rx_frames }.usecs();
                    prop_assert!(due > now && due.since(now).as_micros() <= u128::from(usecs));
                }
                Request::None => prop_assert!(!irq.interrupts().requested()),
            }
        }
    }
}

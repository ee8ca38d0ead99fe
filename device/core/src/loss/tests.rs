// SPDX-License-Identifier: Apache-2.0 OR MIT

use tsnic_abi::{Counter, phase};

use super::{LossDetector, LossState, Verdict};
use crate::arming::{Interrupts, Rearm, Way};
use crate::progress::Progress;

/// Carried by an arm whose owner had seen the interrupt.
const SEEN: Counter = Counter(1);

fn progress(seen: u32, owned: u32, phase: u32) -> Progress {
    Progress { polls: Counter(0), irq_seen: Counter(seen), irq_owned: Counter(owned), phase }
}

/// One packet published and signaled by interrupt 1, and an arm that does not cover it: rule 5
/// holds.
fn candidate(progress: &Progress) -> (Interrupts, LossDetector) {
    let mut irq = Interrupts::at_registration(Counter(u32::MAX), u16::MAX, Counter(0), Counter(0));
    let mut detector = LossDetector::default();
    assert!(irq.arm(Counter(1), Counter(u32::MAX)));
    irq.publish(1);
    assert!(irq.signal());
    assert_eq!(irq.raise(), Counter(1));
    assert!(irq.arm(Counter(2), Counter(u32::MAX)));
    assert_eq!(detector.armed(&irq, progress, progress.irq_seen), None);
    assert_eq!(detector.candidates(), 1);
    (irq, detector)
}

#[test]
fn the_loss_state_is_that_of_the_truth_table_of_the_interface() {
    for (seen, owned, arm_seen, phase, expected) in [
        (0, 0, 0, phase::IDLE, LossState::InFlight),
        (0, 0, 0, phase::POLL, LossState::InFlight),
        (0, 0, 1, phase::IDLE, LossState::InFlight),
        (0, 0, 1, phase::POLL, LossState::InFlight),
        (0, 1, 0, phase::IDLE, LossState::InFlight),
        (0, 1, 0, phase::POLL, LossState::InFlight),
        (0, 1, 1, phase::IDLE, LossState::InFlight),
        (0, 1, 1, phase::POLL, LossState::InFlight),
        (1, 0, 0, phase::IDLE, LossState::Scheduled),
        (1, 0, 0, phase::POLL, LossState::Scheduled),
        (1, 0, 1, phase::IDLE, LossState::Scheduled),
        (1, 0, 1, phase::POLL, LossState::Scheduled),
        (1, 1, 0, phase::IDLE, LossState::Scheduled),
        (1, 1, 0, phase::POLL, LossState::Scheduled),
        (1, 1, 1, phase::POLL, LossState::Polling),
        (1, 1, 1, phase::IDLE, LossState::Lost),
    ] {
        let cells = progress(seen, owned, phase);
        let (irq, mut detector) = candidate(&cells);
        detector.candidate.as_mut().expect("rule 5 holds").arm_irq_seen = Counter(arm_seen);
        assert_eq!(irq.fired(), Counter(1));
        assert_eq!(
            detector.loss_state(&irq, &cells),
            expected,
            "{cells}, arm's irq_seen {arm_seen}"
        );
        let verdict = if expected == LossState::Lost { Verdict::Lost } else { Verdict::NotLost };
        assert_eq!(
            detector.judge(&irq, &cells),
            Some(verdict),
            "{cells}, arm's irq_seen {arm_seen}"
        );
    }
}

#[test]
fn in_flight_while_irq_seen_is_not_fired() {
    // "*in flight* while `irq_seen != fired`"
    let before = progress(0, 0, phase::IDLE);
    let (irq, mut detector) = candidate(&before);
    assert_eq!(detector.loss_state(&irq, &before), LossState::InFlight);
    assert_eq!(
        detector.judge(&irq, &before),
        Some(Verdict::NotLost),
        "no verdict of loss is taken from it"
    );
    assert_eq!(detector.tally().lost, 0);
}

#[test]
fn scheduled_not_lost_when_the_handler_took_the_napi() {
    // "*scheduled*, not lost, when `irq_seen == fired` and `irq_owned != fired` (the handler took
    // the NAPI; its poll will come)"
    let taken = progress(1, 0, phase::IDLE);
    let (irq, mut detector) = candidate(&taken);
    assert_eq!(detector.loss_state(&irq, &taken), LossState::Scheduled);
    assert_eq!(detector.judge(&irq, &taken), Some(Verdict::NotLost));
    assert_eq!(detector.tally().lost, 0);
}

#[test]
fn lost_when_irq_owned_is_fired_and_the_verdict_is_passed_when_the_next_packet_is_due() {
    // "**lost** when `irq_owned == fired` otherwise: the handler came, found the NAPI owned, and
    // the owner is gone, for it has armed (as far as the device can see, below). The verdict is
    // passed when the next packet is due, with `phase` idle"
    let owned = progress(1, 1, phase::IDLE);
    let (irq, mut detector) = candidate(&owned);
    assert_eq!(detector.loss_state(&irq, &owned), LossState::Lost);
    assert_eq!(detector.tally().lost, 0, "no verdict before the next packet is due");
    assert_eq!(detector.judge(&irq, &owned), Some(Verdict::Lost));
    assert_eq!((detector.tally().lost, detector.tally().rescued), (1, 0));
    assert_eq!(detector.judge(&irq, &owned), None, "one verdict a candidate");
}

#[test]
fn no_verdict_of_loss_while_a_poll_is_running() {
    let polling = progress(1, 1, phase::POLL);
    let (irq, mut detector) = candidate(&polling);
    assert_eq!(detector.loss_state(&irq, &polling), LossState::Polling);
    assert_eq!(detector.judge(&irq, &polling), Some(Verdict::NotLost));
}

#[test]
fn rescued_when_an_arm_covers_it_before_the_next_packet() {
    // "if an arm covered the packet before that, another poll had found it, and it is *rescued*,
    // counted apart"
    let owned = progress(1, 1, phase::IDLE);
    let (mut irq, mut detector) = candidate(&owned);
    assert!(irq.arm(Counter(3), Counter(0)));
    assert_eq!(detector.armed(&irq, &owned, SEEN), Some(Verdict::Rescued));
    assert_eq!((detector.tally().lost, detector.tally().rescued), (0, 1));
    assert!(!detector.is_open());
}

#[test]
fn not_rescued_when_it_was_never_lost() {
    for late in
        [progress(0, 0, phase::IDLE), progress(1, 0, phase::IDLE), progress(1, 1, phase::POLL)]
    {
        let (mut irq, mut detector) = candidate(&late);
        assert!(irq.arm(Counter(3), Counter(0)));
        assert_eq!(
            detector.armed(&irq, &progress(1, 1, phase::IDLE), Counter(1)),
            Some(Verdict::NotLost)
        );
        assert_eq!((detector.tally().lost, detector.tally().rescued), (0, 0));
    }
}

#[test]
fn a_later_owner_whose_poll_has_not_begun_is_not_called_lost() {
    let owned = progress(1, 1, phase::IDLE);
    let (mut irq, mut detector) = candidate(&progress(0, 0, phase::IDLE));
    assert_eq!(detector.look(&irq, &owned), LossState::Scheduled);
    assert_eq!(
        detector.clone().judge(&irq, &owned),
        Some(Verdict::NotLost),
        "the next packet is due before that poll"
    );
    assert_eq!(detector.look(&irq, &progress(1, 1, phase::POLL)), LossState::Scheduled);
    assert!(irq.arm(Counter(3), Counter(0)));
    assert_eq!(detector.armed(&irq, &owned, SEEN), Some(Verdict::NotLost));
    assert_eq!((detector.tally().lost, detector.tally().rescued), (0, 0));
}

#[test]
fn in_flight_turns_into_lost_when_the_owner_that_the_handler_found_arms_without_it() {
    let (mut irq, mut detector) = candidate(&progress(0, 0, phase::IDLE));
    let owned = progress(1, 1, phase::IDLE);
    assert_eq!(detector.look(&irq, &owned), LossState::Scheduled);
    assert!(irq.arm(Counter(3), Counter(u32::MAX)));
    assert_eq!(detector.armed(&irq, &owned, SEEN), None);
    assert_eq!(detector.loss_state(&irq, &owned), LossState::Lost);
    assert_eq!(detector.clone().judge(&irq, &owned), Some(Verdict::Lost));
    assert!(irq.arm(Counter(4), Counter(0)));
    assert_eq!(detector.armed(&irq, &owned, SEEN), Some(Verdict::Rescued));
}

#[test]
fn an_arm_that_is_written_after_that_of_a_later_poll_changes_nothing() {
    let owned = progress(1, 1, phase::IDLE);
    let (mut irq, mut detector) = candidate(&owned);
    assert!(irq.arm(Counter(1), Counter(u32::MAX)), "its number is the older one");
    assert_eq!(detector.armed(&irq, &owned, Counter(0)), None);
    assert_eq!(detector.loss_state(&irq, &owned), LossState::Lost);
    assert_eq!(irq.ci_errors(), 0);
}

#[test]
fn a_second_arm_in_flight_does_not_make_it_lost() {
    let (mut irq, mut detector) = candidate(&progress(0, 0, phase::IDLE));
    assert!(irq.arm(Counter(3), Counter(u32::MAX)));
    assert_eq!(detector.armed(&irq, &progress(0, 0, phase::IDLE), Counter(0)), None);
    assert_eq!(detector.look(&irq, &progress(1, 1, phase::IDLE)), LossState::Scheduled);
}

#[test]
fn arms_that_do_not_cover_it_leave_it_open() {
    let owned = progress(1, 1, phase::IDLE);
    let (mut irq, mut detector) = candidate(&owned);
    assert!(irq.arm(Counter(3), Counter(u32::MAX)));
    assert_eq!(detector.armed(&irq, &owned, SEEN), None);
    assert_eq!((detector.candidates(), detector.is_open()), (1, true));
}

#[test]
fn a_queue_with_nothing_open_is_clear() {
    let irq = Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0));
    let mut detector = LossDetector::default();
    assert_eq!(detector.look(&irq, &Progress::default()), LossState::Clear);
    assert_eq!(detector.judge(&irq, &Progress::default()), None);
}

#[test]
fn a_held_interrupt_is_no_loss() {
    let (mut irq, mut detector) = candidate(&progress(1, 1, phase::IDLE));
    irq.set_way(Way::Held);
    let progress = progress(1, 1, phase::IDLE);
    assert_eq!(detector.loss_state(&irq, &progress), LossState::Held);
    assert_eq!(detector.judge(&irq, &progress), Some(Verdict::NotLost));
}

#[test]
fn a_packet_whose_interrupt_was_dropped_is_not_the_drivers_loss() {
    // The handler of the interrupt before it found the NAPI free: it says nothing of this packet.
    let (mut irq, mut detector) = candidate(&progress(1, 0, phase::IDLE));
    irq.set_way(Way::Dropped);
    assert_eq!(detector.loss_state(&irq, &progress(1, 0, phase::POLL)), LossState::Polling);
    let progress = progress(1, 0, phase::IDLE);
    assert_eq!(detector.loss_state(&irq, &progress), LossState::Dropped);
    assert_eq!(detector.judge(&irq, &progress), Some(Verdict::Dropped));
    assert_eq!((detector.tally().lost, detector.tally().dropped), (0, 1));
}

#[test]
fn what_an_edge_triggered_device_forgot_is_lost_without_an_interrupt() {
    let mut irq =
        Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(7)).with_rearm(Rearm::Edge);
    let mut detector = LossDetector::default();
    irq.publish(1);
    assert!(irq.arm(Counter(1), Counter(0)));
    // No handler has found anything owned.
    let progress = progress(7, 0, phase::IDLE);
    assert_eq!(detector.armed(&irq, &progress, Counter(7)), None);
    assert_eq!(detector.loss_state(&irq, &progress), LossState::Lost);
}

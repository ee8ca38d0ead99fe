// SPDX-License-Identifier: Apache-2.0 OR MIT

use core::time::Duration;

use proptest::prelude::*;
use tsnic_abi::{Counter, RX_RECORDS, phase};

use super::RxIrq;
use crate::arming::{Interrupts, Way};
use crate::fixtures::bell;
use crate::loss::{LossState, Verdict};
use crate::moderation::Limits;
use crate::path::Path;
use crate::policy::decision::{Cause, GuestProgress};
use crate::progress::{Doorbell, Progress};
use crate::time::Instant;

fn at(us: u64) -> Instant {
    Instant::from_ns(us * 1000)
}

/// A queue with a page on its interrupt path.
struct Queue {
    irq: RxIrq,
    path: Path,
}

impl Queue {
    /// With nothing published, armed by arm number 1.
    fn armed(usecs: u32, frames: u32) -> Self {
        let interrupts = Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0));
        let mut path = Path::new(Limits { usecs, frames }.into());
        path.reset(RX_RECORDS);
        let mut queue = Self { irq: RxIrq::new(interrupts), path };
        assert!(queue.irq.doorbell(bell(1, 0), &Progress::default(), at(0)));
        queue
    }

    fn published(&mut self, completions: u32, now: Instant) {
        self.irq.published(completions);
        self.path.published(completions, 64, now);
    }

    /// The number of the interrupt that is raised, or when to poll again.
    fn poll(&mut self, cause: Cause, now: Instant) -> (Option<Counter>, Option<Instant>) {
        self.path.covered(self.irq.unsignaled());
        let raise = self.path.poll(&mut self.irq, cause, &GuestProgress::default(), now);
        assert!(raise.count <= 1);
        ((raise.count == 1).then(|| self.irq.raise()), raise.next)
    }

    fn moderated(&mut self, now: Instant) -> (Option<Counter>, Option<Instant>) {
        self.poll(Cause::Completions, now)
    }
}

const SILENT: (Option<Counter>, Option<Instant>) = (None, None);

fn raised(number: u32) -> (Option<Counter>, Option<Instant>) {
    (Some(Counter(number)), None)
}

fn later(us: u64) -> (Option<Counter>, Option<Instant>) {
    (None, Some(at(us)))
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
    let mut queue = Queue::armed(50, 3);
    queue.published(1, at(10));
    assert_eq!(queue.moderated(at(10)), later(60));
    queue.published(4, at(20));
    assert_eq!(queue.moderated(at(59)), later(60), "one frame of four completions is one packet");
    assert_eq!(queue.moderated(at(60)), raised(1));
    assert_eq!(queue.moderated(at(1_000)), SILENT, "one shot");
    assert_eq!(queue.irq.interrupts().signaled(), Counter(5));
}

#[test]
fn the_adversary_fires_without_regard_to_moderation_but_not_without_the_rules() {
    let mut queue = Queue::armed(1_000_000, 100);
    assert_eq!(queue.poll(Cause::Injection, at(10)), SILENT, "nothing to signal");
    queue.published(1, at(10));
    assert_eq!(queue.poll(Cause::Injection, at(10)), raised(1));
    queue.published(1, at(10));
    assert_eq!(queue.poll(Cause::Injection, at(10)), SILENT, "not armed");
}

#[test]
fn moderation_starts_anew_after_each_interrupt() {
    let mut queue = Queue::armed(50, 0);
    queue.published(1, at(0));
    assert_eq!(queue.moderated(at(50)), raised(1));
    queue.published(1, at(70));
    assert!(queue.irq.doorbell(bell(2, 1), &progress(1, 0), at(80)));
    assert_eq!(queue.moderated(at(80)), later(120));
}

#[test]
fn a_packet_that_moderation_holds_back_is_no_loss() {
    let mut queue = Queue::armed(0, 10);
    queue.published(1, at(0));
    assert_eq!(queue.moderated(at(500)), later(1_000));
    assert!(queue.irq.doorbell(bell(2, 0), &progress(0, 0), at(500)));
    assert_eq!(queue.irq.loss_state(&progress(0, 0)), LossState::Clear);
    assert_eq!(queue.irq.due(&progress(0, 0)), None);
}

#[test]
fn a_loss_is_judged_when_the_next_packet_is_due() {
    let mut queue = Queue::armed(0, 0);
    queue.published(1, at(0));
    assert_eq!(queue.moderated(at(0)), raised(1));
    assert!(queue.irq.doorbell(bell(2, 0), &progress(1, 1), at(100)));
    assert_eq!(queue.irq.loss_state(&progress(1, 1)), LossState::Lost);
    assert!(!queue.irq.is_idle(&progress(1, 1)));
    assert_eq!(queue.irq.due(&progress(1, 1)), Some(Verdict::Lost));
    queue.published(1, at(200_000));
    assert_eq!(queue.moderated(at(200_000)), raised(2), "and the next packet's interrupt ends it");
    assert!(queue.irq.doorbell(bell(3, 2), &progress(2, 1), at(200_100)));
    assert!(queue.irq.is_idle(&progress(2, 1)));
    assert_eq!((queue.irq.detector().tally().lost, queue.irq.armed_at()), (1, Some(at(200_100))));
}

proptest! {
    /// Nothing that is published while the queue is armed waits for ever: an interrupt is raised,
    /// or due at a known time, or the driver has been interrupted already.
    #[test]
    fn an_armed_queue_always_has_a_reason_to_be_silent(
        usecs in prop::sample::select(vec![0u32, 50]),
        frames in prop::sample::select(vec![0u32, 3]),
        steps in prop::collection::vec((0u8..3, 1u32..5, 0u64..40), 1..80),
    ) {
        let mut queue = Queue::armed(usecs, frames);
        let (mut now, mut arm, mut seen) = (at(0), 1, 0);
        for (kind, count, us) in steps {
            now = now.plus(Duration::from_micros(us));
            match kind {
                0 => queue.published(count, now),
                1 => {
                    arm += 1;
                    let open = queue.irq.interrupts().produced().since(queue.irq.interrupts().ci());
                    let ci = queue.irq.interrupts().ci().plus(open.min(count));
                    queue.irq.doorbell(bell(arm, ci.0), &progress(seen, 0), now);
                }
                _ => {}
            }
            match queue.moderated(now) {
                (Some(number), _) => {
                    prop_assert_eq!(number, Counter(seen + 1), "numbered one by one");
                    seen = number.0;
                    prop_assert!(!queue.irq.interrupts().armed());
                }
                (None, Some(due)) => {
                    let usecs = Limits { usecs, frames }.bound_usecs();
                    prop_assert!(due > now && due.since(now).as_micros() <= u128::from(usecs));
                }
                (None, None) => prop_assert!(!queue.irq.interrupts().requested()),
            }
        }
    }
}

#[test]
fn packets_whose_interrupt_is_dropped_are_judged_once() {
    let mut queue = Queue::armed(0, 0);
    let cells = progress(0, 0);
    let publish = |queue: &mut Queue, us| {
        let verdict = queue.irq.due(&cells);
        queue.published(1, at(us));
        queue.path.covered(queue.irq.unsignaled());
        let _not_raised =
            queue.path.poll(&mut queue.irq, Cause::Completions, &GuestProgress::default(), at(us));
        queue.irq.set_way(Way::Dropped);
        verdict
    };
    assert_eq!(publish(&mut queue, 1), None);
    assert_eq!(queue.irq.loss_state(&cells), LossState::Dropped);
    assert_eq!(publish(&mut queue, 2), Some(Verdict::Dropped));
    // It is disarmed: there was no interrupt to drop for the second.
    assert_eq!(queue.irq.loss_state(&cells), LossState::Clear);
    assert_eq!(publish(&mut queue, 3), None);
    // A watchdog's poll has found them all.
    queue.irq.doorbell(Doorbell { irq_seen: Counter(0), ..bell(2, 3) }, &cells, at(4));
    assert_eq!(publish(&mut queue, 5), None);
    queue.irq.doorbell(Doorbell { irq_seen: Counter(0), ..bell(3, 4) }, &cells, at(6));
    assert_eq!(publish(&mut queue, 7), None, "covered by the arm");
    let detector = queue.irq.detector();
    assert_eq!((detector.candidates(), detector.tally().dropped), (3, 1));
    assert_eq!((detector.tally().lost, detector.tally().rescued), (0, 0));
}

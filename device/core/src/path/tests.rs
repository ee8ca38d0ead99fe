// SPDX-License-Identifier: Apache-2.0 OR MIT

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use proptest::prelude::*;

use super::{Gate, HELD_MAX, Path};
use crate::arming::Way;
use crate::moderation::Setting;
use crate::policy::Policies;
use crate::policy::decision::{Cause, GuestProgress, Until};
use crate::policy::spec::{Distribution, PolicySpec, Span, check};
use crate::schedule::Entry;
use crate::time::Instant;

fn at(us: u64) -> Instant {
    Instant::from_ns(us * 1000)
}

/// A guest that wants every interrupt, unless it is told otherwise.
#[derive(Debug, Default)]
struct Guest {
    unsignaled: bool,
    refuses: bool,
    progress: GuestProgress,
}

impl Gate for Guest {
    fn requested(&self) -> bool {
        self.unsignaled
    }

    fn pass(&mut self) -> bool {
        self.unsignaled = false;
        !self.refuses
    }
}

struct World {
    path: Path,
    guest: Guest,
    /// When each line was raised, microseconds.
    raised: Vec<u64>,
}

impl World {
    fn new(specs: &[PolicySpec]) -> Self {
        Self::seeded(specs, 1)
    }

    fn seeded(specs: &[PolicySpec], seed: u64) -> Self {
        let mut path = Path::new(Setting::default());
        path.reset(256);
        path.set_policies(Policies::new(specs, seed, at(0)).expect("it can be"), at(0));
        Self { path, guest: Guest::default(), raised: Vec::new() }
    }

    fn poll(&mut self, us: u64) -> Option<Instant> {
        let progress = self.guest.progress;
        let raise = self.path.poll(&mut self.guest, Cause::Completions, &progress, at(us));
        self.raised.extend((0..raise.count).map(|_| us));
        raise.next
    }

    fn publish(&mut self, us: u64) -> Option<Instant> {
        self.path.published(1, 64, at(us));
        self.guest.unsignaled = true;
        self.poll(us)
    }

    /// Polls whenever the path asks for it, until `end`.
    fn run(&mut self, from: u64, end: u64) {
        let mut next = self.poll(from);
        while let Some(due) = next.filter(|due| *due <= at(end)) {
            next = self.poll(due.as_ns().div_ceil(1000));
        }
    }

    /// A packet each 100 us, and what they were raised for.
    fn stream(&mut self, packets: u64) {
        for packet in 0..packets {
            self.publish(packet * 100);
            self.run(packet * 100, packet * 100 + 99);
        }
        self.run(packets * 100, packets * 100 + 1_000_000);
    }
}

const fn span(from_us: u32, to_us: u32) -> Span {
    Span { from_us, to_us }
}

#[test]
fn without_policies_an_interrupt_is_raised_at_once_and_nothing_is_recorded() {
    let mut world = World::new(&[]);
    assert_eq!(world.publish(5), None);
    assert_eq!(world.raised, [5]);
    assert!(world.path.schedule().entries().is_empty() && world.path.is_plain());
}

#[test]
fn an_interrupt_that_the_gate_refuses_is_not_an_intent() {
    let mut world = World::new(&[PolicySpec::FixedDelay { delay_us: 10 }]);
    world.guest.refuses = true;
    assert_eq!(world.publish(5), None);
    world.guest.refuses = false;
    assert_eq!(world.publish(6), Some(at(16)));
    let entries = world.path.schedule().entries();
    assert!(matches!(entries, [Entry::Decided { intent: 0, .. }]), "{entries:?}");
}

#[test]
fn a_held_interrupt_is_raised_when_its_time_has_come() {
    let mut world = World::new(&[PolicySpec::FixedDelay { delay_us: 10 }]);
    assert_eq!(world.publish(5), Some(at(15)));
    assert_eq!(world.path.way(), Way::Held);
    assert_eq!(world.poll(14), Some(at(15)));
    assert_eq!(world.poll(15), None);
    assert_eq!((world.raised, world.path.way()), (vec![15], Way::Raised));
}

#[test]
fn an_interrupt_is_placed_when_only_time_holds_it() {
    let mut world = World::new(&[PolicySpec::FixedDelay { delay_us: 200 }]);
    assert_eq!(world.path.placed(), None);
    for us in [10, 30] {
        world.publish(us);
        assert_eq!(world.path.placed(), Some(at(210)), "the first of them");
    }
    world.run(30, 210);
    assert_eq!(world.path.placed(), Some(at(230)));
    world.run(210, 230);
    assert_eq!(world.path.placed(), None);
    let handler = PolicySpec::MaskRace { after: span(5, 5), latest_us: 300 };
    let mut world = World::new(&[handler]);
    world.publish(10);
    assert_eq!(world.path.placed(), None, "its time depends on the guest");
}

#[test]
fn policies_wrap_one_another() {
    let mut world = World::new(&[
        PolicySpec::FixedDelay { delay_us: 10 },
        PolicySpec::Sweep { span: span(0, 4), step_us: 2 },
        PolicySpec::Duplicate { copies: 1, gap_us: 50, per_mille: 1000 },
    ]);
    world.stream(4);
    assert_eq!(world.raised, [10, 50, 112, 150, 214, 250, 310, 350]);
    assert_eq!(world.path.take_tally().spurious, 4);
}

#[test]
fn jitter_stays_within_its_distribution() {
    let uniform = Distribution::Uniform(span(20, 30));
    let exponential = Distribution::Exponential { mean_us: 20, max_us: 40 };
    let (fast, slow) = (span(1, 2), span(80, 90));
    let bimodal = Distribution::Bimodal { fast, slow, slow_per_mille: 500 };
    let recorded = Distribution::Recorded(vec![7_000, 9_000]);
    let delays = |distribution| {
        let mut world = World::new(&[PolicySpec::Jitter(distribution)]);
        world.stream(400);
        assert_eq!(world.raised.len(), 400);
        world.raised.iter().map(|us| us % 100).collect::<Vec<_>>()
    };
    assert!(delays(uniform).iter().all(|us| (20..=30).contains(us)));
    let exponential = delays(exponential);
    assert!(exponential.iter().all(|us| *us <= 40));
    let late = exponential.iter().filter(|us| **us >= 20).count();
    assert!((100..200).contains(&late), "{late} of 400 beyond the mean: 37 % are");
    let bimodal = delays(bimodal);
    assert!(bimodal.iter().all(|us| *us <= 2 || (80..=90).contains(us)));
    assert!((150..250).contains(&bimodal.iter().filter(|us| **us > 2).count()));
    assert_eq!(delays(recorded)[..4], [7, 9, 7, 9]);
}

type Step = fn(&mut GuestProgress);

#[test]
fn on_progress_waits_for_the_guest_and_no_longer_than_it_may() {
    let spec = |until| PolicySpec::OnProgress { until, after: span(5, 5), latest_us: 1_000 };
    let moves: [(Until, Step); 5] = [
        (Until::Kick, |guest| guest.kicks += 1),
        (Until::Refill, |guest| guest.available += 1),
        (Until::Arm, |guest| guest.asked += 1),
        (Until::Handler, |guest| guest.handled += 1),
        (Until::OtherVector, |guest| guest.other += 1),
    ];
    for (until, _) in moves {
        for (moved, step) in moves {
            let mut world = World::new(&[spec(until)]);
            assert!(world.publish(0).is_some_and(|next| next < at(1_000)), "it is looked for");
            world.run(0, 300);
            step(&mut world.guest.progress);
            world.run(400, 2_000);
            let expected = if moved == until { 405 } else { 1_000 };
            assert_eq!(world.raised, [expected], "{until:?}, the guest did {moved:?}");
        }
    }
}

#[test]
fn mask_race_raises_once_more_when_the_handler_has_run() {
    let mut world = World::new(&[PolicySpec::MaskRace { after: span(3, 3), latest_us: 900 }]);
    world.publish(0);
    world.run(0, 200);
    world.guest.progress.handled += 1;
    world.run(300, 2_000);
    assert_eq!(world.raised, [0, 303]);
}

#[test]
fn coalesce_late_lets_one_stand_for_all_in_its_window() {
    let mut world = World::new(&[PolicySpec::CoalesceLate { window_us: 250 }]);
    world.stream(6);
    assert_eq!(world.raised, [250, 550]);
}

#[test]
fn spurious_interrupts_and_storms_need_no_cause() {
    let mut world = World::new(&[PolicySpec::Spurious { gap: span(100, 100) }]);
    world.run(0, 350);
    assert_eq!(world.raised, [100, 200, 300]);
    let mut world = World::new(&[PolicySpec::Storm { lines: 3, gap_us: 5, every_us: 100 }]);
    world.run(0, 310);
    assert_eq!(world.raised, [100, 105, 110, 210, 215, 220]);
    assert_eq!(world.path.take_tally().spurious, 6);
}

#[test]
fn what_is_dropped_is_never_raised_and_says_so() {
    let mut world = World::new(&[PolicySpec::Drop { per_mille: 1000 }]);
    world.stream(3);
    assert_eq!((world.raised.len(), world.path.way()), (0, Way::Dropped));
    assert_eq!(world.path.take_tally().dropped, 3);
    let mut world = World::new(&[PolicySpec::Drop { per_mille: 300 }]);
    world.stream(1_000);
    assert!((600..800).contains(&world.raised.len()), "{}", world.raised.len());
}

#[test]
fn a_reset_forgets_what_is_held_and_other_policies_let_it_go() {
    let held = [PolicySpec::FixedDelay { delay_us: 1_000 }];
    let mut world = World::new(&held);
    world.publish(0);
    world.path.reset(256);
    world.run(0, 5_000);
    assert!(world.raised.is_empty());
    let mut world = World::new(&held);
    world.publish(0);
    world.path.set_policies(Policies::default(), at(7));
    assert_eq!((world.poll(7), world.raised), (None, vec![7]));
}

#[test]
fn a_guest_cannot_have_any_number_of_interrupts_held() {
    let mut world = World::new(&[
        PolicySpec::FixedDelay { delay_us: 1_000_000 },
        PolicySpec::Duplicate { copies: 3, gap_us: 1_000_000, per_mille: 1000 },
    ]);
    for packet in 0..2_000 {
        world.publish(packet);
    }
    assert_eq!(world.path.held.len(), HELD_MAX);
    // Four a packet are held as long as there is room.
    assert_eq!(world.raised.len(), 2_000 - HELD_MAX / 4);
}

fn any_span() -> impl Strategy<Value = Span> {
    (1u32..80, 0u32..80).prop_map(|(from_us, more)| span(from_us, from_us + more))
}

fn conformant_policy() -> impl Strategy<Value = PolicySpec> {
    prop_oneof![
        (1u32..500).prop_map(|delay_us| PolicySpec::FixedDelay { delay_us }),
        any_span().prop_map(|it| PolicySpec::Jitter(Distribution::Uniform(it))),
        (1u32..90, 1u32..500).prop_map(|(mean_us, max_us)| PolicySpec::Jitter(
            Distribution::Exponential { mean_us, max_us }
        )),
        (any_span(), 1u32..20).prop_map(|(span, step_us)| PolicySpec::Sweep { span, step_us }),
        (1u16..4, 1u32..200, 0u16..=1000).prop_map(|(copies, gap_us, per_mille)| {
            PolicySpec::Duplicate { copies, gap_us, per_mille }
        }),
        any_span().prop_map(|gap| PolicySpec::Spurious { gap }),
        (1u32..500).prop_map(|window_us| PolicySpec::CoalesceLate { window_us }),
        any_span().prop_map(|after| PolicySpec::MaskRace { after, latest_us: 300 }),
    ]
}

fn any_policy() -> impl Strategy<Value = PolicySpec> {
    prop_oneof![
        8 => conformant_policy(),
        1 => (0u16..=1000).prop_map(|per_mille| PolicySpec::Drop { per_mille }),
    ]
}

fn stack(
    policy: impl Strategy<Value = PolicySpec>,
    policies: Range<usize>,
) -> impl Strategy<Value = Vec<PolicySpec>> {
    prop::collection::vec(policy, policies)
        .prop_filter("two of them exclude each other", |specs| check(specs).is_ok())
}

proptest! {
    /// The same stack and seed decide the same; and a schedule that is replayed does the same
    /// again, without the stack.
    #[test]
    fn the_same_seed_and_its_replay_decide_the_same(
        specs in stack(any_policy(), 0..4),
        seed: u64,
    ) {
        let run = |specs: &[PolicySpec], seed| {
            let mut world = World::seeded(specs, seed);
            world.stream(40);
            (world.raised, world.path.schedule().entries().to_vec())
        };
        let (raised, entries) = run(&specs, seed);
        prop_assert_eq!(&run(&specs, seed), &(raised.clone(), entries.clone()));
        // Interrupts of their own that come after the last intent are not replayed for ever.
        let until = at(39 * 100 + 100);
        let before = |raised: &[u64]| -> Vec<u64> {
            raised.iter().copied().filter(|us| at(*us) < until).collect()
        };
        let replayed = run(&[PolicySpec::Replay(entries)], 0).0;
        prop_assert_eq!(before(&replayed), before(&raised));
    }

    /// With policies that are conformant, every interrupt that the gate let through is raised in
    /// the end: itself, or by the one that stands for it.
    #[test]
    fn conformant_policies_leave_no_interrupt_behind(
        specs in stack(conformant_policy(), 0..4),
        gaps in prop::collection::vec(0u64..300, 1..40),
    ) {
        prop_assert!(specs.iter().all(PolicySpec::is_conformant));
        let own = specs.iter().any(|spec| matches!(spec, PolicySpec::Spurious { .. }));
        let mut world = World::new(&specs);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            world.publish(now);
            world.run(now, now);
        }
        if !own {
            world.run(now, now + 1_000_000);
            prop_assert_eq!(world.path.way(), Way::Raised);
        }
        let last = now;
        world.run(now, now + 5_000);
        prop_assert!(world.raised.iter().any(|us| *us >= last), "after the last packet");
    }

    /// Time that passes is enough: no poll is asked for in the past, or for now again.
    #[test]
    fn the_worker_is_never_asked_to_wake_at_once(
        specs in stack(any_policy(), 1..4),
        gaps in prop::collection::vec(0u64..300, 1..40),
    ) {
        let mut world = World::new(&specs);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            if let Some(next) = world.publish(now) {
                prop_assert!(next > at(now));
                prop_assert!(next.since(at(now)) <= Duration::from_secs(10));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT

use core::time::Duration;

use alloc::string::ToString as _;
use alloc::vec::Vec;
use proptest::prelude::*;

use super::spec::{MAX_COPIES, MAX_FRAMES, MAX_POLICIES};
use super::*;
use crate::policy::spec::{MAX_US, Span};

/// A frame: its number, and the draws of the bits that were flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    number: u32,
    flips: Vec<u64>,
}

/// Counts the frames that exist, so that none can go astray.
#[derive(Default)]
struct Counting {
    copied: u64,
    discarded: u64,
}

impl Medium for Counting {
    type Frame = Frame;

    fn copy(&mut self, frame: &Frame) -> Frame {
        self.copied += 1;
        frame.clone()
    }

    fn flip(&mut self, frame: &mut Frame, draw: u64) {
        frame.flips.push(draw);
    }

    fn discard(&mut self, _frame: Frame) {
        self.discarded += 1;
    }
}

/// A wire on a virtual clock.
struct Bench {
    wire: Wire<Frame>,
    medium: Counting,
    now: Instant,
    entered: u32,
    /// What has come out, and when.
    out: Vec<(Frame, Instant)>,
    tally: Tally,
}

impl Bench {
    fn new(specs: &[PacketSpec], seed: u64) -> Self {
        let mut wire = Wire::default();
        wire.set_policies(specs, seed).expect("they can be");
        let (medium, now) = (Counting::default(), Instant::from_ns(1_000_000));
        Self { wire, medium, now, entered: 0, out: Vec::new(), tally: Tally::default() }
    }

    /// Frames so many microseconds apart; what comes out in between is taken when it is due.
    fn run(&mut self, gaps: impl IntoIterator<Item = u32>) {
        for gap in gaps {
            self.wait(gap);
            self.wire.put(
                Frame { number: self.entered, flips: vec![] },
                self.now,
                &mut self.medium,
            );
            self.entered += 1;
            self.take();
        }
    }

    fn wait(&mut self, us: u32) {
        let end = self.now.plus(Duration::from_micros(us.into()));
        while let Some(due) = self.wire.due().filter(|due| *due <= end) {
            assert!(due > self.now, "everything due has been taken");
            self.now = due;
            self.take();
        }
        self.now = end;
    }

    fn take(&mut self) {
        while let Some(frame) = self.wire.take(self.now, &mut self.medium) {
            self.out.push((frame, self.now));
        }
        assert!(self.wire.frames() <= HELD_MAX, "{} frames are held", self.wire.frames());
        let tally = self.wire.take_tally();
        self.tally.dropped += tally.dropped;
        self.tally.duplicated += tally.duplicated;
        self.tally.reordered += tally.reordered;
        self.tally.corrupted += tally.corrupted;
        self.tally.delayed += tally.delayed;
        self.tally.not_held += tally.not_held;
    }

    /// Until the last frame has come out.
    fn drain(mut self) -> Self {
        self.wait(2 * MAX_POLICIES as u32 * MAX_US);
        assert_eq!((self.wire.frames(), self.wire.due()), (0, None));
        self
    }

    fn numbers(&self) -> Vec<u32> {
        self.out.iter().map(|(frame, _)| frame.number).collect()
    }
}

fn spec() -> impl Strategy<Value = PacketSpec> {
    let per_mille = || prop_oneof![Just(0u16), Just(1000), 0u16..=1000];
    prop_oneof![
        per_mille().prop_map(|per_mille| PacketSpec::Loss { per_mille }),
        (per_mille(), 1..=MAX_COPIES)
            .prop_map(|(per_mille, copies)| PacketSpec::Duplicate { per_mille, copies }),
        (per_mille(), 1..=MAX_FRAMES, 1..=20_000u32).prop_map(|(per_mille, frames, latest_us)| {
            PacketSpec::Reorder { per_mille, frames, latest_us }
        }),
        per_mille().prop_map(|per_mille| PacketSpec::Corrupt { per_mille }),
        (0..=5_000u32, 1..=5_000u32).prop_map(|(from_us, more)| {
            PacketSpec::Delay(Span { from_us, to_us: from_us + more })
        }),
    ]
}

fn specs() -> impl Strategy<Value = Vec<PacketSpec>> {
    prop::collection::vec(spec(), 0..=MAX_POLICIES)
}

fn gaps() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![Just(0u32), 0..300u32], 0..600)
}

proptest! {
    #[test]
    fn no_frame_goes_astray_and_no_more_are_held_than_may_be(
        specs in specs(), seed: u64, gaps in gaps(),
    ) {
        let mut bench = Bench::new(&specs, seed);
        bench.run(gaps);
        let bench = bench.drain();
        let Bench { medium, tally, .. } = &bench;
        prop_assert_eq!(medium.copied, tally.duplicated);
        prop_assert_eq!(medium.discarded, tally.dropped);
        let made = u64::from(bench.entered) + medium.copied;
        prop_assert_eq!(bench.out.len() as u64, made - medium.discarded);
        let flips: usize = bench.out.iter().map(|(frame, _)| frame.flips.len()).sum();
        if !specs.iter().any(|spec| {
            matches!(spec, PacketSpec::Loss { .. } | PacketSpec::Duplicate { .. })
        }) {
            prop_assert_eq!(flips as u64, tally.corrupted);
        }
    }

    #[test]
    fn the_same_seed_and_number_give_the_same_fate_at_other_times(
        spec in spec(), seed: u64, one in gaps(),
    ) {
        let (mut stage, mut again) = (Stage::new(spec, seed, 3), Stage::new(spec, seed, 3));
        let fates = |stage: &mut Stage<Frame>| -> Vec<_> {
            (0..200).map(|_| stage.fate()).collect()
        };
        prop_assert_eq!(fates(&mut stage), fates(&mut again));
        // Without policies that look at the time, what comes out does not depend on it either.
        if !matches!(spec, PacketSpec::Delay(_) | PacketSpec::Reorder { .. }) {
            let (mut slow, mut fast) = (Bench::new(&[spec], seed), Bench::new(&[spec], seed));
            slow.run(one.iter().copied());
            fast.run(one.iter().map(|_| 0));
            let frames = |bench: &Bench| -> Vec<_> {
                bench.out.iter().map(|(frame, _)| frame.clone()).collect()
            };
            prop_assert_eq!(frames(&slow), frames(&fast));
        }
    }

    #[test]
    fn loss_only_drops(per_mille in 0u16..=1000, seed: u64, gaps in gaps()) {
        let mut bench = Bench::new(&[PacketSpec::Loss { per_mille }], seed);
        bench.run(gaps);
        let numbers = bench.numbers();
        prop_assert!(numbers.is_sorted_by(|one, next| one < next), "in order, and each once");
        prop_assert!(bench.out.iter().all(|(frame, _)| frame.flips.is_empty()));
        prop_assert_eq!(numbers.len() as u64 + bench.tally.dropped, u64::from(bench.entered));
        prop_assert_eq!(bench.wire.frames(), 0);
    }

    #[test]
    fn reorder_loses_nothing_and_is_overtaken_by_no_more_than_it_says(
        per_mille in 0u16..=1000, frames in 1..=MAX_FRAMES, latest_us in 1..5_000u32, seed: u64,
        gaps in gaps(),
    ) {
        let spec = PacketSpec::Reorder { per_mille, frames, latest_us };
        let mut bench = Bench::new(&[spec], seed);
        let mut entered = Vec::new();
        for gap in gaps {
            bench.run([gap]);
            entered.push(bench.now);
        }
        let bench = bench.drain();
        let numbers = bench.numbers();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        prop_assert!(sorted.iter().copied().eq(0..bench.entered), "each of them, once");
        let latest = Duration::from_micros(latest_us.into());
        let mut stage = Stage::<Frame>::new(spec, seed, 0);
        let fates: Vec<_> = numbers.iter().map(|_| stage.fate()).collect();
        for (place, (frame, at)) in bench.out.iter().enumerate() {
            let waited = at.since(entered[frame.number as usize]);
            let Fate::Overtaken { frames: drawn, .. } = fates[frame.number as usize] else {
                prop_assert!(waited.is_zero(), "it was not held");
                continue;
            };
            prop_assert!(waited <= latest);
            if bench.tally.not_held == 0 {
                let overtook = numbers[..place].iter().filter(|number| {
                    **number > frame.number && fates[**number as usize] == Fate::Pass
                });
                let overtook = overtook.count();
                prop_assert!(overtook == usize::from(drawn) || waited == latest);
                prop_assert!(overtook <= usize::from(drawn) && drawn <= frames);
            }
        }
    }

    #[test]
    fn delay_keeps_the_order_and_no_frame_comes_early_but_for_want_of_room(
        from_us in 0..3_000u32, more in 1..3_000u32, seed: u64, gaps in gaps(),
    ) {
        let span = Span { from_us, to_us: from_us + more };
        let mut bench = Bench::new(&[PacketSpec::Delay(span)], seed);
        let mut entered = Vec::new();
        for gap in gaps {
            bench.run([gap]);
            entered.push(bench.now);
        }
        let bench = bench.drain();
        prop_assert!(bench.numbers().into_iter().eq(0..bench.entered), "each of them, in order");
        let mut early = 0;
        for ((_, at), entered) in bench.out.iter().zip(&entered) {
            let waited = at.since(*entered);
            prop_assert!(waited <= Duration::from_micros(span.to_us.into()));
            early += u64::from(waited < Duration::from_micros(span.from_us.into()));
        }
        prop_assert!(early <= bench.tally.not_held);
    }
}

#[test]
fn a_frame_is_overtaken_by_as_many_as_were_drawn_or_waits_its_time() {
    // The first is held, by the seed; by 1 frame, for no other number can be drawn.
    let spec = PacketSpec::Reorder { per_mille: 500, frames: 1, latest_us: 1_000 };
    let seed = (0..64).find(|seed| {
        let mut stage = Stage::<Frame>::new(spec, *seed, 0);
        let fates = [stage.fate(), stage.fate()];
        matches!(fates, [Fate::Overtaken { .. }, Fate::Pass])
    });
    let mut bench = Bench::new(&[spec], seed.expect("one of them does"));
    bench.run([0]);
    assert_eq!(bench.numbers(), []);
    bench.wait(999);
    assert_eq!(bench.numbers(), []);
    bench.run([0]);
    assert_eq!(bench.numbers(), [1, 0]);
    let mut late = Bench::new(&[spec], seed.expect("it does"));
    late.run([0]);
    late.wait(1_000);
    assert_eq!(late.numbers(), [0]);
}

#[test]
fn beyond_what_may_be_held_the_first_goes_on_at_once_and_is_counted() {
    let late = PacketSpec::Delay(Span { from_us: 1_000_000, to_us: 1_000_000 });
    let mut bench = Bench::new(&[late], 1);
    bench.run([0; HELD_MAX]);
    assert_eq!((bench.out.len(), bench.tally.not_held), (0, 0));
    bench.run([0, 0]);
    assert_eq!(bench.numbers(), [0, 1]);
    assert_eq!(bench.tally.not_held, 2);
    let all = PacketSpec::Reorder { per_mille: 1000, frames: 9, latest_us: 1_000_000 };
    let mut bench = Bench::new(&[all], 1);
    bench.run([0; HELD_MAX + 1]);
    // It has been let through, and is the first of up to 9 for those that are held.
    assert_eq!(bench.out[0].0.number, HELD_MAX as u32);
    assert_eq!((bench.tally.reordered, bench.tally.not_held), (HELD_MAX as u64, 1));
    let copy = PacketSpec::Duplicate { per_mille: 1000, copies: MAX_COPIES };
    let mut bench = Bench::new(&[copy; 3], 1);
    bench.run([0]);
    assert_eq!((bench.out.len(), bench.tally.duplicated), (HELD_MAX, HELD_MAX as u64 - 1));
    assert_ne!(bench.tally.not_held, 0);
}

#[test]
fn policies_are_asked_in_their_order() {
    let copy = PacketSpec::Duplicate { per_mille: 1000, copies: 3 };
    let flip = PacketSpec::Corrupt { per_mille: 1000 };
    let flips = |specs: &[PacketSpec]| -> Vec<Vec<u64>> {
        let mut bench = Bench::new(specs, 5);
        bench.run([0]);
        bench.out.into_iter().map(|(frame, _)| frame.flips).collect()
    };
    let same = flips(&[flip, copy]);
    assert!(same.len() == 4 && same.iter().all(|frame| *frame == same[0]), "{same:?}");
    let each = flips(&[copy, flip]);
    assert!(each.len() == 4 && each[0] != each[1], "each copy has a flipped bit of its own");
}

#[test]
fn what_is_held_comes_out_when_there_are_other_policies() {
    let late = PacketSpec::Delay(Span { from_us: 1_000, to_us: 1_000 });
    let mut bench = Bench::new(&[late, late], 1);
    bench.run([0, 600, 500]);
    assert_eq!(bench.numbers(), []);
    assert!(!bench.wire.is_plain());
    bench.wire.set_policies(&[], 1).expect("none can be");
    assert!(!bench.wire.is_plain(), "they have not been taken");
    bench.take();
    assert_eq!(bench.numbers(), [0, 1, 2]);
    assert!(bench.wire.is_plain() && bench.wire.due().is_none());
}

#[test]
fn what_cannot_be_is_named_and_changes_nothing() {
    let loss = PacketSpec::Loss { per_mille: 1000 };
    let mut wire = Wire::<Frame>::default();
    wire.set_policies(&[loss], 1).expect("it can be");
    let mut refused = |spec: PacketSpec| {
        wire.set_policies(&[loss, spec], 1).expect_err("it cannot be").to_string()
    };
    for (spec, why) in [
        (PacketSpec::Loss { per_mille: 1001 }, "(loss): per_mille is 1001: 0 to 1000"),
        (PacketSpec::Corrupt { per_mille: 1001 }, "(corrupt): per_mille is 1001: 0 to 1000"),
        (PacketSpec::Duplicate { per_mille: 1, copies: 0 }, "(duplicate): copies is 0: 1 to 16"),
        (
            PacketSpec::Reorder { per_mille: 1, frames: 129, latest_us: 1 },
            "(reorder): frames is 129: 1 to 128",
        ),
        (
            PacketSpec::Reorder { per_mille: 1, frames: 1, latest_us: 0 },
            "(reorder): latest_us is 0: 1 to 10000000",
        ),
        (PacketSpec::Delay(Span { from_us: 9, to_us: 8 }), "(delay): from_us is 9: 0 to 8"),
        (PacketSpec::Delay(Span::default()), "(delay): to_us is 0: 1 to 10000000"),
    ] {
        assert_eq!(refused(spec), format!("Policy 1 {why}"));
    }
    let many = [loss; MAX_POLICIES + 1];
    let why = wire.set_policies(&many, 1).expect_err("too many").to_string();
    assert_eq!(why, "Policy 8 (loss): one of 9: at most 8 for a direction");
    assert!(wire.policies().eq(&[loss]));
}

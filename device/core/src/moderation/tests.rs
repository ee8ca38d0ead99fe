// SPDX-License-Identifier: Apache-2.0 OR MIT

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use tsnic_abi::Counter;

use super::{FRAMES_ALONE_USECS, Limits, Moderation, Moment, Setting};
use crate::time::Instant;

fn at(us: u64) -> Instant {
    Instant::from_ns(us * 1000)
}

fn moderation(usecs: u32, frames: u32) -> Moderation {
    Moderation::new(Limits { usecs, frames }.into(), 512)
}

#[test]
fn both_0_at_once() {
    // "Both 0: at once."
    let mut off = moderation(0, 0);
    off.published(Counter(1), 64, at(0));
    assert_eq!(off.moment(at(0)), Moment::Now);
    assert!(off.packets.is_empty(), "nothing is kept while moderation is off");
}

#[test]
fn rx_usecs_counts_from_the_first_unsignaled_packet() {
    // "`rx-usecs`: microseconds from the first unsignaled packet"
    let mut usecs = moderation(50, 0);
    usecs.published(Counter(1), 64, at(100));
    usecs.published(Counter(2), 64, at(140));
    assert_eq!(usecs.moment(at(149)), Moment::At(at(150)), "a later packet does not put it off");
    assert_eq!(usecs.moment(at(150)), Moment::Now);
}

#[test]
fn an_arm_that_covers_the_first_packet_makes_the_second_the_first() {
    let mut usecs = moderation(50, 0);
    usecs.published(Counter(u32::MAX), 64, at(100));
    usecs.published(Counter(1), 64, at(140));
    usecs.signaled(Counter(u32::MAX));
    assert_eq!(usecs.moment(at(160)), Moment::At(at(190)));
}

#[test]
fn rx_frames_counts_unsignaled_packets() {
    // "`rx-frames`: unsignaled packets" (a packet may take several completions)
    let mut frames = moderation(0, 2);
    frames.published(Counter(4), 64, at(0));
    assert_eq!(frames.moment(at(10)), Moment::At(at(1_000)));
    frames.published(Counter(5), 64, at(10));
    assert_eq!(frames.moment(at(10)), Moment::Now);
    frames.signaled(Counter(5));
    frames.published(Counter(6), 64, at(11));
    assert_eq!(frames.moment(at(11)), Moment::At(at(1_011)), "signaled packets do not count");
}

#[test]
fn rx_frames_without_rx_usecs_waits_no_longer_than_a_millisecond() {
    // "Without `rx-usecs`, `rx-frames` waits for 1 ms at most."
    let mut frames = moderation(0, 8);
    frames.published(Counter(1), 64, at(0));
    assert_eq!(frames.moment(at(999)), Moment::At(at(1_000)));
    assert_eq!(frames.moment(at(1_000)), Moment::Now);
}

#[test]
fn whichever_comes_first() {
    // "whichever comes first"
    let mut both = moderation(50, 2);
    both.published(Counter(1), 64, at(0));
    assert_eq!(both.moment(at(10)), Moment::At(at(50)));
    assert_eq!(both.moment(at(50)), Moment::Now, "time came first");
    both.published(Counter(2), 64, at(11));
    assert_eq!(both.moment(at(11)), Moment::Now, "the second packet came first");
}

#[test]
fn completions_published_before_the_registration_are_not_held_back() {
    assert_eq!(moderation(50, 10).moment(at(0)), Moment::Now);
}

#[test]
fn a_driver_that_never_arms_takes_no_more_memory_than_its_ring_can_hold() {
    let mut frames = moderation(1_000_000, 5_000);
    for number in 1..=511 {
        frames.published(Counter(number), 64, at(number.into()));
    }
    assert_eq!(frames.moment(at(600)), Moment::At(at(1_000_001)));
    for number in 512..=10_000 {
        frames.published(Counter(number), 64, at(number.into()));
    }
    assert_eq!(frames.packets.len(), 512);
    assert_eq!(
        frames.moment(at(10_000)),
        Moment::Now,
        "no more packets than these can be unsignaled"
    );
    frames.signaled(Counter(9_990));
    assert_eq!(frames.moment(at(10_000)), Moment::At(at(1_009_991)), "the latest are remembered");
}

#[test]
fn adaptive_moderation_takes_over_and_gives_back() {
    let fixed = Limits { usecs: 500, frames: 2 };
    let adaptive = Setting { limits: fixed, adaptive: true };
    let mut moderation = Moderation::new(adaptive, 512);
    assert_eq!((moderation.setting(), moderation.limits()), (adaptive, Limits::default()));
    let mut end = 0;
    let mut sample = |moderation: &mut Moderation| {
        for _ in 0..65 {
            end += 1;
            moderation.published(Counter(end), 64, at(end.into()));
            moderation.signaled(Counter(end));
            moderation.interrupted(at(end.into()));
        }
        moderation.published(Counter(end + 1), 64, at(end.into()));
        moderation.moment(at(end.into()))
    };
    assert_eq!(sample(&mut moderation), Moment::At(at(65 + 8)));
    moderation.set(Setting { limits: Limits::default(), ..adaptive });
    assert_eq!(moderation.limits().usecs, 8, "it goes on");
    moderation.set(fixed.into());
    assert_eq!(moderation.moment(at(65)), Moment::At(at(65 + 500)), "also for what waits");
}

proptest! {
    #[test]
    fn an_interrupt_is_due_exactly_when_a_limit_is_reached(
        rx_usecs in 0u32..200,
        rx_frames in 0u32..6,
        start in prop::sample::select(vec![0u32, u32::MAX - 3]),
        gaps in prop::collection::vec(0u64..80, 1..12),
        covered in 0usize..12,
        wait in 0u64..300,
    ) {
        let mut moderation = moderation(rx_usecs, rx_frames);
        let mut now = 0;
        let times: Vec<u64> = gaps.iter().map(|gap| { now += gap; now }).collect();
        for (n, &time) in times.iter().enumerate() {
            moderation.published(Counter(start).plus(n as u32 + 1), 64, at(time));
        }
        let covered = covered.min(times.len() - 1);
        moderation.signaled(Counter(start).plus(covered as u32));
        let now = now + wait;
        let open = times.len() - covered;
        let by_frames = rx_frames != 0 && open >= rx_frames as usize;
        let by_time = rx_usecs != 0 && now - times[covered] >= u64::from(rx_usecs);
        let expected = if by_frames || by_time || (rx_usecs == 0 && rx_frames == 0) {
            Moment::Now
        } else {
            let usecs = if rx_usecs == 0 { FRAMES_ALONE_USECS } else { rx_usecs };
            Moment::At(at(times[covered]).plus(Duration::from_micros(usecs.into())))
        };
        prop_assert_eq!(moderation.moment(at(now)), expected);
    }
}

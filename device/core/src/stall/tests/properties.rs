// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties that hold for any guest.

use proptest::prelude::*;

use super::world::{AFTER_MS, AT_ONCE_MS, World};
use crate::stall::Verdict;

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(u16),
    Consume,
    Raise,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u16..40).prop_map(Step::Publish),
        3 => Just(Step::Consume),
        1 => Just(Step::Raise),
        2 => Just(Step::Look),
    ]
}

proptest! {
    /// Whatever the guest does, and wherever its indices wrap: a lost interrupt is only spoken of
    /// after exactly one nudge, when progress came at once and nothing else was raised.
    #[test]
    fn no_interrupt_is_called_lost_when_progress_comes_by_itself_before_the_nudge(
        start: u16,
        receive: bool,
        steps in prop::collection::vec((0u64..200, step()), 1..80),
    ) {
        let mut world = World::starting_at(receive, start);
        let mut raised_at = None;
        let mut before_progress = 0;
        for (ms, step) in steps {
            world.pass(ms);
            let (told, now) = (world.told.len(), world.now_ms);
            match step {
                Step::Publish(entries) => world.publish(entries),
                Step::Consume => {
                    let asked = world.seen.guest.asked;
                    world.consume();
                    let lost = world.told[told..].iter().any(|it| it.verdict == Verdict::Lost);
                    if lost {
                        let since = &world.nudges[before_progress..];
                        prop_assert_eq!(since.len(), 1);
                        prop_assert!(now - since[0] < AT_ONCE_MS, "{} ms", now - since[0]);
                        prop_assert!(raised_at.is_none_or(|raised| raised < since[0]));
                    }
                    if world.seen.guest.asked != asked {
                        before_progress = world.nudges.len();
                    }
                }
                Step::Raise => {
                    world.seen.raised += 1;
                    raised_at = Some(now);
                    world.look();
                }
                Step::Look => world.look(),
            }
            if !matches!(step, Step::Consume) {
                let lost = world.told[told..].iter().any(|it| it.verdict == Verdict::Lost);
                prop_assert!(!lost, "nothing has moved");
            }
        }
    }

    /// A guest that takes less than the time to look closer is left alone.
    #[test]
    fn a_right_guest_is_never_nudged(
        start: u16,
        receive: bool,
        rounds in prop::collection::vec((1u16..64, 0u64..AFTER_MS, 0u64..300), 1..60),
    ) {
        let mut world = World::starting_at(receive, start);
        for (entries, takes_ms, idle_ms) in rounds {
            world.seen.raised += 1;
            world.publish(entries);
            world.pass(takes_ms);
            world.consume_unseen();
            world.pass(idle_ms);
        }
        prop_assert_eq!(world.nudges.len() + world.told.len(), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT

use core::time::Duration;

use super::{Handler, NUDGES, Verdict, Wish};
use crate::loss::LossState;

mod properties;
mod world;

use world::{AFTER_MS, AT_ONCE_MS, World};

#[test]
fn one_nudge_that_makes_it_go_on_proves_a_lost_interrupt() {
    for (dropped, receive) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut world = World::starting_at(receive, u16::MAX);
        world.seen.dropped = dropped;
        world.publish(3);
        world.pass(AFTER_MS);
        assert_eq!((world.nudges.as_slice(), world.told.len()), (&[1 + AFTER_MS][..], 0));
        world.seen.dropped = false;
        world.pass(2);
        world.consume();
        world.pass(10 * AFTER_MS);
        assert_eq!(world.verdicts(), [(Verdict::Lost, dropped)]);
        let evidence = world.told[0];
        assert_eq!((evidence.seen.published, evidence.seen.guest.asked), (2, 0xffff));
        assert_eq!(evidence.waited, Duration::from_millis(AFTER_MS + 2));
        assert_eq!(evidence.answered, Some(Duration::from_millis(2)));
        assert_eq!(world.detector.tally().lost, 1);
        assert_eq!(world.detector.tally().by_policy, u64::from(dropped));
    }
}

#[test]
fn a_slow_guest_owes_nothing_to_the_nudge() {
    let times = [AT_ONCE_MS, AFTER_MS - 1, AFTER_MS + 1, 2 * AFTER_MS + 1];
    for (late_ms, dropped) in times.into_iter().flat_map(|ms| [(ms, false), (ms, true)]) {
        let mut world = World::receive();
        world.seen.dropped = dropped;
        world.publish(1);
        world.pass(AFTER_MS + late_ms);
        assert!(!world.nudges.is_empty());
        world.consume();
        world.pass(10 * AFTER_MS);
        assert_eq!(world.verdicts(), [(Verdict::Slow, dropped)], "{late_ms} ms after the nudge");
        assert_eq!(world.detector.tally().by_policy, 0);
    }
}

/// A guest tells nobody that it has consumed something: the look that finds it may come much later.
#[test]
fn who_is_found_to_have_gone_on_when_it_would_be_nudged_is_not_called_slow() {
    for ms in [AFTER_MS - 1, AFTER_MS, 5 * AFTER_MS] {
        let mut world = World::receive();
        world.publish(1);
        world.consume_unseen();
        world.pass(ms);
        world.look();
        assert!(world.told.is_empty() && world.nudges.is_empty());
    }
}

#[test]
fn nudges_in_vain_are_ignored_or_the_guest_has_stopped() {
    for (lives, verdict) in [(true, Verdict::Ignored), (false, Verdict::Stopped)] {
        let mut world = World::receive();
        world.publish(1);
        world.pass(AFTER_MS + 1);
        if lives {
            world.live_elsewhere();
        }
        world.pass(100 * AFTER_MS);
        assert_eq!(world.verdicts(), [(verdict, false)]);
        assert_eq!(world.nudges.len(), usize::from(NUDGES));
        // It goes on after all: its verdict stands, and the next stall gets one of its own.
        world.consume();
        assert_eq!(world.told.len(), 1);
        world.publish(1);
        world.pass(100 * AFTER_MS);
        assert_eq!(world.told.len(), 2);
    }
}

#[test]
fn a_guest_that_wants_no_interrupts_and_leaves_packets_alone_is_suppressed() {
    for elsewhere in [true, false] {
        let mut world = World::receive();
        world.seen.wish = Wish::Off;
        world.seen.published += 1;
        world.look();
        world.pass(AFTER_MS / 2);
        if elsewhere {
            world.live_elsewhere();
        }
        world.pass(AFTER_MS / 2);
        assert_eq!(world.nudges.is_empty(), elsewhere);
        if !elsewhere {
            world.consume();
        }
        assert_eq!(world.verdicts(), [(Verdict::Suppressed, false)]);
    }
}

#[test]
fn a_guest_may_reclaim_what_it_has_sent_when_it_likes() {
    let mut world = World::transmit();
    world.seen.wish = Wish::Off;
    world.seen.published += 30;
    world.look();
    world.live_elsewhere();
    world.pass(100 * AFTER_MS);
    assert!(world.told.is_empty() && world.nudges.is_empty());
}

#[test]
fn frames_that_wait_for_a_guest_that_has_consumed_everything_are_not_refilled() {
    let mut world = World::receive();
    world.publish(64);
    world.seen.starved = true;
    world.pass(3);
    world.consume();
    world.pass(100 * AFTER_MS);
    assert_eq!(world.verdicts(), [(Verdict::NotRefilled, false)]);
    assert!(world.nudges.is_empty());
    // Who does not refill because its interrupt was lost has lost an interrupt.
    let mut world = World::receive();
    world.publish(64);
    world.seen.starved = true;
    world.pass(AFTER_MS);
    world.seen.starved = false;
    world.consume();
    assert_eq!(world.verdicts(), [(Verdict::Lost, false)]);
}

#[test]
fn a_kick_is_lost_when_a_living_guest_never_gives_it() {
    for (kicks_ms, lives, lost) in
        [(None, true, true), (None, false, false), (Some(AFTER_MS - 2), true, false)]
    {
        let mut world = World::transmit();
        world.seen.unkicked = true;
        world.seen.guest.available += 1;
        world.look();
        world.seen.unkicked = false;
        world.pass(1);
        if lives {
            world.live_elsewhere();
        }
        if let Some(ms) = kicks_ms {
            world.pass(ms);
            world.seen.guest.kicks += 1;
            world.look();
        }
        world.pass(10 * AFTER_MS);
        let expected: &[_] = if lost { &[(Verdict::KickLost, false)] } else { &[] };
        assert_eq!(world.verdicts(), expected, "{kicks_ms:?}, {lives}");
    }
}

#[test]
fn silence_proves_nothing_where_consuming_does_not_show() {
    let mut world = World::receive();
    world.seen.wish = Wish::Unclear;
    world.seen.published += 1;
    world.look();
    world.pass(100 * AFTER_MS);
    assert_eq!((world.told.len(), world.nudges.len()), (0, 1));
    // An answer does, there as well.
    world.seen.published += 1;
    world.look();
    world.pass(AFTER_MS);
    world.seen.guest.available += 1;
    world.look();
    assert_eq!(world.verdicts(), [(Verdict::Lost, false)]);
    // And buffers that are missing are missing.
    world.seen.starved = true;
    world.look();
    world.pass(10 * AFTER_MS);
    assert_eq!(world.verdicts().last(), Some(&(Verdict::NotRefilled, false)));
}

#[test]
fn a_guest_that_has_never_posted_a_buffer_has_not_begun() {
    let mut world = World::starting_at(true, 0);
    world.seen.guest.available = 0;
    world.detector.reset();
    world.seen.starved = true;
    world.look();
    world.pass(100 * AFTER_MS);
    assert!(world.told.is_empty() && world.nudges.is_empty());
    // It posts some, consumes them, and posts no more.
    world.seen.starved = false;
    world.seen.guest.available += 1;
    world.look();
    world.seen.starved = true;
    world.look();
    world.pass(10 * AFTER_MS);
    assert_eq!(world.verdicts(), [(Verdict::NotRefilled, false)]);
}

#[test]
fn what_is_held_or_about_to_be_raised_is_no_stall() {
    let mut world = World::receive();
    world.seen.due = true;
    world.publish(1);
    world.pass(10 * AFTER_MS);
    assert!(world.nudges.is_empty());
    // The guest has its time from when it is raised.
    world.seen.due = false;
    world.seen.raised += 1;
    world.look();
    world.pass(AFTER_MS - 1);
    assert!(world.nudges.is_empty());
    world.pass(1);
    assert_eq!(world.nudges.len(), 1);
}

#[test]
fn progress_that_another_interrupt_may_have_caused_proves_nothing() {
    for same_look in [true, false] {
        let mut world = World::receive();
        world.publish(1);
        world.pass(AFTER_MS);
        world.seen.raised += 1;
        if !same_look {
            world.look();
        }
        world.consume();
        assert_eq!((world.nudges.len(), world.told.len()), (1, 0));
    }
    // A driver looks at its transmit queue when it sends, and when it is interrupted to receive.
    for sends in [true, false] {
        let mut world = World::transmit();
        world.publish(1);
        world.pass(AFTER_MS);
        if sends {
            world.seen.guest.available += 1;
        } else {
            world.seen.guest.other += 1;
        }
        world.consume();
        assert_eq!(world.verdicts(), [(Verdict::Slow, false)]);
    }
}

#[test]
fn one_vector_of_a_pair_is_nudged_at_a_time() {
    let mut world = World::receive();
    world.publish(1);
    world.other.nudged = true;
    world.pass(3 * AFTER_MS);
    assert!(world.nudges.is_empty() && !world.detector.as_other().nudged);
    world.other.nudged = false;
    world.pass(1);
    assert!(world.nudges.len() == 1 && world.detector.as_other().nudged);
    world.pass(AT_ONCE_MS);
    assert!(!world.detector.as_other().nudged);
}

/// A queue with a page, whose loss detector says this when its handler has run for every interrupt.
fn paged(loss: LossState) -> World {
    let mut world = World::receive();
    world.seen.consumed = Some(7);
    world.seen.loss = Some(loss);
    world.seen.handler = Some(Handler { seen: true, owned: true });
    world.look();
    world.publish(1);
    world.pass(AFTER_MS);
    assert_eq!(world.nudges.len(), 1);
    world
}

#[test]
fn with_a_page_the_handler_says_what_the_guest_goes_on_from() {
    let handler = |seen, owned| Some(Handler { seen, owned });
    for (ms, handler, verdict) in [
        (1, handler(true, false), Some(Verdict::Lost)),
        // However long it takes.
        (AFTER_MS - 1, handler(true, false), Some(Verdict::Lost)),
        // Somebody else owned the NAPI, or polled before the handler ran.
        (1, handler(true, true), None),
        (1, handler(false, true), None),
        (AFTER_MS - 1, handler(true, true), Some(Verdict::Slow)),
    ] {
        let mut world = paged(LossState::Scheduled);
        world.pass(ms);
        world.seen.handler = handler;
        world.seen.consumed = Some(8);
        world.consume();
        assert_eq!(world.told.last().map(|it| it.verdict), verdict, "{ms} ms, {handler:?}");
    }
}

#[test]
fn the_detectors_agree_or_it_is_counted() {
    for (loss, helps, disagrees) in [
        (LossState::Lost, true, 0),
        (LossState::Lost, false, 1),
        // Nobody has dropped it, as far as this one knows.
        (LossState::Dropped, true, 1),
        (LossState::Scheduled, false, 0),
    ] {
        let mut world = paged(loss);
        if helps {
            world.seen.handler = Some(Handler { seen: true, owned: false });
            world.seen.consumed = Some(8);
            world.consume();
        }
        world.pass(10 * AFTER_MS);
        assert_eq!((world.told.len(), world.disagreements), (1, disagrees), "{loss:?}, {helps}");
    }
}

#[test]
fn a_reset_forgets_the_stall_and_keeps_the_tally() {
    let mut world = World::receive();
    world.publish(1);
    world.pass(AFTER_MS);
    world.detector.reset();
    world.seen.published = 0;
    world.consume();
    world.pass(10 * AFTER_MS);
    assert!(world.told.is_empty());
    assert_eq!(world.detector.tally().nudges, 1);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a pair tells those who want to know.

use std::time::Duration;

use tsnic::net::event::Event;
use tsnic::net::pair::{RX, TX};
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec::{InjectionSpec, Stimulus};

use super::guest::{Mode, Owner};
use super::world::{FLOW, World};

/// The timer comes in time for each round.
const OWNER: Owner = Owner::Timer(Duration::from_millis(2));

fn events(world: &mut World) -> Vec<Event> {
    world.events().into_iter().map(|(_, event)| event).collect()
}

#[test]
fn nothing_is_collected_for_nobody() {
    let mut world = World::new(Mode::V4_11, OWNER, 1);
    world.withdraw();
    assert_eq!(events(&mut world), []);
}

#[test]
fn pages_and_queues_come_and_go() {
    let mut world = World::new(Mode::V4_11, OWNER, 1);
    world.watch();
    let generation = world.pair.status().page.expect("it has a page").generation;
    world.withdraw();
    let told = events(&mut world);
    assert!(
        matches!(
            &told[..],
            [Event::PageRefused(_), Event::PageForgotten(old, _)] if *old == generation
        ),
        "{told:?}"
    );
    world.register();
    let told = events(&mut world);
    assert!(matches!(&told[..], [Event::PageAccepted(new)] if *new != generation), "{told:?}");
    for queue in [TX, RX] {
        world.pair.stop(queue);
        world.pair.stop(queue);
        assert_eq!(events(&mut world), [Event::Stopped(queue)]);
    }
    world.poke();
    // They start anew, and their page is gone with what they were.
    let told = events(&mut world);
    for event in [Event::Started(RX), Event::Started(TX)] {
        assert_eq!(told.iter().filter(|it| **it == event).count(), 1, "{told:?}");
    }
    assert!(told.iter().any(|it| matches!(it, Event::PageForgotten(..))), "{told:?}");
}

#[test]
fn every_loss_is_told_of_once() {
    for mode in [Mode::V4_10, Mode::V4_11] {
        let mut world = World::new(mode, OWNER, 1);
        world.watch();
        let rounds = 100;
        let run = InjectionSpec {
            seed: 1,
            rounds,
            flow: FLOW,
            stimulus: Stimulus::Udp,
            stuck_us: (1_000, 2_000),
        };
        let result = world.run_to_end(RunRequest::Injection(run));
        assert!(matches!(result, Finished::Injection(_)));
        // With the page, what it alone has counted.
        world.withdraw();
        let (mut lost, mut rescued) = (0, 0);
        for event in events(&mut world) {
            if let Event::Lost(more_lost, more_rescued) = event {
                (lost, rescued) = (lost + more_lost, rescued + more_rescued);
            }
        }
        let counters = world.pair.status().counters;
        assert_eq!((lost, rescued), (counters.lost, counters.rescued));
        assert_eq!(lost >= u64::from(rounds), mode == Mode::V4_10, "{lost}");
    }
}

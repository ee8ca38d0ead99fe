// SPDX-License-Identifier: GPL-2.0-only
//! The registration.

use tsnic_abi::{Counter, QUEUE_PAGE_SIZE, offset};

use super::fake::{ALL, Chain, TX_RING, World};
use crate::mode::IrqMode;
use crate::shared::Shared;
use crate::stamp::Able;
use crate::stats::Stat;

fn new() -> World {
    World::new(IrqMode::V4_11, ALL)
}

/// Sends the posted chain back with this length and lets the driver see it.
fn send_back(world: &World, length: u32) {
    world.complete_tx(length);
    world.tx_poll();
}

fn generation(world: &World) -> u32 {
    world.posted_registration().expect("posted").generation.get()
}

#[test]
fn the_page_is_posted_when_the_link_is_up() {
    let world = new();
    world.link(false);
    assert!(world.posted_registration().is_none());
    world.link(true);
    let header = world.posted_registration().expect("posted");
    assert_eq!(header.check(0), Ok(()));
    assert_eq!(world.tx.borrow().kicks, 1);
    assert!(world.tx.borrow().callbacks, "its return is told of");
    assert_eq!(world.shared.stats.get(Stat::RegistrationsPosted), 1);
}

#[test]
fn it_is_accepted_only_with_a_length_and_the_generation_echoed() {
    for (length, echo, accepted) in [
        (QUEUE_PAGE_SIZE, 0, true),
        (1, 0, true),
        (0, 0, false), // a VMM whose backend is away
        (QUEUE_PAGE_SIZE, 1, false),
        (0, 1, false),
    ] {
        let world = new();
        world.link(true);
        world.identify(generation(&world) + echo, 7);
        send_back(&world, length);
        assert_eq!(world.shared.page().is_some(), accepted, "length {length}, generation + {echo}");
        let stats = &world.shared.stats;
        let counted =
            (stats.get(Stat::RegistrationsAccepted), stats.get(Stat::RegistrationsRefused));
        assert_eq!(counted, (u64::from(accepted), u64::from(!accepted)));
    }
}

#[test]
fn a_device_of_another_kind_or_version_is_not_accepted() {
    for damage in [offset::MAGIC, offset::VERSION] {
        let world = new();
        world.link(true);
        world.identify(generation(&world), 7);
        world.set_cell(damage, world.cell(damage) + 1);
        send_back(&world, QUEUE_PAGE_SIZE);
        assert!(world.shared.page().is_none());
    }
}

#[test]
fn an_identity_left_over_from_an_earlier_device_is_not_believed() {
    let world = World::with_page(IrqMode::V4_11);
    world.link(true);
    // The chain comes back with a length, but nobody has written an identity.
    send_back(&world, QUEUE_PAGE_SIZE);
    assert!(world.shared.page().is_none());
}

#[test]
fn after_a_good_registration_the_receive_napi_is_scheduled_once_and_its_completion_arms() {
    let world = new();
    world.open();
    world.link(true);
    world.softirq();
    let before = world.tx.borrow().rx_scheduled;
    assert!(!world.rx.borrow().device.armed);
    world.answer_registration();
    assert_eq!(world.tx.borrow().rx_scheduled, before + 1);
    world.softirq();
    assert!(world.rx.borrow().device.armed);
    send_tx(&world);
    assert_eq!(world.tx.borrow().rx_scheduled, before + 1, "and never again");
}

fn send_tx(world: &World) {
    world.transmit(world.packet(vec![0; 60]), false);
    world.complete_tx(0);
    world.tx_poll();
}

#[test]
fn it_is_posted_again_on_every_configuration_change_with_link_up() {
    let world = World::with_page(IrqMode::V4_11);
    let mut generations = vec![world.cell(offset::GENERATION)];
    for _ in 0..5 {
        world.link(true);
        assert!(world.shared.page().is_none(), "plain virtio until it is accepted");
        generations.push(generation(&world));
        world.answer_registration();
        assert!(world.shared.page().is_some());
    }
    let posted = generations.len();
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), posted, "a generation of its own for each");
    assert!(!generations.contains(&0));
}

#[test]
fn one_chain_at_a_time_and_an_answer_that_is_out_of_date_does_not_count() {
    let world = new();
    world.link(true);
    let first = generation(&world);
    // The backend goes and comes while the chain is in the ring. (The fake asserts that there is
    // one chain.)
    world.link(false);
    world.link(true);
    assert_eq!(world.tx.borrow().ring.len(), 1);
    world.identify(first, 7);
    send_back(&world, QUEUE_PAGE_SIZE);
    assert!(world.shared.page().is_none());
    assert_eq!(generation(&world), first + 1, "posted again at once");
    world.answer_registration();
    assert!(world.shared.page().is_some());
}

#[test]
fn an_answer_after_the_link_went_down_counts_only_if_it_is_one() {
    let world = new();
    world.link(true);
    world.link(false);
    send_back(&world, 0);
    assert!(world.shared.page().is_none());
    assert!(world.posted_registration().is_none(), "not posted while the link is down");
}

#[test]
fn when_the_link_goes_down_the_page_is_no_longer_used_and_virtio_rules_apply() {
    let world = World::with_page(IrqMode::V4_11);
    let scheduled = world.tx.borrow().rx_scheduled;
    world.link(false);
    assert!(world.shared.page().is_none());
    assert_eq!(
        world.tx.borrow().rx_scheduled,
        scheduled + 1,
        "one poll, to complete by the rules that hold now"
    );
}

#[test]
fn the_header_carries_what_was_consumed_and_the_latest_arm() {
    let world = World::with_page(IrqMode::V4_11);
    world.softirq();
    for tag in 0..3 {
        world.publish(tag);
        world.interrupt_if_due();
        world.softirq();
    }
    send_tx(&world);
    world.link(true);
    let header = world.posted_registration().expect("posted");
    assert_eq!(header.rx_ci.get(), 3);
    assert_eq!(header.tx_ci.get(), 2, "the first registration and a frame");
    assert_eq!(header.arm.get(), world.cell(offset::ARM));
}

#[test]
fn it_waits_until_the_ring_has_room() {
    let world = new();
    for _ in 0..TX_RING {
        world.transmit(world.packet(vec![0; 60]), false);
    }
    world.link(true);
    assert!(!world.tx.borrow().ring.iter().any(|chain| matches!(chain, Chain::Registration(_))));
    world.complete_tx(0);
    world.tx_poll();
    assert!(world.tx.borrow().ring.iter().any(|chain| matches!(chain, Chain::Registration(_))));
}

#[test]
fn what_can_be_timestamped_is_what_the_device_says() {
    let both = Able { rx: true, tx: true };
    let world = new();
    assert_eq!(world.shared.able(), both, "not known yet");
    world.link(true);
    world.identify(generation(&world), 1);
    send_back(&world, QUEUE_PAGE_SIZE);
    assert_eq!(world.shared.able(), Able { rx: true, tx: false });
    world.link(true);
    send_back(&world, 0);
    assert_eq!(world.shared.able(), Able::default(), "refused");
    world.link(true);
    world.answer_registration();
    assert_eq!(world.shared.able(), both);
    assert_eq!(Shared::new(ALL, None).able(), Able::default(), "no page to register");
}

#[test]
fn the_wrap_of_the_generation_skips_0() {
    let mut state = crate::registration::RegistrationState::starting_at(u32::MAX);
    let world = new();
    state.request(&world.shared);
    let mut generations = vec![];
    for _ in 0..2 {
        state.post_if_due(&world.shared, Counter(0), |header| {
            generations.push(header.generation.get());
            true
        });
        state.request(&world.shared);
        state.returned(&world.shared, 0);
    }
    assert_eq!(generations, [u32::MAX, 1]);
}

#[test]
fn after_a_sleep_the_page_is_registered_again_with_nothing_consumed() {
    let world = World::with_page(IrqMode::V4_11);
    world.softirq();
    world.publish(1);
    world.interrupt_if_due();
    world.softirq();
    world.link(true);
    let before = generation(&world);
    world.sleep();
    assert!(world.shared.page().is_none());
    assert_eq!(world.live.get(), 0, "what was in the rings is freed");
    world.open();
    world.link(true);
    let header =
        world.posted_registration().expect("posted, though the chain before never came back");
    assert_eq!((header.rx_ci.get(), header.tx_ci.get()), (0, 0));
    assert_eq!(
        header.generation.get(),
        before + 1,
        "another generation: the old page's identity is not believed"
    );
    world.answer_registration();
    world.softirq();
    world.publish(2);
    assert!(world.interrupt_if_due());
    world.softirq();
    assert_eq!(world.tags(), [1, 2]);
}

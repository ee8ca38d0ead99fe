// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policies and kinds of devices, with the real worker's loop and a guest that follows the rules.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tsnic::net::pair::RX;
use tsnic::plan::Plan;
use tsnic_abi::Counter;
use tsnic_core::arming::Rearm;
use tsnic_core::policy::spec::PolicySpec;

use super::guest::{Mode, Owner};
use super::world::World;

const PACKETS: u32 = 300;

/// Soon enough for a poll to be under way when the next interrupt comes.
const SOON: Duration = Duration::from_micros(60);

/// Where a frame to send is.
const ZEROES: u64 = 0x8_0000;

const TIMER: Owner = Owner::Timer(Duration::from_micros(700));

/// Packets each way at random gaps while the policies are at work.
fn traffic(world: &mut World, gaps: u64, seed: u64, policies: [Vec<PolicySpec>; 2]) {
    world.set_policies_of_both(seed, policies);
    let mut gaps = Pcg64Mcg::seed_from_u64(gaps);
    for _ in 0..PACKETS {
        world.send([None]);
        world.rings.post_transmit(ZEROES, 100);
        world.poke();
        world.run_for(Duration::from_micros(gaps.random_range(0..400)));
    }
}

fn world(rearm: Rearm, mode: Mode, owner: Owner, seed: u64) -> World {
    World::of_kind(rearm, mode, owner, seed, Counter(u32::MAX - 100))
}

/// Packets that stay in the guest's ring with nothing to fetch them, once everything is over.
fn left(world: &mut World) -> usize {
    world.set_policies(Vec::new());
    world.run_for(Duration::from_millis(100));
    world.guest.ring.len()
}

/// The plans of the checkout, by name.
fn plans() -> Vec<(String, Plan)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plans");
    let files = fs::read_dir(directory).expect("there are plans");
    let mut plans: Vec<_> = files
        .map(|file| {
            let path = file.expect("it can be listed").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, Plan::load(&path).unwrap_or_else(|error| panic!("{error}")))
        })
        .collect();
    plans.sort_by(|one, other| one.0.cmp(&other.0));
    plans
}

#[test]
fn a_right_driver_comes_through_every_conformant_plan_of_the_checkout() {
    let mut tried = 0;
    for (name, plan) in plans() {
        if !plan.is_conformant() {
            continue;
        }
        for (owner, seed) in [(TIMER, 0), (TIMER, 1), (TIMER, 2), (Owner::Nobody, 3)] {
            let mut world = world(plan.all.interrupts.rearm, Mode::V4_11, owner, seed);
            world.set_moderation(plan.all.interrupts.moderation);
            world.set_packets(plan.seed, plan.all.packets.clone());
            traffic(&mut world, seed, plan.seed + seed, plan.all.policies.clone());
            // Some policies do nothing for so long.
            world.run_for(Duration::from_millis(200));
            for (queue, policies) in plan.all.policies.iter().enumerate() {
                let decided = world.schedule(queue);
                assert_eq!(decided.is_empty(), policies.is_empty(), "{name}, queue {queue}");
            }
            assert_eq!(left(&mut world), 0, "{name}, seed {seed}");
            let counters = world.counters();
            assert_eq!((counters.lost, counters.lost_to_drops), (0, 0), "{name}, seed {seed}");
            assert!(counters.rx_interrupts > 10, "{name}: {counters:?}");
            assert!(counters.tx_interrupts > 2, "{name}: {counters:?}");
        }
        tried += 1;
    }
    assert!(tried > 10, "only {tried} plans");
}

#[test]
fn a_plan_that_is_not_conformant_stops_a_right_driver() {
    for (name, plan) in plans().into_iter().filter(|(_, plan)| !plan.is_conformant()) {
        let failed = (0..3).any(|seed| {
            let mut world = world(plan.all.interrupts.rearm, Mode::V4_11, Owner::Nobody, seed);
            let before = world.counters();
            traffic(&mut world, seed, plan.seed + seed, plan.all.policies.clone());
            let counters = world.counters();
            // This driver reclaims when it sends: nothing else shows that it was not interrupted.
            let silent = counters.tx_interrupts == before.tx_interrupts;
            left(&mut world) != 0 || counters.lost + counters.lost_to_drops != 0 || silent
        });
        assert!(failed, "{name} is a control without power");
    }
}

#[test]
fn a_level_triggered_device_hides_the_race_of_4_10() {
    let lost = |rearm| -> u64 {
        (0..8)
            .map(|seed| {
                let mut world = world(rearm, Mode::V4_10, Owner::Timer(SOON), seed);
                world.guest.temper.window_ns = 20_000..200_000;
                traffic(&mut world, seed, seed, Default::default());
                world.counters().loss_candidates
            })
            .sum()
    };
    assert!(lost(Rearm::OneShot) > 0, "the control: one shot loses");
    assert_eq!(lost(Rearm::Level), 0);
}

#[test]
fn the_same_policies_and_seed_decide_the_same_for_the_same_intents() {
    for (name, plan) in plans() {
        let decided = |guest_seed, seed| {
            let mut world = world(plan.all.interrupts.rearm, Mode::V4_11, TIMER, guest_seed);
            traffic(&mut world, guest_seed, seed, plan.all.policies.clone());
            world.schedule(RX)
        };
        let schedule = decided(1, plan.seed);
        assert_eq!(decided(1, plan.seed), schedule, "{name}");
        if name.starts_with("jitter-uniform") {
            assert_ne!(decided(1, plan.seed + 1), schedule, "{name}: the seed decides");
            // Another guest has other intents at other times; the n-th is decided the same.
            let other = decided(2, plan.seed);
            let common = schedule.len().min(other.len());
            assert!(common > 50 && schedule[..common] == other[..common], "{name}");
        }
    }
}

#[test]
fn what_is_held_of_either_vector_goes_when_there_are_no_policies_any_more() {
    let mut world = world(Rearm::OneShot, Mode::V4_11, Owner::Nobody, 1);
    let late = || vec![PolicySpec::FixedDelay { delay_us: 5_000_000 }];
    world.set_policies_of_both(1, [late(), late()]);
    let before = world.counters();
    world.send([None]);
    world.rings.post_transmit(ZEROES, 100);
    world.poke();
    let held = world.counters();
    assert_eq!(held.interrupts_held, 2);
    assert_eq!(
        (held.rx_interrupts, held.tx_interrupts),
        (before.rx_interrupts, before.tx_interrupts)
    );
    world.set_policies(Vec::new());
    let after = world.counters();
    assert_eq!(
        (after.rx_interrupts, after.tx_interrupts),
        (held.rx_interrupts + 1, held.tx_interrupts + 1)
    );
}

// SPDX-License-Identifier: GPL-2.0-only
//! One execution: the threads of a world, and what is to be true of it in the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cpu::{self, Cpu};
use crate::protocol::Protocol;
use crate::runtime::{Atomic, Runtime};
use crate::scenario::{Owner, Scenario};
use crate::trace::{Event, Who};
use crate::verdict::{Execution, Violation};
use crate::world::World;

/// Runs one execution from beginning to end, inside a checker, and judges it.
#[must_use]
pub fn run<R: Runtime, P: Protocol>(scenario: Scenario) -> Execution {
    let world = Arc::new(World::<R>::new(scenario));
    let (first, others) = match scenario.owners.split_first() {
        Some((first, others)) => (Some(*first), others),
        None => (None, [].as_slice()),
    };
    if first.is_some() {
        world.start(device_thread::<R, P>);
    }
    for (number, owner) in (1..).zip(others.iter().copied()) {
        world.start(move |world| Cpu::<R, P>::new(world, Who::Owner(number)).own(owner));
    }
    world.running.fetch_add(1, Ordering::Relaxed);
    match first {
        Some(owner) => Cpu::<R, P>::new(&world, Who::Owner(0)).own(owner),
        None => device_thread::<R, P>(&world),
    }
    world.running.fetch_sub(1, Ordering::Relaxed);
    world.join();
    judge::<R, P>(&world)
}

/// The wire: each packet is put into the ring, and later, if one is due then, an interrupt
/// raised.
fn device_thread<R: Runtime, P: Protocol>(world: &Arc<World<R>>) {
    for left in (0..world.scenario.packets).rev() {
        world.device(1, |device| {
            let number = device.publish();
            world.trace.add(Who::Device, Event::Published(number));
        });
        let fired = world.device(0, |device| world.note_fire(device));
        match (fired, left) {
            (false, _) => {}
            // This thread has nothing else to do, so the handler may as well run here.
            (true, 0) => cpu::handler::<R, P>(world)(world),
            (true, _) => cpu::raise::<R, P>(world),
        }
    }
}

/// Nothing runs any more and nothing is going to. What is wrong?
fn judge<R: Runtime, P: Protocol>(world: &World<R>) -> Execution {
    let state = world.state.load(Ordering::SeqCst);
    let events = world.trace.events();
    let owned = state & P::BITS.sched_mask() != 0;
    let down =
        world.scenario.owners.iter().any(|owner| matches!(owner, Owner::Disable { reopen: false }));
    let left = world.used.load(Ordering::SeqCst) as u32 - world.consumed.load(Ordering::Relaxed);
    let (armed, due, says_lost) =
        world.device(0, |device| (device.armed(), device.due(), device.says_lost()));
    let violation = if events.iter().any(|(_, event)| *event == Event::Stuck) {
        Some(Violation::DisableNeverReturns)
    } else if owned && !down {
        Some(Violation::OwnedByNobody)
    } else if down && !owned {
        Some(Violation::NotDisabled)
    } else if !down && left > 0 && !due {
        Some(Violation::Lost)
    } else if exhausted_and_forgotten(&events) {
        Some(Violation::NotRescheduled)
    } else if called_lost_too_early(&events, P::BITS.sched_mask()) {
        Some(Violation::CalledLost)
    } else {
        None
    };
    // The device's own verdict, with which the experiments judge a guest, is about an idle
    // instance whose driver has armed.
    let wrong_verdict = world.scenario.arm_with_ci
        && !owned
        && armed
        && says_lost.is_some_and(|says| says != (left > 0 && !due));
    Execution::new(events, if wrong_verdict { Some(Violation::DeviceWrong) } else { violation })
}

/// A poll that used up its budget was the last thing that anybody did about the ring.
fn exhausted_and_forgotten(events: &[(Who, Event)]) -> bool {
    let last = |wanted: fn(&Event) -> bool| events.iter().rposition(|(_, event)| wanted(event));
    let exhausted = last(|event| *event == Event::Exhausted);
    let seen_to = last(|event| matches!(event, Event::PollBegins { .. } | Event::Completed { .. }));
    exhausted.is_some() && exhausted > seen_to
}

/// The device called a packet lost while somebody owned the instance whose poll then found it.
fn called_lost_too_early(events: &[(Who, Event)], sched: usize) -> bool {
    let mut owned = false;
    // Packets that were called lost during the present ownership.
    let mut called = None;
    for (_, event) in events {
        match *event {
            Event::Word { after, .. } => {
                owned = after & sched != 0;
                called = called.filter(|_| owned);
            }
            Event::CallsLost(end) if owned => called = Some(end),
            Event::Consumed { ci, .. } if called.is_some_and(|end| ci >= end) => return true,
            _ => {}
        }
    }
    false
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between what is said on the control socket and what the device's own parts are told.

use std::time::Duration;

use tsnic_core::moderation::{Limits, Setting};
use tsnic_core::nic_clock::{Adjustment, ppb_of_rate, rate_of_ppb};
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::time::{NicTime, Now};
use tsnic_core::{spec, stall};
use tsnic_protocol as protocol;
use tsnic_protocol::{Moderation, Occurrence, Reply, Vector, packets};

use crate::net::event::Event;
use crate::net::lateness::Summary;
use crate::net::pair::RX;
use crate::net::status::PairStatus;
use crate::port::wire::Direction;

/// The injection run that is asked for.
#[must_use]
pub fn injection(run: &protocol::InjectionSpec) -> RunRequest {
    let &protocol::InjectionSpec { seed, rounds, flow: addresses, stimulus, stuck_us } = run;
    let stimulus = match stimulus {
        protocol::Stimulus::Udp => spec::Stimulus::Udp,
        protocol::Stimulus::GroHeld => spec::Stimulus::GroHeld,
    };
    RunRequest::Injection(spec::InjectionSpec {
        seed,
        rounds,
        flow: flow(addresses),
        stimulus,
        stuck_us,
    })
}

/// The natural run that is asked for.
#[must_use]
pub fn natural(run: &protocol::NaturalSpec) -> RunRequest {
    let &protocol::NaturalSpec {
        seed,
        trials,
        flow: addresses,
        burst,
        burst_us,
        straggler_us,
        interrupt_us,
        stuck_us,
        nudges,
    } = run;
    RunRequest::Natural(spec::NaturalSpec {
        seed,
        trials,
        flow: flow(addresses),
        burst,
        burst_us,
        straggler_us,
        interrupt_us,
        stuck_us,
        nudges,
    })
}

/// The traffic monitor that is asked for.
#[must_use]
pub fn monitor(run: &protocol::MonitorSpec) -> RunRequest {
    let &protocol::MonitorSpec { seed, port, inject_per_mille } = run;
    RunRequest::Monitor(spec::MonitorSpec { seed, port, inject_per_mille })
}

fn flow(flow: protocol::Flow) -> spec::Flow {
    let protocol::Flow { guest_mac, guest_ip, guest_port, peer_mac, peer_ip, peer_port } = flow;
    spec::Flow { guest_mac, guest_ip, guest_port, peer_mac, peer_ip, peer_port }
}

fn outcome(outcome: spec::Outcome) -> protocol::Outcome {
    match outcome {
        spec::Outcome::Delivered => protocol::Outcome::Delivered,
        spec::Outcome::Lost => protocol::Outcome::Lost,
        spec::Outcome::Rescued => protocol::Outcome::Rescued,
        spec::Outcome::Inconclusive => protocol::Outcome::Inconclusive,
    }
}

fn round(round: spec::Round) -> protocol::Round {
    let spec::Round { outcome: result, reason, took_effect, delivered_ns, stuck_ns } = round;
    protocol::Round { outcome: outcome(result), reason, took_effect, delivered_ns, stuck_ns }
}

fn trial(trial: spec::Trial) -> protocol::Trial {
    let spec::Trial {
        offsets: spec::Offsets { burst_us, straggler_us, interrupt_us },
        outcome: result,
        reason,
        straggler_ns,
        interrupt_ns,
        handled_ns,
        owned,
        window,
        delivered_ns,
        stuck_ns,
    } = trial;
    protocol::Trial {
        offsets: protocol::Offsets { burst_us, straggler_us, interrupt_us },
        outcome: outcome(result),
        reason,
        straggler_ns,
        interrupt_ns,
        handled_ns,
        owned,
        window: window.map(|spec::Window { from_ns, to_ns }| protocol::Window { from_ns, to_ns }),
        delivered_ns,
        stuck_ns,
    }
}

/// The reply that tells the result of a run.
#[must_use]
pub fn finished(finished: Finished) -> Reply {
    match finished {
        Finished::Injection(spec::InjectionReport { rounds, stimuli, elapsed_ns }) => {
            Reply::Injection(protocol::InjectionReport {
                rounds: rounds.into_iter().map(round).collect(),
                stimuli,
                elapsed_ns,
            })
        }
        Finished::Natural(spec::NaturalReport { trials, lost, rescued, elapsed_ns }) => {
            let trials = trials.into_iter().map(trial).collect();
            Reply::Natural(protocol::NaturalReport { trials, lost, rescued, elapsed_ns })
        }
        Finished::Monitor(spec::MonitorReport { requests, injected, not_met, lost, rescued }) => {
            let injected = injected
                .into_iter()
                .map(|packet| protocol::Injected {
                    timestamp_ns: packet.timestamp.as_ns(),
                    outcome: outcome(packet.outcome),
                })
                .collect();
            Reply::Monitor(protocol::MonitorReport { requests, injected, not_met, lost, rescued })
        }
        Finished::Failed(message) => Reply::Error { message },
    }
}

fn vector_stalls(tally: &stall::Tally) -> protocol::stall::VectorStalls {
    let &stall::Tally {
        nudges,
        lost,
        ignored,
        suppressed,
        not_refilled,
        kick_lost,
        slow,
        stopped,
        by_policy,
        latest,
    } = tally;
    protocol::stall::VectorStalls {
        nudges,
        lost,
        ignored,
        suppressed,
        not_refilled,
        kick_lost,
        slow,
        stopped,
        by_policy,
        latest: latest.as_ref().map(evidence),
    }
}

/// What is told of an event.
#[must_use]
pub fn occurrence(event: Event) -> Occurrence {
    match event {
        Event::Connected => Occurrence::Connected,
        Event::Disconnected => Occurrence::Disconnected,
        Event::Started(queue) => Occurrence::Started { vector: vector(queue) },
        Event::Stopped(queue) => Occurrence::Stopped { vector: vector(queue) },
        Event::Broken(queue, reason) => Occurrence::Broken { vector: vector(queue), reason },
        Event::PageAccepted(generation) => Occurrence::PageAccepted { generation },
        Event::PageRefused(reason) => Occurrence::PageRefused { reason },
        Event::PageForgotten(generation, reason) => {
            Occurrence::PageForgotten { generation, reason: reason.into() }
        }
        Event::PortDetached(reason) => Occurrence::PortDetached { reason },
        Event::PortAttached => Occurrence::PortAttached,
        Event::Lost(lost, rescued) => Occurrence::Lost { lost, rescued },
        Event::Stalled(queue, found) => {
            Occurrence::Stalled { vector: vector(queue), stall: Box::new(evidence(&found)) }
        }
    }
}

const fn vector(queue: usize) -> Vector {
    if queue == RX { Vector::Rx } else { Vector::Tx }
}

fn evidence(evidence: &stall::Evidence) -> protocol::stall::Stall {
    let stall::Evidence { verdict, by_policy, at, waited, answered, nudges, seen } = evidence;
    protocol::stall::Stall {
        verdict: match verdict {
            stall::Verdict::Lost => protocol::stall::Verdict::Lost,
            stall::Verdict::Ignored => protocol::stall::Verdict::Ignored,
            stall::Verdict::Suppressed => protocol::stall::Verdict::Suppressed,
            stall::Verdict::NotRefilled => protocol::stall::Verdict::NotRefilled,
            stall::Verdict::KickLost => protocol::stall::Verdict::KickLost,
            stall::Verdict::Slow => protocol::stall::Verdict::Slow,
            stall::Verdict::Stopped => protocol::stall::Verdict::Stopped,
        },
        by_policy: *by_policy,
        at_ns: at.as_ns(),
        waited_ns: nanoseconds(*waited),
        answered_ns: answered.map(nanoseconds),
        nudges: *nudges,
        published: seen.published,
        available: seen.guest.available,
        asked: seen.guest.asked,
        consumed: seen.consumed,
        kicks: seen.guest.kicks,
        raised: seen.raised,
        intents: seen.intents,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn wire_direction(direction: &Direction) -> packets::WireDirection {
    packets::WireDirection {
        policies: direction.policies.iter().map(|&name| name.to_owned()).collect(),
        frames: direction.frames,
    }
}

fn moderation((vector, setting): (Vector, Setting)) -> Moderation {
    let Setting { limits: Limits { usecs, frames }, adaptive } = setting;
    Moderation { vector, usecs, frames, adaptive }
}

/// The adjustment of the clock that is asked for.
#[must_use]
pub const fn adjustment(adjustment: protocol::Adjustment) -> Adjustment {
    match adjustment {
        protocol::Adjustment::SetNs(ns) => Adjustment::Set(NicTime::from_ns(ns)),
        protocol::Adjustment::StepNs(ns) => Adjustment::Step(ns),
        protocol::Adjustment::RatePpb(ppb) => Adjustment::Rate(rate_of_ppb(ppb)),
    }
}

fn clock((now, rate): (Now, i64)) -> protocol::NicClock {
    let (ns, timer_ns) = (now.nic.as_ns(), now.timer.as_ns());
    protocol::NicClock { ns, timer_ns, rate_ppb: ppb_of_rate(rate) }
}

fn lateness((vector, summary): (Vector, Option<Summary>)) -> Option<protocol::Lateness> {
    let Summary { count, median_ns, p99_ns, max_ns } = summary?;
    Some(protocol::Lateness { vector, count, median_ns, p99_ns, max_ns })
}

/// The state of the device.
#[must_use]
pub fn status(status: &PairStatus) -> protocol::Status {
    let page = status.page;
    protocol::Status {
        pair: status.number,
        // The control socket knows how many there are.
        pairs: 1,
        running: status.running,
        port: status.port_detached.clone().map_or(protocol::PortState::Attached, |reason| {
            protocol::PortState::Detached { reason }
        }),
        wire: status
            .wire
            .as_ref()
            .map(|[rx, tx]| packets::Wire { rx: wire_direction(rx), tx: wire_direction(tx) }),
        page: page.map(|page| page.generation),
        produced: page.map_or(0, |page| page.produced),
        signaled: page.map_or(0, |page| page.signaled),
        ci: page.map_or(0, |page| page.ci),
        armed: page.is_some_and(|page| page.armed),
        fired: page.map_or(0, |page| page.fired),
        moderation: [Vector::Rx, Vector::Tx]
            .into_iter()
            .zip(status.moderation)
            .map(moderation)
            .collect(),
        clock: clock(status.clock),
        lateness: [Vector::Rx, Vector::Tx]
            .into_iter()
            .zip(status.lateness)
            .filter_map(lateness)
            .collect(),
        stalls: status
            .stalls
            .as_ref()
            .map(|[rx, tx]| protocol::Stalls { rx: vector_stalls(rx), tx: vector_stalls(tx) }),
        counters: (&status.counters).into(),
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What runs are asked for and what they report.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::time::NicTime;

/// Where generated frames come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The guest's MAC address.
    pub guest_mac: [u8; 6],
    /// The guest's address.
    pub guest_ip: Ipv4Addr,
    /// The guest's UDP port.
    pub guest_port: u16,
    /// The imaginary peer's MAC address.
    pub peer_mac: [u8; 6],
    /// The imaginary peer's address.
    pub peer_ip: Ipv4Addr,
    /// The imaginary peer's UDP port.
    pub peer_port: u16,
}

/// The frame that starts a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stimulus {
    /// A UDP datagram of the flow: it wakes a busy-polling receiver, or makes the driver refill.
    Udp,
    /// A TCP segment that GRO holds, to an address the guest does not have: it leaves the
    /// `gro_flush_timeout` watchdog armed.
    GroHeld,
}

/// A run of rounds: stimulus, rendezvous, injection with one UDP datagram of the flow, verdict,
/// and, when lost, the next packet.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectionSpec {
    /// Seed of every random choice.
    pub seed: u64,
    /// Rounds.
    pub rounds: u32,
    /// Addresses.
    pub flow: Flow,
    /// What starts a round.
    pub stimulus: Stimulus,
    /// How long a lost packet is left alone before the next one is sent: uniform between these,
    /// microseconds.
    pub stuck_us: (u32, u32),
}

/// What became of a packet whose interrupt was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An arm covered it without it ever having been lost.
    Delivered,
    /// Lost (interface rule 5) until the next packet.
    Lost,
    /// Was lost, then found by a poll that no interrupt of this device started.
    Rescued,
    /// It was not placed, or its result was not seen.
    Inconclusive,
}

/// One round.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The result.
    pub outcome: Outcome,
    /// Why, when inconclusive.
    pub reason: Option<String>,
    /// The injection took effect: the handler found the NAPI owned, and the guest was let go. An
    /// inconclusive round after that is no mishap of the set-up: the guest did not do with the
    /// packet what it should.
    pub took_effect: bool,
    /// Delivered: device timestamp of the packet to the arm that covered it, ns.
    pub delivered_ns: Option<u64>,
    /// Lost or rescued: device timestamp of the packet to the arm that covered it at last, ns.
    pub stuck_ns: Option<u64>,
}

/// Result of a [`InjectionSpec`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InjectionReport {
    /// One entry a round, in order.
    pub rounds: Vec<Round>,
    /// Stimuli sent, repeats included. A round that follows another one may need none.
    pub stimuli: u32,
    /// How long it took, ns.
    pub elapsed_ns: u64,
}

/// Trials with no rendezvous: a segment that GRO holds, a burst, a straggler and its interrupt, all
/// placed by time. Offsets are uniform between two numbers of microseconds, at most 100,000.
#[derive(Clone, Debug, PartialEq)]
pub struct NaturalSpec {
    /// Seed of every random choice.
    pub seed: u64,
    /// Trials: 1 to 100,000.
    pub trials: u32,
    /// Addresses.
    pub flow: Flow,
    /// UDP datagrams of the burst, which are published together: 1 to 62. A segment that ends what
    /// GRO holds comes before them.
    pub burst: u32,
    /// From the arm that covers the segment to the burst.
    pub burst_us: (u32, u32),
    /// From the burst to the straggler.
    pub straggler_us: (u32, u32),
    /// From the straggler to the interrupt.
    pub interrupt_us: (u32, u32),
    /// How long a lost packet is left alone before the next one is sent.
    pub stuck_us: (u32, u32),
    /// The stall detector looks on while a packet is lost, and nudges the guest. Otherwise it rests,
    /// as in every run.
    pub nudges: bool,
}

/// What is drawn for one trial of a [`NaturalSpec`], microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// From the arm that covers the segment to the burst.
    pub burst_us: u32,
    /// From the burst to the straggler.
    pub straggler_us: u32,
    /// From the straggler to the interrupt.
    pub interrupt_us: u32,
}

/// The window of a poll that another owner than the interrupt began, from the burst on, as far as
/// the device sees it: it looks every few tens of microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The poll looks at the ring no more.
    pub from_ns: u64,
    /// `SCHED` has been released, and the queue armed.
    pub to_ns: u64,
}

/// One trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What was drawn.
    pub offsets: Offsets,
    /// The result of the straggler, or of the segment if that was lost already.
    pub outcome: Outcome,
    /// Why, when inconclusive.
    pub reason: Option<String>,
    /// When the straggler was published, from the burst, ns.
    pub straggler_ns: Option<u64>,
    /// When the interrupt was raised, from the straggler, ns; `None` when the queue was not armed
    /// then.
    pub interrupt_ns: Option<u64>,
    /// From there to the first look that saw that the handler had run, ns.
    pub handled_ns: Option<u64>,
    /// The handler found the NAPI owned.
    pub owned: bool,
    /// The window, when a poll was seen in it.
    pub window: Option<Window>,
    /// Delivered: from the straggler's timestamp to the arm that covered it, ns.
    pub delivered_ns: Option<u64>,
    /// Lost or rescued: the same, ns.
    pub stuck_ns: Option<u64>,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            offsets: Offsets::default(),
            outcome: Outcome::Inconclusive,
            reason: None,
            straggler_ns: None,
            interrupt_ns: None,
            handled_ns: None,
            owned: false,
            window: None,
            delivered_ns: None,
            stuck_ns: None,
        }
    }
}

/// Result of a [`NaturalSpec`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NaturalReport {
    /// One entry a trial, in order.
    pub trials: Vec<Trial>,
    /// Every loss in the run.
    pub lost: u32,
    /// Every rescue.
    pub rescued: u32,
    /// How long it took, ns.
    pub elapsed_ns: u64,
}

/// Monitor TCP requests (frames with payload) that the port brings for one port.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorSpec {
    /// Seed of the choice of victims.
    pub seed: u64,
    /// The guest's TCP port.
    pub port: u16,
    /// Requests injected at the rendezvous, per thousand; 0: only count natural losses.
    pub inject_per_mille: u32,
}

/// A request injected at the rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Timestamp of its frame (the guest sees the same on its socket).
    pub timestamp: NicTime,
    /// What became of it.
    pub outcome: Outcome,
}

/// Result of a [`MonitorSpec`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MonitorReport {
    /// Frames with payload for the port.
    pub requests: u32,
    /// The injected ones.
    pub injected: Vec<Injected>,
    /// Requests chosen, but the guest did not come to the rendezvous in time: delivered as any
    /// other.
    pub not_met: u32,
    /// Every loss in the run, injected or natural.
    pub lost: u32,
    /// Every rescue.
    pub rescued: u32,
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is said on the control socket: one JSON object a line, requests in, replies out.
//!
//! One run at a time. A run's reply is preceded by any number of [`Reply::Progress`] lines.

mod counters;
mod event;
pub mod line;
pub mod packets;
pub mod plan;
pub mod policy;
pub mod stall;

pub use counters::Counters;
pub use event::{Event, Occurrence};
pub use packets::Packets;
pub use policy::{Policy, Vector};
pub use stall::Stalls;

use std::net::Ipv4Addr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Map;

/// A request to the backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Ask for [`Reply::Status`].
    Status,
    /// Run rounds at the rendezvous; answered by [`Reply::Injection`].
    Injection(InjectionSpec),
    /// Run trials with no rendezvous; answered by [`Reply::Natural`].
    Natural(NaturalSpec),
    /// Monitor, and from time to time inject, the requests that come in on the port; answered by
    /// [`Reply::MonitorStarted`].
    MonitorStart(MonitorSpec),
    /// End the traffic monitor; answered by [`Reply::Monitor`].
    MonitorStop,
    /// Moderate the interrupts of a vector otherwise from now on; answered by [`Reply::Done`].
    Moderation(Moderation),
    /// Let these policies decide on interrupts from now on, instead of those before, on both
    /// vectors; answered by [`Reply::Done`]. An empty list ends them.
    Policies(Policies),
    /// Let these packet policies decide on frames from now on, instead of those before, in both
    /// directions; answered by [`Reply::Done`]. An empty list ends them.
    Packets(Packets),
    /// Adjust the NIC's clock; answered by [`Reply::Done`].
    Clock(Adjustment),
    /// What the policies of a vector have decided since they were set; answered by
    /// [`Reply::Schedule`].
    Schedule {
        /// Which.
        vector: Vector,
    },
    /// Tell of everything that happens to any queue pair from now on; answered by [`Reply::Done`],
    /// and by a [`Reply::Event`] each time, until the connection ends.
    Events,
}

/// A request, and the queue pair that it is for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairRequest {
    /// Number of the pair, from 0: 0, when left out.
    #[serde(skip_serializing_if = "is_first")]
    pub pair: u16,
    /// What is asked of it.
    #[serde(flatten)]
    pub request: Request,
}

impl From<Request> for PairRequest {
    /// To the first pair.
    fn from(request: Request) -> Self {
        Self { pair: 0, request }
    }
}

impl<'de> Deserialize<'de> for PairRequest {
    /// By hand, for a flattened field lets fields pass that nobody knows.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let pair = fields.remove("pair").map_or(Ok(0), serde_json::from_value);
        let pair = pair.map_err(|error| D::Error::custom(format!("pair: {error}")))?;
        // The tag alone, or the name of one more.
        let other = fields.keys().find(|name| *name != "request").cloned();
        let request = serde_json::from_value(fields.into()).map_err(D::Error::custom)?;
        match (&request, other) {
            (Request::Status | Request::MonitorStop | Request::Events, Some(other)) => {
                Err(D::Error::custom(format!("unknown field `{other}`")))
            }
            _ => Ok(Self { pair, request }),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_first(pair: &u16) -> bool {
    *pair == 0
}

/// A reply of the backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The state of the device.
    Status(Box<Status>),
    /// A run goes on.
    Progress {
        /// Rounds or trials done.
        done: u32,
        /// Rounds or trials asked for.
        total: u32,
    },
    /// The injection run is over.
    Injection(InjectionReport),
    /// The natural run is over.
    Natural(NaturalReport),
    /// Requests are being watched.
    MonitorStarted,
    /// The traffic monitor is over.
    Monitor(MonitorReport),
    /// It is done.
    Done,
    /// What policies have decided.
    Schedule(ScheduleReport),
    /// Something has happened, to a connection that has asked for [`Request::Events`].
    Event(Event),
    /// The request could not be carried out.
    Error {
        /// What, and why.
        message: String,
    },
}

/// Moderation of one vector, with the meaning of `ethtool -C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moderation {
    /// Which.
    pub vector: Vector,
    /// Microseconds from the first packet that no interrupt was raised for; 0: no limit of time.
    #[serde(default)]
    pub usecs: u32,
    /// Packets that no interrupt was raised for; 0: no limit of packets.
    #[serde(default)]
    pub frames: u32,
    /// The device chooses both by the traffic. What is said of them counts when this ends.
    #[serde(default)]
    pub adaptive: bool,
}

/// Policies for both vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Seed of their random choices.
    pub seed: u64,
    /// The policies; those of one vector are asked in this order.
    pub policies: Vec<Policy>,
}

/// What the policies of a vector have decided, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleReport {
    /// The entries: as many as are kept.
    pub entries: Vec<policy::Entry>,
    /// Later ones, which are not.
    pub left_out: u64,
}

/// Device state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Number of the queue pair, from 0.
    #[serde(default)]
    pub pair: u16,
    /// Queue pairs of the device.
    #[serde(default)]
    pub pairs: u16,
    /// A vhost-user front end is connected and has started both queues.
    pub running: bool,
    /// Whether frames can come in and go out.
    pub port: PortState,
    /// What the wire does; `None` when it has no policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<packets::Wire>,
    /// Generation of the shared queue page in use; `None` when the device is plain virtio-net.
    pub page: Option<u32>,
    /// Receive completions published.
    pub produced: u32,
    /// Receive completions covered by the last interrupt.
    pub signaled: u32,
    /// Receive completions consumed, as last written by the driver.
    pub ci: u32,
    /// The receive queue is armed.
    pub armed: bool,
    /// Interrupts raised.
    pub fired: u32,
    /// Moderation of each vector, with the limits in force.
    #[serde(default)]
    pub moderation: Vec<Moderation>,
    /// How late the interrupts were that policies placed, since these were set; left out when none
    /// was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lateness: Vec<Lateness>,
    /// The NIC's clock.
    #[serde(default)]
    pub clock: NicClock,
    /// What the stall detector has found out; `None` when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls: Option<Stalls>,
    /// The counters.
    pub counters: Counters,
}

/// How late the interrupts of a vector were that policies placed: from the time at which one was due
/// to the return of the write to its eventfd. Nanoseconds, in two digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// Which.
    pub vector: Vector,
    /// Interrupts.
    pub count: u64,
    /// Half of them were at most so late.
    pub median_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// The latest.
    pub max_ns: u64,
}

/// An adjustment of the NIC's clock: exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Adjustment {
    /// It shows so many nanoseconds now.
    SetNs(u64),
    /// It goes so many nanoseconds on, or back.
    StepNs(i64),
    /// It runs so much faster than the host's from now on, or slower: parts in a billion, at most
    /// 100,000,000.
    RatePpb(i64),
}

/// The NIC's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicClock {
    /// What it shows, nanoseconds.
    pub ns: u64,
    /// Timer time of the same moment (the host's `CLOCK_MONOTONIC`), which it showed at first.
    pub timer_ns: u64,
    /// How much faster it runs, parts in a billion.
    pub rate_ppb: i64,
}

/// State of the port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PortState {
    /// Frames come in and go out.
    #[default]
    Attached,
    /// They do not: the host's interface is gone. The device attaches to it again when it is back.
    Detached {
        /// What is known of the cause.
        reason: String,
    },
}

/// Where generated frames come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stimulus {
    /// A UDP datagram of the flow: it wakes a busy-polling receiver, or makes the driver refill.
    Udp,
    /// A TCP segment that GRO holds, to an address the guest does not have: it leaves the
    /// `gro_flush_timeout` watchdog armed.
    GroHeld,
}

/// A run of rounds: stimulus, rendezvous, injection with one UDP datagram of the flow, verdict,
/// and, when lost, the next packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The result.
    pub outcome: Outcome,
    /// Why, when inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The injection took effect: the handler found the NAPI owned, and the guest was let go. An
    /// inconclusive round after that is no mishap of the set-up: the guest did not do with the
    /// packet what it should.
    #[serde(default)]
    pub took_effect: bool,
    /// Delivered: device timestamp of the packet to the arm that covered it, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_ns: Option<u64>,
    /// Lost or rescued: device timestamp of the packet to the arm that covered it at last, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_ns: Option<u64>,
}

/// Result of a [`InjectionSpec`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub nudges: bool,
}

/// What is drawn for one trial of a [`NaturalSpec`], microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The poll looks at the ring no more.
    pub from_ns: u64,
    /// `SCHED` has been released, and the queue armed.
    pub to_ns: u64,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What was drawn.
    pub offsets: Offsets,
    /// The result of the straggler, or of the segment if that was lost already.
    pub outcome: Outcome,
    /// Why, when inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the straggler was published, from the burst, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub straggler_ns: Option<u64>,
    /// When the interrupt was raised, from the straggler, ns; `None` when the queue was not armed
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupt_ns: Option<u64>,
    /// From there to the first look that saw that the handler had run, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_ns: Option<u64>,
    /// The handler found the NAPI owned.
    pub owned: bool,
    /// The window, when a poll was seen in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Delivered: from the straggler's timestamp to the arm that covered it, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_ns: Option<u64>,
    /// Lost or rescued: the same, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_ns: Option<u64>,
}

/// Result of a [`NaturalSpec`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorSpec {
    /// Seed of the choice of victims.
    pub seed: u64,
    /// The guest's TCP port.
    pub port: u16,
    /// Requests injected at the rendezvous, per thousand; 0: only count natural losses.
    pub inject_per_mille: u32,
}

/// A request injected at the rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Device timestamp of its frame (the guest sees the same on its socket), ns.
    pub timestamp_ns: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Result of a [`MonitorSpec`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

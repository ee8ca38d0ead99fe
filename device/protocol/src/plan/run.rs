// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What testvm puts the guest through while a plan is at work.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::stall::Verdict;

/// What testvm puts the guest through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// The driver in the guest; the stock driver, and ours as it is after the fix, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// What the tsnic driver does wrong meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Behaviour>,
    /// What goes on meanwhile.
    #[serde(skip_serializing_if = "is_usual")]
    pub traffic: Traffic,
    /// Of a rendezvous run: who owns `NAPI_STATE_SCHED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Of injected RPCs: how many of a thousand are injected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_per_mille: Option<u32>,
    /// Requests over TCP, each answered before the next; trials of a natural run; rounds of a
    /// rendezvous run.
    pub requests: u32,
    /// What is expected of the driver.
    pub expect: Expectation,
    /// The one kind of stall that is expected; any, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Verdict>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            driver: None,
            behaviour: None,
            traffic: Traffic::default(),
            owner: None,
            inject_per_mille: None,
            requests: 1_000,
            expect: Expectation::default(),
            stall: None,
        }
    }
}

/// A driver in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// The stock driver of the guest's kernel.
    #[serde(rename = "virtio_net")]
    VirtioNet,
    /// The tsnic driver, as it is after the fix of Linux 4.11.
    #[serde(rename = "v4_11")]
    TsnicV411,
    /// The tsnic driver, as it was before.
    #[serde(rename = "v4_10")]
    TsnicV410,
    /// The tsnic driver, as it is after the fix, on a kernel whose `napi_schedule_prep()` a
    /// livepatch has turned into that of before.
    #[serde(rename = "livepatch")]
    Livepatch,
}

/// Who owns `NAPI_STATE_SCHED` when the interrupt comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The driver's own `napi_schedule`, from its refill timer.
    Driver,
    /// A receiver with `SO_BUSY_POLL`.
    BusyPoll,
    /// The `gro_flush_timeout` watchdog.
    Watchdog,
}

impl Owner {
    /// In the order of reports.
    pub const ALL: [Self; 3] = [Self::Driver, Self::BusyPoll, Self::Watchdog];
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Driver => "driver",
            Self::BusyPoll => "busy-poll",
            Self::Watchdog => "watchdog",
        })
    }
}

/// What the tsnic driver does wrong: its parameter of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Its refills go as if memory had run out.
    OutOfMemory,
    /// It never refills its receive ring.
    NoRefill,
    /// It never kicks for a frame that it transmits.
    NoKick,
}

impl Behaviour {
    /// The value of the parameter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out-of-memory",
            Self::NoRefill => "no-refill",
            Self::NoKick => "no-kick",
        }
    }
}

/// What goes on while a plan is at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// Requests over TCP, and datagrams that nobody wants.
    #[default]
    Rpc,
    /// The natural run: bursts, and packets after them, while the `gro_flush_timeout` watchdog
    /// polls. A packet that is lost is left to the stall detector.
    Natural,
    /// Rounds at the rendezvous: a poll of `owner` is held there, and a packet and its interrupt
    /// are injected.
    Rendezvous,
    /// Requests over TCP, of which some are injected at the rendezvous.
    InjectedRpc,
}

impl Traffic {
    /// The device places packets and interrupts itself, at states of the tsnic driver.
    #[must_use]
    pub const fn is_placed(self) -> bool {
        !matches!(self, Self::Rpc)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rpc => "rpc",
            Self::Natural => "natural",
            Self::Rendezvous => "rendezvous",
            Self::InjectedRpc => "injected-rpc",
        })
    }
}

fn is_usual<T: Default + PartialEq>(it: &T) -> bool {
    *it == T::default()
}

/// What is expected of a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// It delivers everything.
    #[default]
    Survives,
    /// It stalls: the plan is a control.
    Stalls,
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a queue pair at one moment.

use tsnic_core::counters::Counters;
use tsnic_core::moderation::Setting;
use tsnic_core::rx_irq::RxIrq;
use tsnic_core::stall::Tally;
use tsnic_core::time::Now;

use super::lateness::Summary;
use crate::port::wire::Directions;

/// What a pair says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairStatus {
    /// Its number.
    pub number: u16,
    /// Both queues have been started, and neither is broken.
    pub running: bool,
    /// Why no frames come in or go out of the port, as long as that is so.
    pub port_detached: Option<String>,
    /// The wire's policies; `None` when it has none.
    pub wire: Option<Directions>,
    /// The shared queue page in use; `None` when the device is plain virtio-net.
    pub page: Option<PageStatus>,
    /// Moderation by queue: adaptive or not, and the limits in force.
    pub moderation: [Setting; 2],
    /// How late placed interrupts were since the policies were set, by queue; `None` when none was
    /// placed.
    pub lateness: [Option<Summary>; 2],
    /// The NIC's clock now, and its rate.
    pub clock: (Now, i64),
    /// What the stall detector has found out, by queue; `None` when there is none.
    pub stalls: Option<[Tally; 2]>,
    /// The counters.
    pub counters: Counters,
}

/// The interrupt state of a receive queue whose driver has registered a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageStatus {
    /// Generation of the accepted registration.
    pub generation: u32,
    /// Completions published.
    pub produced: u32,
    /// Completions covered by the last interrupt.
    pub signaled: u32,
    /// Completions consumed, as last written by the driver.
    pub ci: u32,
    /// An interrupt will be raised for the next completion.
    pub armed: bool,
    /// Number of the latest interrupt.
    pub fired: u32,
}

impl PageStatus {
    /// Of a page registered with this generation.
    #[must_use]
    pub const fn new(generation: u32, irq: &RxIrq) -> Self {
        let irq = irq.interrupts();
        Self {
            generation,
            produced: irq.produced().0,
            signaled: irq.signaled().0,
            ci: irq.ci().0,
            armed: irq.armed(),
            fired: irq.fired().0,
        }
    }
}

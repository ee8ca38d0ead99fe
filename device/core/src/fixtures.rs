// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values that the tests of several modules need.

use core::net::Ipv4Addr;

use tsnic_abi::Counter;

use crate::path::Gate as _;
use crate::progress::Doorbell;
use crate::rx_irq::RxIrq;
use crate::spec::Flow;
use crate::time::{Instant, NicTime};

/// An address for everything.
pub const FLOW: Flow = Flow {
    guest_mac: [2, 0, 0, 0, 0, 1],
    guest_ip: Ipv4Addr::new(10, 0, 0, 1),
    guest_port: 9,
    peer_mac: [2, 0, 0, 0, 0, 2],
    peer_ip: Ipv4Addr::new(10, 0, 0, 2),
    peer_port: 10,
};

/// NIC time at an instant of timer time.
pub fn stamp(at: Instant) -> NicTime {
    NicTime::from_ns(at.as_ns())
}

/// Arm number `arm` of a driver that has seen one interrupt less, as one that arms after each has.
pub fn bell(arm: u32, ci: u32) -> Doorbell {
    Doorbell { arm: Counter(arm), irq_seen: Counter(arm - 1), ci: Counter(ci) }
}

/// Lets an interrupt of a queue without moderation and policies through and raises it.
pub fn fire(irq: &mut RxIrq) -> Option<Counter> {
    irq.pass().then(|| irq.raise())
}

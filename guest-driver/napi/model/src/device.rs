// SPDX-License-Identifier: GPL-2.0-only
//! The device: tsnic's own arming state machine, and two devices that are made differently.

use tsnic_abi::Counter;
use tsnic_core::arming::Interrupts;

/// How a device decides whether an arm raises an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// tsnic, and the hardware of the changelog: for what was published since the last interrupt,
    /// or since `ci` if that is later. Never twice for one packet.
    OneShot,
    /// For whatever the driver has not consumed, signaled before or not, as a level-triggered line
    /// would.
    LevelTriggered,
    /// Only for what is published while armed: an arm never raises one.
    EdgeTriggered,
}

/// A device with one receive queue.
#[derive(Debug)]
pub struct Device {
    interrupts: Interrupts,
    kind: Kind,
}

impl Device {
    /// With `waiting` packets published; if it is armed, moderation holds their interrupt back.
    #[must_use]
    pub fn new(kind: Kind, waiting: u32, armed: bool) -> Self {
        let mut interrupts = Interrupts::at_registration(Counter(0), 0, Counter(0), Counter(0));
        if armed {
            interrupts.arm(Counter(1), Counter(0));
        }
        interrupts.publish(waiting);
        Self { interrupts, kind }
    }

    /// One more packet is in the ring. Packets published so far.
    pub fn publish(&mut self) -> u32 {
        self.interrupts.publish(1);
        self.interrupts.produced().0
    }

    /// Raises an interrupt if one is due; packets that it covers, all told.
    pub fn fire(&mut self) -> Option<u32> {
        if !self.interrupts.signal() {
            return None;
        }
        let _ = self.interrupts.raise();
        Some(self.interrupts.signaled().0)
    }

    /// The driver wants to be interrupted for packets after the first `ci`; `None` when it does not
    /// say how far it is.
    pub fn arm(&mut self, ci: Option<u32>) {
        let now = &self.interrupts;
        let ci = ci.map_or(now.ci(), Counter);
        let reset = |signaled: Counter| {
            Interrupts::at_registration(
                signaled,
                now.produced().0 as u16,
                now.last_arm(),
                now.fired(),
            )
        };
        let (mut armed, ci) = match self.kind {
            Kind::OneShot => (now.clone(), ci),
            Kind::LevelTriggered => (reset(ci), ci),
            Kind::EdgeTriggered => (reset(now.produced()), now.produced()),
        };
        armed.arm(now.last_arm().plus(1), ci);
        self.interrupts = armed;
    }

    /// An interrupt is due.
    #[must_use]
    pub fn due(&self) -> bool {
        self.interrupts.requested()
    }

    /// The device's own verdict that a packet is lost, where it has one.
    #[must_use]
    pub fn says_lost(&self) -> Option<bool> {
        (self.kind == Kind::OneShot).then(|| self.interrupts.loss_candidate())
    }

    /// Whether it is armed.
    #[must_use]
    pub fn armed(&self) -> bool {
        self.interrupts.armed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that raised an interrupt for its first packet, of which the driver consumed none.
    fn after_an_interrupt(kind: Kind) -> Device {
        let mut device = Device::new(kind, 1, true);
        assert_eq!(device.fire(), Some(1));
        device
    }

    #[test]
    fn one_shot_never_interrupts_twice_for_one_packet() {
        let mut device = after_an_interrupt(Kind::OneShot);
        device.arm(Some(0));
        assert!(device.armed() && !device.due());
        assert_eq!(device.says_lost(), Some(true));
    }

    #[test]
    fn one_that_ignores_signaled_does() {
        let mut device = after_an_interrupt(Kind::LevelTriggered);
        device.arm(Some(0));
        assert!(device.due());
        device.arm(Some(1));
        assert!(!device.due(), "the driver has consumed it");
    }

    #[test]
    fn edge_only_forgets_what_came_while_it_was_not_armed() {
        let mut device = after_an_interrupt(Kind::EdgeTriggered);
        device.publish();
        device.arm(Some(1));
        assert!(!device.due());
        device.publish();
        assert!(device.due());
    }

    #[test]
    fn without_ci_an_arm_interrupts_for_what_was_consumed() {
        let mut device = after_an_interrupt(Kind::OneShot);
        device.publish();
        device.arm(Some(2));
        assert!(!device.due());
        device.publish();
        device.fire();
        device.publish();
        device.arm(None);
        assert!(device.due());
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The device: tsnic's own arming state machine, and two devices that are made differently.

use tsnic_abi::{Counter, phase};
use tsnic_core::arming::Interrupts;
use tsnic_core::loss::{LossDetector, LossState};
use tsnic_core::progress::Progress;

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
    detector: LossDetector,
    progress: Progress,
    /// The detector's state after the last step.
    loss_state: LossState,
}

/// Number of the last arm before the first poll; polls are numbered from 1, and arms with them.
const NO_ARM: Counter = Counter(u32::MAX);

impl Device {
    /// With `waiting` packets published; if it is armed, moderation holds their interrupt back.
    #[must_use]
    pub fn new(kind: Kind, waiting: u32, armed: bool) -> Self {
        let mut interrupts = Interrupts::at_registration(Counter(0), 0, NO_ARM, Counter(0));
        if armed {
            interrupts.arm(NO_ARM.plus(1), Counter(0));
        }
        interrupts.publish(waiting);
        Self {
            interrupts,
            kind,
            detector: LossDetector::default(),
            progress: Progress { phase: phase::IDLE, ..Progress::default() },
            loss_state: LossState::Clear,
        }
    }

    /// One more packet is due, and is in the ring. Packets published so far.
    pub fn publish(&mut self) -> u32 {
        self.detector.judge(&self.interrupts, &self.progress);
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

    /// The poll of that number wants an interrupt for packets after the first `ci`; `None` when it
    /// does not say how far it is. Its driver had seen interrupts up to `irq_seen`; `None` when it
    /// does not say, and is believed to have seen all.
    pub fn arm(&mut self, number: u32, ci: Option<u32>, irq_seen: Option<Counter>) {
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
        armed.arm(Counter(number), ci);
        self.interrupts = armed;
        let irq_seen = irq_seen.unwrap_or(self.interrupts.fired());
        self.detector.armed(&self.interrupts, &self.progress, irq_seen);
    }

    /// Number of the latest interrupt, as its handler reads it.
    #[must_use]
    pub const fn fired(&self) -> Counter {
        self.interrupts.fired()
    }

    /// The handler that read `fired` has looked at the NAPI, and took it or found it owned.
    pub fn interrupt_seen(&mut self, fired: Counter, taken: bool) {
        let owned = &mut self.progress.irq_owned;
        if !taken {
            *owned = fired;
        } else if *owned == fired {
            // Of two runs for one interrupt the later is the answer.
            *owned = Counter(fired.0.wrapping_sub(1));
        }
        self.progress.irq_seen = fired;
    }

    /// The progress cell of that name.
    #[must_use]
    pub const fn irq_seen(&self) -> Counter {
        self.progress.irq_seen
    }

    /// A poll begins.
    pub const fn poll_begins(&mut self) {
        self.progress.phase = phase::POLL;
    }

    /// The poll looks at the ring no more.
    pub const fn poll_ends(&mut self) {
        self.progress.phase = phase::IDLE;
    }

    /// The detector looks: true when what is not consumed is lost and was not at its last look.
    pub fn turns_lost(&mut self) -> bool {
        let before = self.loss_state;
        self.loss_state = self.detector.look(&self.interrupts, &self.progress);
        self.loss_state == LossState::Lost && before != LossState::Lost
    }

    /// Packets published.
    #[must_use]
    pub const fn produced(&self) -> u32 {
        self.interrupts.produced().0
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
        device.arm(1, Some(0), None);
        assert!(device.armed() && !device.due());
        assert_eq!(device.says_lost(), Some(true));
    }

    #[test]
    fn one_that_ignores_signaled_does() {
        let mut device = after_an_interrupt(Kind::LevelTriggered);
        device.arm(1, Some(0), None);
        assert!(device.due());
        device.arm(2, Some(1), None);
        assert!(!device.due(), "the driver has consumed it");
    }

    #[test]
    fn edge_only_forgets_what_came_while_it_was_not_armed() {
        let mut device = after_an_interrupt(Kind::EdgeTriggered);
        device.publish();
        device.arm(1, Some(1), None);
        assert!(!device.due());
        device.publish();
        assert!(device.due());
    }

    #[test]
    fn without_ci_an_arm_interrupts_for_what_was_consumed() {
        let mut device = after_an_interrupt(Kind::OneShot);
        device.publish();
        device.arm(1, Some(2), None);
        assert!(!device.due());
        device.publish();
        device.fire();
        device.publish();
        device.arm(2, None, None);
        assert!(device.due());
    }

    /// Poll 2 ran between the completion of poll 1 and its arm, on another CPU, and armed first.
    #[test]
    fn the_arm_of_poll_1_after_that_of_poll_2_is_no_error_and_takes_nothing_back() {
        let mut device = after_an_interrupt(Kind::OneShot);
        device.interrupt_seen(Counter(1), false);
        device.arm(2, Some(0), Some(Counter(1)));
        assert!(device.turns_lost(), "the handler found poll 2's owner, which has armed");
        device.arm(1, Some(0), Some(Counter(0)));
        assert!(device.armed() && !device.due());
        assert!(!device.turns_lost());
        assert_eq!(device.loss_state, LossState::Lost);
        assert_eq!(device.interrupts.ci_errors(), 0);
        device.publish();
        assert!(device.due());
    }
}

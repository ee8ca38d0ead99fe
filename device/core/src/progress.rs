// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How far the driver has come, as its page says.

use core::fmt;

use tsnic_abi::Counter;

/// The progress cells, copied out of the page once. Read `irq_seen` (acquire) before `irq_owned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Polls begun.
    pub polls: Counter,
    /// Interrupt number the latest handler run saw.
    pub irq_seen: Counter,
    /// Interrupt number the latest handler run saw that found the NAPI owned.
    pub irq_owned: Counter,
    /// [`tsnic_abi::phase`].
    pub phase: u32,
}

impl fmt::Display for Progress {
    /// The cells in one line, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { polls, irq_seen, irq_owned, phase } = self;
        write!(
            f,
            "polls {}, irq_seen {}, irq_owned {}, phase {phase}",
            polls.0, irq_seen.0, irq_owned.0
        )
    }
}

/// The doorbell record, copied out of the page once: `arm` first (acquire), then `irq_seen`
/// (acquire), then `ci`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doorbell {
    /// Arm sequence number.
    pub arm: Counter,
    /// What the driver had seen of interrupts when it armed.
    pub irq_seen: Counter,
    /// Completions consumed.
    pub ci: Counter,
}

// SPDX-License-Identifier: GPL-2.0-only
//! What a model consists of: who may own the instance, what the device does meanwhile, and how the
//! driver is made.

use crate::device::Kind;

/// Somebody besides the interrupt who takes the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A busy poller that looks at its socket after each of `turns` polls, and then gives up.
    BusyPoll {
        /// Turns of the loop.
        turns: u32,
    },
    /// `napi_watchdog()`, armed by an earlier poll.
    Watchdog,
    /// The driver's own `napi_schedule()`, for instance to refill its ring.
    Driver {
        /// How often, one after the other.
        times: u32,
    },
    /// `napi_disable()` and, when `reopen`, `napi_enable()` and the `napi_schedule()` that must
    /// follow it.
    Disable {
        /// Whether it is enabled again.
        reopen: bool,
    },
}

impl Owner {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BusyPoll { .. } => "busy polling",
            Self::Watchdog => "napi_watchdog()",
            Self::Driver { .. } => "the driver's own napi_schedule()",
            Self::Disable { .. } => "napi_disable()",
        }
    }
}

/// In which order the driver's poll arms the device and completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `napi_complete_done()`, then the arm if it returned true, and no look at the ring after it.
    CompleteThenArm,
    /// The arm, then `napi_complete_done()`; with `recheck`, a look at the ring when it returned
    /// true, and `napi_schedule()` if there is something (`virtio_net`).
    ArmThenComplete {
        /// Whether it rechecks.
        recheck: bool,
    },
}

/// How strongly the machine orders the operations that the kernel asks no ordering of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// As x86: `set_bit()` and `clear_bit()` are locked instructions, and a load is not older than
    /// the last of them.
    X86,
    /// No stronger than the kernel's documentation: `READ_ONCE()`, `set_bit()` and `clear_bit()`
    /// order nothing.
    Weak,
    /// The same, but the kernel clears bits by `test_and_clear_bit()`, which is fully ordered.
    WeakOrderedClears,
}

/// What a loss detector judges by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// The progress cells of the page, and the `irq_seen` that the arm carries.
    ArmWithIrqSeen,
    /// The progress cells alone: an owner that the handler found is taken to be the one that armed.
    ArmWithoutIrqSeen,
}

/// One model.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Owners, each a thread. The first is thread 1 of the timeline.
    pub owners: &'static [Owner],
    /// Packets in the ring at the start.
    pub waiting: u32,
    /// The device is armed at the start, and moderation still holds back the interrupt for what
    /// waits.
    pub armed: bool,
    /// Packets that the device publishes, one by one, raising an interrupt after each if one is
    /// due.
    pub packets: u32,
    /// What one packet counts in a budget of 8: with 8, a poll's budget is one packet.
    pub weight: u32,
    /// How the driver completes.
    pub order: Order,
    /// Whether the driver tells the device how far it is when it arms it.
    pub arm_with_ci: bool,
    /// How the device is made.
    pub device: Kind,
    /// What the device's loss detector judges by; `None` when it has none. With one the driver
    /// writes its progress to the page.
    pub detector: Option<Detector>,
    /// What it runs on.
    pub machine: Machine,
    /// What the administrator set.
    pub settings: Settings,
}

/// Settings of an interface and of the busy poller's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// GRO holds packets whenever it is asked, as `napi_watchdog()` of 4.x wants it.
    pub gro_held: bool,
    /// `gro_flush_timeout` is set.
    pub gro_flush_timeout: bool,
    /// `napi_defer_hard_irqs`.
    pub defer_hard_irqs: u32,
    /// `SO_PREFER_BUSY_POLL`.
    pub prefer_busy_poll: bool,
}

impl Settings {
    /// An untouched interface without GRO.
    pub const NONE: Self = Self {
        gro_held: false,
        gro_flush_timeout: false,
        defer_hard_irqs: 0,
        prefer_busy_poll: false,
    };

    /// The socket prefers busy polling, and interrupts are deferred.
    pub const PREFER_BUSY_POLL: Self = Self {
        gro_held: false,
        gro_flush_timeout: true,
        defer_hard_irqs: 1,
        prefer_busy_poll: true,
    };

    /// GRO holds packets, and no timer is started for them.
    pub const GRO: Self = Self { gro_held: true, ..Self::NONE };
}

impl Scenario {
    /// Two packets wait, a third comes, and nobody but its interrupt wants the instance.
    pub const INTERRUPT: Self = Self {
        owners: &[],
        waiting: 2,
        armed: true,
        packets: 1,
        weight: 1,
        order: Order::CompleteThenArm,
        arm_with_ci: true,
        device: Kind::OneShot,
        detector: None,
        machine: Machine::X86,
        settings: Settings::NONE,
    };

    /// The same, and a busy poller.
    pub const BUSY_POLL: Self = Self { owners: &[Owner::BusyPoll { turns: 1 }], ..Self::INTERRUPT };

    /// One packet comes to an empty ring, and the watchdog. A poll that consumes nothing does not
    /// start it again, and in an execution that loses the packet none has consumed it.
    pub const WATCHDOG: Self =
        Self { owners: &[Owner::Watchdog], waiting: 0, settings: Settings::GRO, ..Self::INTERRUPT };

    /// Two packets wait, a third comes, and the driver's own `napi_schedule()`.
    pub const DRIVER: Self = Self { owners: &[Owner::Driver { times: 1 }], ..Self::INTERRUPT };

    /// Interface down and up.
    pub const REOPEN: Self =
        Self { owners: &[Owner::Disable { reopen: true }], waiting: 0, ..Self::INTERRUPT };
}

// SPDX-License-Identifier: GPL-2.0-only
//! Counters, as `ethtool -S` shows them.

use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a name as ethtool takes it, padded with NULs (`ETH_GSTRING_LEN`).
pub const NAME_LEN: usize = 32;

const fn padded(name: &str) -> [u8; NAME_LEN] {
    let name = name.as_bytes();
    assert!(name.len() < NAME_LEN, "A counter's name is too long for ethtool");
    let mut field = [0; NAME_LEN];
    let mut i = 0;
    while i < name.len() {
        field[i] = name[i];
        i += 1;
    }
    field
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One counter. All run freely from 0 at probe.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Stat {
            $($(#[$doc])* $variant,)*
        }

        impl Stat {
            /// All of them, in `ethtool -S` order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Their names, in the same order.
            pub const NAMES: [[u8; NAME_LEN]; Self::ALL.len()] = [$(padded($name)),*];
        }
    };
}

counters! {
    /// Frames given to the stack.
    RxPackets = "rx_packets",
    /// Their bytes, Ethernet header included.
    RxBytes = "rx_bytes",
    /// Polls of the receive queue.
    RxPolls = "rx_polls",
    /// Receive interrupt handler runs.
    RxIrqs = "rx_irqs",
    /// Of these, those that found `NAPI_STATE_SCHED` owned.
    RxIrqsOwned = "rx_irqs_owned",
    /// Arms written.
    RxArms = "rx_arms",
    /// Frames with a hardware timestamp.
    RxTimestamps = "rx_timestamps",
    /// Frames for which one was wanted, but the completion record was not that of the frame.
    RxNoTimestamp = "rx_no_timestamp",
    /// Frames dropped: the device gave a length that the buffer or a frame cannot have.
    RxBadLength = "rx_bad_length",
    /// Frames dropped: the device gave a number of buffers it had not used.
    RxBadBuffers = "rx_bad_buffers",
    /// Frames dropped: the device asked for an offload that was not negotiated, or for an
    /// impossible checksum.
    RxBadHeader = "rx_bad_header",
    /// Receive completions discarded when the interface went up: they came while it was down.
    RxDiscarded = "rx_discarded",
    /// Refills cut short for want of memory.
    RxNoMemory = "rx_no_memory",
    /// Times the refill timer scheduled the NAPI.
    RxRefillTimer = "rx_refill_timer",
    /// Frames given to the device.
    TxPackets = "tx_packets",
    /// Their bytes.
    TxBytes = "tx_bytes",
    /// Frames dropped because the ring would not take them.
    TxDropped = "tx_dropped",
    /// Times the queue was stopped because the ring was full.
    TxStops = "tx_stops",
    /// Times the stack found that no frame had left for too long (`ndo_tx_timeout`).
    TxTimeouts = "tx_timeouts",
    /// Transmit interrupt handler runs.
    TxIrqs = "tx_irqs",
    /// Frames whose hardware transmit timestamp was reported.
    TxTimestamps = "tx_timestamps",
    /// Frames for which one was wanted, but the completion record had none.
    TxNoTimestamp = "tx_no_timestamp",
    /// Registrations posted.
    RegistrationsPosted = "registrations_posted",
    /// Registrations the device accepted.
    RegistrationsAccepted = "registrations_accepted",
    /// Registrations that came back unaccepted.
    RegistrationsRefused = "registrations_refused",
    /// Pages the device was found to have forgotten.
    PagesForgotten = "pages_forgotten",
    /// Queues found broken: the device broke virtio's rules, or is gone. Nothing goes through them
    /// any more.
    QueuesBroken = "queues_broken",
    /// Commands posted in the mailbox.
    Commands = "commands",
    /// Of these: the device did not answer in time.
    CommandsUnanswered = "commands_unanswered",
    /// Looks at the link's state after probe: configuration changes, pages forgotten, queues found
    /// broken.
    ConfigChanges = "config_changes",
}

/// The counters of one interface.
#[derive(Debug)]
pub struct Stats([AtomicU64; Stat::ALL.len()]);

impl Stats {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Stat::ALL.len()])
    }

    /// Adds `n` and gives the new value.
    pub fn add(&self, stat: Stat, n: u64) -> u64 {
        self.0[stat as usize].fetch_add(n, Ordering::Relaxed).wrapping_add(n)
    }

    /// The value now.
    #[must_use]
    pub fn get(&self, stat: Stat) -> u64 {
        self.0[stat as usize].load(Ordering::Relaxed)
    }

    /// Receive frames dropped, whatever the reason.
    #[must_use]
    pub fn rx_dropped(&self) -> u64 {
        self.get(Stat::RxBadLength) + self.get(Stat::RxBadBuffers) + self.get(Stat::RxBadHeader)
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_end() {
        let mut names = Stat::NAMES.to_vec();
        assert!(names.iter().all(|name| name[0] != 0 && name[NAME_LEN - 1] == 0));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Stat::ALL.len());
        assert_eq!(&Stat::NAMES[Stat::RxBytes as usize][..9], b"rx_bytes\0");
    }

    #[test]
    fn every_counter_is_in_the_documentation() {
        let text = include_str!("../../docs/counters.md");
        let (_, text) = text.split_once("## Of the driver").unwrap();
        for name in Stat::NAMES {
            let name = str::from_utf8(&name).unwrap().trim_end_matches('\0');
            assert!(text.contains(&format!("| `{name}` |")), "{name} is not in docs/counters.md");
        }
    }

    #[test]
    fn a_counter_adds_up_and_says_its_new_value() {
        let stats = Stats::new();
        assert_eq!(stats.add(Stat::RxBadLength, 2), 2);
        assert_eq!(stats.add(Stat::RxBadLength, 1), 3);
        stats.add(Stat::RxBadHeader, 1);
        assert_eq!((stats.get(Stat::RxBadLength), stats.rx_dropped()), (3, 4));
    }
}

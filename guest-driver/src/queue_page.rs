// SPDX-License-Identifier: GPL-2.0-only
//! The shared queue page as the driver sees it: cells to read and to write, nothing else.
//!
//! What the device can write is read once, into a value; what the driver writes is never read back.

use core::sync::atomic::{AtomicU32, Ordering};

use tsnic_abi::{
    COMMAND_WORDS, Counter, MAGIC, QUEUE_PAGE_SIZE, RX_RECORDS, TX_RECORDS, VERSION,
    completion_offset, offset, record_flags,
};

/// Number of 32-bit cells in a page.
pub const CELLS: usize = QUEUE_PAGE_SIZE as usize / 4;

/// Descriptors that the driver may still use of a ring with `entries` of which `free` are free: all
/// chains in it must have a record of their own, or one would be overwritten before the driver has
/// read it. What a ring has beyond `records` is left alone.
#[must_use]
pub fn room(free: u32, entries: u32, records: u16) -> u32 {
    free.saturating_sub(entries.saturating_sub(records.into()))
}

/// The memory of one shared queue page. Atomic, because the device writes it whenever it likes.
#[derive(Clone, Copy, Debug)]
pub struct QueuePage<'a> {
    cells: &'a [AtomicU32; CELLS],
}

/// What the device says of itself when it takes a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Generation of the registration that was accepted.
    pub generation: u32,
    /// [`tsnic_abi::caps`].
    pub capabilities: u32,
}

impl<'a> QueuePage<'a> {
    /// The page in this memory.
    #[must_use]
    pub const fn new(cells: &'a [AtomicU32; CELLS]) -> Self {
        Self { cells }
    }

    /// The cell at a byte offset. Offsets are [`offset`]'s constants or a record's, so they are in
    /// range; a wrong one comes round to the start rather than bring panic code into the kernel.
    pub(crate) fn cell(self, offset: usize) -> &'a AtomicU32 {
        &self.cells[offset / 4 % CELLS]
    }

    fn get(self, offset: usize, order: Ordering) -> u32 {
        u32::from_le(self.cell(offset).load(order))
    }

    fn set(self, offset: usize, value: u32, order: Ordering) {
        self.cell(offset).store(value.to_le(), order);
    }

    /// The device's identity, if it is one and of this version. Call it when the registration chain
    /// is back.
    #[must_use]
    pub fn identity(self) -> Option<Identity> {
        let magic = self.get(offset::MAGIC, Ordering::Acquire);
        // Version and pair share a cell.
        let version = self.get(offset::VERSION, Ordering::Relaxed) as u16;
        (magic == MAGIC && version == VERSION).then(|| Identity {
            generation: self.get(offset::GENERATION, Ordering::Relaxed),
            capabilities: self.get(offset::CAPABILITIES, Ordering::Relaxed),
        })
    }

    /// The device still uses the page that it was handed with this generation: it zeroes the cell
    /// when it forgets a page.
    #[must_use]
    pub fn in_use(self, generation: u32) -> bool {
        self.get(offset::GENERATION, Ordering::Relaxed) == generation
    }

    /// Number of the latest interrupt.
    #[must_use]
    pub fn fired(self) -> u32 {
        self.get(offset::FIRED, Ordering::Acquire)
    }

    /// Says how many completions the driver has consumed.
    pub fn set_ci(self, ci: Counter) {
        self.set(offset::CI, ci.0, Ordering::Relaxed);
    }

    /// Arms, having seen interrupts up to `irq_seen`. The device that sees `number` sees that, and
    /// every [`QueuePage::set_ci`] before it. The receive queue must be kicked next.
    pub fn arm(self, number: Counter, irq_seen: u32) {
        self.set(offset::ARM_IRQ_SEEN, irq_seen, Ordering::Release);
        self.set(offset::ARM, number.0, Ordering::Release);
    }

    /// A poll begins: its number, and the phase.
    pub fn poll_begins(self, number: Counter) {
        self.set(offset::POLLS, number.0, Ordering::Relaxed);
        self.set(offset::PHASE, tsnic_abi::phase::POLL, Ordering::Release);
    }

    /// The poll looks at the ring no more.
    pub fn poll_ends(self) {
        self.set(offset::PHASE, tsnic_abi::phase::IDLE, Ordering::Release);
    }

    /// The interface is down: there will be no poll.
    pub fn interface_down(self) {
        self.set(offset::PHASE, tsnic_abi::phase::DOWN, Ordering::Release);
    }

    /// An interrupt handler run that read `fired` has looked at the NAPI. `latest_owned` is what
    /// the latest run that found `NAPI_STATE_SCHED` owned had read; it is written first.
    pub fn interrupt_seen(self, fired: u32, latest_owned: u32) {
        self.set(offset::IRQ_OWNED, latest_owned, Ordering::Relaxed);
        self.set(offset::IRQ_SEEN, fired, Ordering::Release);
    }

    /// Handler runs so far, and those of them that found `NAPI_STATE_SCHED` owned.
    pub fn interrupts_counted(self, runs: u32, runs_owned: u32) {
        self.set(offset::IRQS, runs, Ordering::Relaxed);
        self.set(offset::IRQS_OWNED, runs_owned, Ordering::Relaxed);
    }

    /// Posts a command. The receive queue must be kicked next.
    pub fn command(self, number: u32, op: u32, args: [u32; COMMAND_WORDS]) {
        self.set(offset::COMMAND_OP, op, Ordering::Relaxed);
        for (word, arg) in args.into_iter().enumerate() {
            self.set(offset::COMMAND_ARGS + 4 * word, arg, Ordering::Relaxed);
        }
        self.set(offset::COMMAND, number, Ordering::Release);
    }

    /// Status and values of the answer to the command of this number, if it is there.
    #[must_use]
    pub fn answer(self, number: u32) -> Option<(u32, [u32; COMMAND_WORDS])> {
        (self.get(offset::ANSWER, Ordering::Acquire) == number).then(|| {
            let word = |word: usize| self.get(offset::ANSWER_VALUES + 4 * word, Ordering::Relaxed);
            (
                self.get(offset::ANSWER_STATUS, Ordering::Relaxed),
                [word(0), word(1), word(2), word(3), word(4), word(5)],
            )
        })
    }

    /// The timestamp of receive completion `number`, device clock, ns.
    #[must_use]
    pub fn rx_timestamp(self, number: Counter) -> Option<u64> {
        self.timestamp(completion_offset(offset::RX, RX_RECORDS, number), number)
    }

    /// The timestamp of transmit completion `number`, device clock, ns.
    #[must_use]
    pub fn tx_timestamp(self, number: Counter) -> Option<u64> {
        self.timestamp(completion_offset(offset::TX, TX_RECORDS, number), number)
    }

    /// None when the record at `at` is not completion `number`'s, or has no valid time. The used
    /// index that announced the completion was read before (acquire), so the record is complete.
    fn timestamp(self, at: usize, number: Counter) -> Option<u64> {
        let low = self.get(at, Ordering::Relaxed);
        let high = self.get(at + 4, Ordering::Relaxed);
        let found = self.get(at + 8, Ordering::Relaxed);
        let flags = self.get(at + 12, Ordering::Relaxed);
        (found == number.0 && flags & record_flags::TIMESTAMP != 0)
            .then(|| u64::from(high) << 32 | u64::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn no_more_of_a_ring_is_used_than_there_are_records() {
        for (free, entries, left) in [
            (256, 256, 256),
            (0, 256, 0),
            (512, 512, 512),
            (1024, 1024, 512),
            (513, 1024, 1),
            (512, 1024, 0),
            (3, 1024, 0),
        ] {
            assert_eq!(room(free, entries, 512), left, "{free} of {entries}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shared queue page: how it is registered, and its cells.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use thiserror::Error;
use tsnic_abi::{
    COMMAND_WORDS, Completion, Counter, MAGIC, QUEUE_PAGE_SIZE, RX_RECORDS, Registration,
    RegistrationError, TX_RECORDS, VERSION, caps, completion_offset, offset, record_flags,
};
use tsnic_core::progress::{Doorbell, Progress};
use tsnic_core::run::Arrival;
use tsnic_core::time::NicTime;
use vm_memory::{VolatileMemory as _, VolatileSlice};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::chain::{Chain, ChainError};
use super::features::Features;
use super::memory::{GuestView, MemoryError};

/// Why a registration was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// `VIRTIO_F_ACCESS_PLATFORM`: the device and the driver do not mean the same by an address.
    #[error("A platform IOMMU was negotiated")]
    Platform,
    /// The receive queue of the pair does not run, so there is nothing the page could serve.
    #[error("The receive queue is not running")]
    NoReceiveQueue,
    /// The readable part has another length than the header.
    #[error("Readable part is {0} bytes, not 40")]
    HeaderLength(usize),
    /// The header is wrong.
    #[error("Header is wrong")]
    Header(#[source] RegistrationError),
    /// The page is not one descriptor of the right length.
    #[error(
        "Writable part is {buffers} descriptor(s) of {len} bytes in all, not one of {QUEUE_PAGE_SIZE}"
    )]
    PageLength {
        /// Descriptors.
        buffers: usize,
        /// Bytes in all.
        len: usize,
    },
    /// The page does not start at a page.
    #[error("Shared queue page at {0:#x} is not aligned to a page")]
    Alignment(u64),
    /// The page is not guest memory in one piece.
    #[error("The shared queue page is not guest memory in one piece")]
    Memory(#[source] ChainError),
}

/// Checks a chain of the transmit queue that is meant to register a page. Returns its header and
/// the page's guest physical address.
///
/// # Errors
/// Names the first thing that is wrong.
pub fn check_registration(
    chain: &Chain<'_>,
    pair: u16,
    features: Features,
    receive_queue: bool,
) -> Result<(Registration, u64), Refusal> {
    if features.access_platform() {
        return Err(Refusal::Platform);
    }
    let mut header = Registration::new_zeroed();
    if chain.readable_len() != size_of::<Registration>() {
        return Err(Refusal::HeaderLength(chain.readable_len()));
    }
    chain.read(0, header.as_mut_bytes());
    header.check(pair).map_err(Refusal::Header)?;
    let [page] = chain.writable.as_slice() else {
        return Err(Refusal::PageLength {
            buffers: chain.writable.len(),
            len: chain.writable_len(),
        });
    };
    if page.slice.len() != QUEUE_PAGE_SIZE as usize {
        return Err(Refusal::PageLength { buffers: 1, len: page.slice.len() });
    }
    if !page.address.is_multiple_of(4096) {
        return Err(Refusal::Alignment(page.address));
    }
    if !receive_queue {
        return Err(Refusal::NoReceiveQueue);
    }
    Ok((header, page.address))
}

/// A command of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number.
    pub number: u32,
    /// [`tsnic_abi::op`].
    pub op: u32,
    /// Its arguments.
    pub args: [u32; COMMAND_WORDS],
}

/// A shared queue page in a session.
pub struct QueuePage<'m> {
    cells: VolatileSlice<'m>,
}

impl<'m> QueuePage<'m> {
    /// The page at this guest physical address.
    ///
    /// # Errors
    /// When it is not guest memory, or not aligned in this process: a front end may give a region
    /// an address that is not the page's own.
    pub fn open(view: &GuestView<'m>, address: u64) -> Result<Self, MemoryError> {
        let cells = view.slice(address, QUEUE_PAGE_SIZE as usize)?;
        // The largest cell, at the start: if it is aligned, so is every other.
        if cells.get_atomic_ref::<AtomicU64>(0).is_err() {
            return Err(MemoryError { address, len: QUEUE_PAGE_SIZE as usize });
        }
        Ok(Self { cells })
    }

    fn cell(&self, offset: usize) -> &AtomicU32 {
        self.cells.get_atomic_ref(offset).expect("every cell is aligned and inside of the page")
    }

    fn load(&self, offset: usize, order: Ordering) -> u32 {
        u32::from_le(self.cell(offset).load(order))
    }

    fn store(&self, offset: usize, value: u32, order: Ordering) {
        self.cell(offset).store(value.to_le(), order);
    }

    /// Takes the page into use: the state of docs/interface.md, "Registration". The caller returns
    /// the chain afterwards.
    pub fn accept(&self, pair: u16, generation: u32, fired: Counter) {
        self.store(offset::REQUESTED, 0, Ordering::Relaxed);
        // Whoever still spins for an earlier device goes on.
        self.store(
            offset::RELEASED,
            self.load(offset::ARRIVED, Ordering::Acquire),
            Ordering::Relaxed,
        );
        // A command from before is nobody's any more.
        self.store(
            offset::ANSWER,
            self.load(offset::COMMAND, Ordering::Acquire),
            Ordering::Relaxed,
        );
        self.store(offset::FIRED, fired.0, Ordering::Relaxed);
        self.store(offset::MAGIC, MAGIC, Ordering::Relaxed);
        // Version and pair share a word, in this order.
        self.store(offset::VERSION, u32::from(VERSION) | u32::from(pair) << 16, Ordering::Relaxed);
        self.store(offset::CAPABILITIES, CAPABILITIES, Ordering::Relaxed);
        // The generation is what the driver looks for, so it comes last; the used index of the
        // chain orders it again.
        self.store(offset::GENERATION, generation, Ordering::Release);
    }

    /// The device uses the page no longer. A driver that has not caused it itself finds that out by
    /// the generation, which is 0 in no page that is in use. Does nothing when this is not the page
    /// with this generation any more: its driver may be gone without the device having been told,
    /// and the memory somebody else's.
    pub fn forget(&self, generation: u32) {
        if self.load(offset::MAGIC, Ordering::Relaxed) == MAGIC {
            let cell = self.cell(offset::GENERATION);
            // Fails when it is another generation already.
            let _ =
                cell.compare_exchange(generation.to_le(), 0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// The progress cells. To be read before the doorbell, so that what an arm says is never older
    /// than they are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        // The handler writes `irq_owned` before `irq_seen` (release), so they are read the other
        // way round (acquire).
        let irq_seen = Counter(self.load(offset::IRQ_SEEN, Ordering::Acquire));
        Progress {
            irq_seen,
            irq_owned: Counter(self.load(offset::IRQ_OWNED, Ordering::Relaxed)),
            polls: Counter(self.load(offset::POLLS, Ordering::Relaxed)),
            phase: self.load(offset::PHASE, Ordering::Acquire),
        }
    }

    /// The doorbell record: `arm` first (acquire), since the driver writes the others before it
    /// (release), then `irq_seen` (acquire), since `ci` is written before that: an arm that is
    /// being written meanwhile can only make `ci` too new.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        let arm = Counter(self.load(offset::ARM, Ordering::Acquire));
        let irq_seen = Counter(self.load(offset::ARM_IRQ_SEEN, Ordering::Acquire));
        Doorbell { arm, irq_seen, ci: Counter(self.load(offset::CI, Ordering::Relaxed)) }
    }

    /// The rendezvous cells: `arrived` first (acquire), since the guest writes `point` before it
    /// (release).
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        let number = self.load(offset::ARRIVED, Ordering::Acquire);
        Arrival { number, point: self.load(offset::ARRIVED_POINT, Ordering::Relaxed) }
    }

    /// Number of the latest command, whatever became of it.
    #[must_use]
    pub fn command_number(&self) -> u32 {
        self.load(offset::COMMAND, Ordering::Acquire)
    }

    /// A command, if there is one after `latest`: `number` first (acquire), since the driver writes
    /// the others before it (release).
    #[must_use]
    pub fn command(&self, latest: u32) -> Option<Command> {
        let number = self.command_number();
        (number != latest).then(|| Command {
            number,
            op: self.load(offset::COMMAND_OP, Ordering::Relaxed),
            args: std::array::from_fn(|word| {
                self.load(offset::COMMAND_ARGS + 4 * word, Ordering::Relaxed)
            }),
        })
    }

    /// Answers the command of this number.
    pub fn answer(&self, number: u32, status: u32, values: [u32; COMMAND_WORDS]) {
        self.store(offset::ANSWER_STATUS, status, Ordering::Relaxed);
        for (word, value) in values.into_iter().enumerate() {
            self.store(offset::ANSWER_VALUES + 4 * word, value, Ordering::Relaxed);
        }
        self.store(offset::ANSWER, number, Ordering::Release);
    }

    /// Publishes the number of the interrupt that is about to be raised.
    pub fn set_fired(&self, number: Counter) {
        self.store(offset::FIRED, number.0, Ordering::Release);
    }

    /// Asks for a rendezvous at `point`, or for none (0).
    pub fn set_requested(&self, point: u32) {
        self.store(offset::REQUESTED, point, Ordering::Release);
    }

    /// Lets the guest go on. Everything written before is seen by it then.
    pub fn release(&self, number: u32) {
        self.store(offset::RELEASED, number, Ordering::Release);
    }

    /// Writes the record of receive completion `number`; `entered` is `None` for a buffer that no
    /// frame is in. The used index that is published later orders it.
    pub fn record_rx(&self, number: Counter, entered: Option<NicTime>) {
        self.record(completion_offset(offset::RX, RX_RECORDS, number), number, entered);
    }

    /// Writes the record of transmit completion `number`; `left` is `None` for a chain that was no
    /// frame.
    pub fn record_tx(&self, number: Counter, left: Option<NicTime>) {
        self.record(completion_offset(offset::TX, TX_RECORDS, number), number, left);
    }

    fn record(&self, base: usize, number: Counter, time: Option<NicTime>) {
        let (timestamp_ns, flags) =
            time.map_or((0, 0), |time| (time.as_ns(), record_flags::TIMESTAMP));
        self.cells
            .get_atomic_ref::<AtomicU64>(base + offset_of!(Completion, timestamp_ns))
            .expect("every record is aligned and inside of the page")
            .store(timestamp_ns.to_le(), Ordering::Relaxed);
        self.store(base + offset_of!(Completion, number), number.0, Ordering::Relaxed);
        self.store(base + offset_of!(Completion, flags), flags, Ordering::Relaxed);
    }
}

const CAPABILITIES: u32 =
    caps::RX_TIMESTAMP | caps::TX_TIMESTAMP | caps::RENDEZVOUS | caps::MAILBOX | caps::CLOCK;

const _: () = assert!(offset::VERSION.is_multiple_of(4) && offset::PAIR == offset::VERSION + 2);

#[cfg(test)]
mod tests {
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    use super::*;

    #[test]
    fn a_page_is_refused_when_this_process_has_it_at_an_odd_address() {
        // The mapping starts at a page, so a guest address that starts at none makes every page of
        // the guest odd here.
        for (start, good) in [(0x1000, true), (0x1008, true), (0x1001, false), (0x1004, false)] {
            let memory =
                GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(start), 0x2_0000)]).unwrap();
            assert_eq!(
                QueuePage::open(&GuestView::new(&memory), 0x2000).is_ok(),
                good,
                "{start:#x}"
            );
        }
    }
}

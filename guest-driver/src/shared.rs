// SPDX-License-Identifier: GPL-2.0-only
//! What all contexts of one interface share: everything in here is atomic.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tsnic_abi::{Counter, caps};

use crate::queue_page::{Identity, QueuePage};
use crate::refill::Backoff;
use crate::stamp::{Able, Stamping};
use crate::stats::{Stat, Stats};

/// What was negotiated with the device, and what follows from it. Constant after probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `VIRTIO_NET_F_GUEST_CSUM`: the device may leave checksums to be filled in, and say that it
    /// has checked one.
    pub guest_csum: bool,
    /// `VIRTIO_NET_F_MRG_RXBUF`: a frame may take several buffers.
    pub merged_buffers: bool,
}

/// A queue of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Frames to the guest.
    Receive,
    /// Frames from the guest.
    Transmit,
}

/// The state of one interface that all contexts may look at.
#[derive(Debug)]
pub struct Shared<'a> {
    /// What was negotiated.
    pub features: Features,
    /// Counters.
    pub stats: Stats,
    /// Which packets get hardware timestamps.
    pub stamping: Stamping,
    /// When the refill timer tries again.
    pub refill: Backoff,
    page: Option<QueuePage<'a>>,
    /// Generation of the registration in force; 0: none, the queue pair obeys virtio's rules.
    generation: AtomicU32,
    capabilities: AtomicU32,
    /// The device has sent back a page it did not want.
    refused: AtomicBool,
    /// Number of the latest arm.
    arm: AtomicU32,
    /// Receive completions consumed. Written by the poll only.
    rx_ci: AtomicU32,
    /// `fired` of the latest interrupt that found `SCHED` owned. Written by the interrupt handler
    /// only.
    irq_owned: AtomicU32,
    /// `fired` of the latest interrupt. Written by the interrupt handler only.
    irq_seen: AtomicU32,
    /// Queues found broken since they were found, indexed by [`Queue`].
    broken: [AtomicBool; 2],
}

impl<'a> Shared<'a> {
    /// At probe. `page` is the memory to register, None when there is none or it must not be
    /// registered.
    #[must_use]
    pub const fn new(features: Features, page: Option<QueuePage<'a>>) -> Self {
        Self {
            features,
            stats: Stats::new(),
            stamping: Stamping::new(),
            refill: Backoff::new(),
            page,
            generation: AtomicU32::new(0),
            capabilities: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            arm: AtomicU32::new(0),
            rx_ci: AtomicU32::new(0),
            irq_owned: AtomicU32::new(0),
            irq_seen: AtomicU32::new(0),
            broken: [const { AtomicBool::new(false) }; 2],
        }
    }

    /// The page, if the device has accepted it and uses it.
    #[must_use]
    pub fn page(&self) -> Option<QueuePage<'a>> {
        if self.generation.load(Ordering::Acquire) == 0 { None } else { self.page }
    }

    /// The page, to be posted.
    #[must_use]
    pub const fn own_page(&self) -> Option<QueuePage<'a>> {
        self.page
    }

    /// The device has accepted.
    pub fn page_accepted(&self, identity: Identity) {
        self.capabilities.store(identity.capabilities, Ordering::Relaxed);
        self.refused.store(false, Ordering::Relaxed);
        self.generation.store(identity.generation, Ordering::Release);
    }

    /// The device has not accepted.
    pub fn page_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// The device uses the page no longer, or will be asked anew.
    pub fn page_gone(&self) {
        self.generation.store(0, Ordering::Release);
    }

    /// The page, if the device uses it, and whether it has just been found to have forgotten it
    /// without a word: once for each page, after which it is gone. The caller asks for a new
    /// registration then.
    pub fn page_or_forgotten(&self) -> (Option<QueuePage<'a>>, bool) {
        let generation = self.generation.load(Ordering::Acquire);
        match self.page {
            Some(page) if generation != 0 && page.in_use(generation) => (Some(page), false),
            Some(_) if generation != 0 => {
                // Unless another registration has begun, or been accepted, since the cell was read.
                let gone = self.generation.compare_exchange(
                    generation,
                    0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                (None, gone.is_ok())
            }
            _ => (None, false),
        }
    }

    /// The page, if the device uses it and can do this ([`caps`]).
    #[must_use]
    pub fn page_with(&self, capability: u32) -> Option<QueuePage<'a>> {
        let page = self.page()?;
        let able = self.capabilities.load(Ordering::Relaxed) & capability != 0;
        (able && self.page_is_in_use()).then_some(page)
    }

    /// The device uses the page that it accepted last.
    #[must_use]
    pub fn page_is_in_use(&self) -> bool {
        let generation = self.generation.load(Ordering::Acquire);
        generation != 0 && self.page.is_some_and(|page| page.in_use(generation))
    }

    /// What can be timestamped. While it is not known, because the registration is not answered yet
    /// or the link is down, what this version's devices can do.
    #[must_use]
    pub fn able(&self) -> Able {
        if self.page.is_none() || self.refused.load(Ordering::Relaxed) {
            return Able::default();
        }
        if self.page().is_none() {
            return Able { rx: true, tx: true };
        }
        let capabilities = self.capabilities.load(Ordering::Relaxed);
        Able {
            rx: capabilities & caps::RX_TIMESTAMP != 0,
            tx: capabilities & caps::TX_TIMESTAMP != 0,
        }
    }

    /// A queue was found broken: true for the first time, when it is counted. Any context.
    #[must_use]
    pub fn found_broken(&self, queue: Queue) -> bool {
        let first = !self.broken[queue as usize].swap(true, Ordering::Relaxed);
        self.stats.add(Stat::QueuesBroken, first.into());
        first
    }

    /// The queue was found broken.
    #[must_use]
    pub fn is_broken(&self, queue: Queue) -> bool {
        self.broken[queue as usize].load(Ordering::Relaxed)
    }

    /// The queues are deleted: what comes next are new ones, with nothing consumed. Nobody else
    /// uses them.
    pub fn queues_deleted(&self) {
        self.page_gone();
        self.set_rx_ci(Counter(0));
        for broken in &self.broken {
            broken.store(false, Ordering::Relaxed);
        }
    }

    /// Receive completions consumed.
    #[must_use]
    pub fn rx_ci(&self) -> Counter {
        Counter(self.rx_ci.load(Ordering::Relaxed))
    }

    /// Only the poll.
    pub fn set_rx_ci(&self, ci: Counter) {
        self.rx_ci.store(ci.0, Ordering::Relaxed);
    }

    /// A poll begins: its number.
    #[must_use]
    pub fn poll_begins(&self) -> Counter {
        Counter(self.stats.add(Stat::RxPolls, 1) as u32)
    }

    /// Number of the latest arm.
    #[must_use]
    pub fn latest_arm(&self) -> Counter {
        Counter(self.arm.load(Ordering::Relaxed))
    }

    /// The poll with this number has armed: an arm's number is that of its poll, for a poll arms
    /// once at most.
    pub fn armed(&self, poll: Counter) {
        self.stats.add(Stat::RxArms, 1);
        self.arm.store(poll.0, Ordering::Relaxed);
    }

    /// Number of the latest interrupt that the handler has seen: the driver's own copy, which the
    /// device cannot write.
    #[must_use]
    pub fn irq_seen(&self) -> u32 {
        self.irq_seen.load(Ordering::Acquire)
    }

    /// What `irq_owned` says after a handler run that read `fired`: the latest interrupt that found
    /// `SCHED` owned, and never one that took it: of two runs for one interrupt the later is the
    /// answer.
    #[must_use]
    pub fn note_interrupt(&self, fired: u32, taken: bool) -> u32 {
        let before = self.irq_owned.load(Ordering::Relaxed);
        let after = match (taken, before == fired) {
            (false, _) => fired,
            (true, true) => fired.wrapping_sub(1),
            (true, false) => before,
        };
        self.irq_owned.store(after, Ordering::Relaxed);
        // Before the cell: an arm that is written meanwhile must not carry less than the device can
        // have read there.
        self.irq_seen.store(fired, Ordering::Release);
        after
    }
}

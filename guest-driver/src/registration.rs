// SPDX-License-Identifier: GPL-2.0-only
//! The registration of the shared queue page, on the transmit queue (docs/interface.md,
//! "Registration").

use tsnic_abi::{Counter, Registration};

use crate::queue_page::QueuePage;
use crate::shared::Shared;
use crate::stats::Stat;

/// What came of a registration chain that the device sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The device uses the page: the receive NAPI must be scheduled once, for its completion arms.
    Accepted,
    /// It does not.
    Refused,
}

/// Where the registration stands. Guarded by the transmit queue's lock.
///
/// One chain at a time: its header is one piece of memory, which the device may read until the
/// chain is back.
#[derive(Debug)]
pub struct RegistrationState {
    /// Generation of the chain that is in the ring.
    posted: Option<u32>,
    /// The page is to be posted (again) as soon as no chain is in the ring and there is room.
    due: bool,
    /// Generation of the next post. Never 0.
    next: u32,
}

impl RegistrationState {
    /// Nothing posted.
    #[must_use]
    pub const fn new() -> Self {
        Self { posted: None, due: false, next: 1 }
    }

    #[cfg(test)]
    pub(crate) const fn starting_at(next: u32) -> Self {
        Self { next, ..Self::new() }
    }

    /// The link is up, or its configuration has changed: the page is to be posted. Until it is
    /// accepted the queue pair obeys virtio's rules.
    pub fn request(&mut self, shared: &Shared<'_>) {
        shared.page_gone();
        self.due = shared.own_page().is_some();
    }

    /// The link is down: whoever used the page does no more.
    pub fn cancel(&mut self, shared: &Shared<'_>) {
        shared.page_gone();
        self.due = false;
    }

    /// Posts the page if that is due and possible. `tx_ci` is the transmit completions consumed;
    /// `post` puts the chain into the ring and tells whether it could.
    pub fn post_if_due(
        &mut self,
        shared: &Shared<'_>,
        tx_ci: Counter,
        post: impl FnOnce(&Registration) -> bool,
    ) {
        if !self.due || self.posted.is_some() {
            return;
        }
        if post(&Registration::new(0, self.next, shared.rx_ci(), tx_ci, shared.latest_arm())) {
            shared.stats.add(Stat::RegistrationsPosted, 1);
            self.posted = Some(self.next);
            self.due = false;
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
    }

    /// The transmit queue is deleted, and the chain with it if one was in the ring.
    pub fn queue_deleted(&mut self) {
        self.posted = None;
        self.due = false;
    }

    /// The chain is back, with this `used.len`.
    ///
    /// Length 0 is no answer of the device: a VMM returns transmit chains so while its backend is
    /// away.
    pub fn returned(&mut self, shared: &Shared<'_>, length: u32) -> Returned {
        let posted = self.posted.take();
        let identity = shared.own_page().and_then(QueuePage::identity);
        match identity {
            // When it is to be posted again, this answer is already out of date.
            Some(identity) if length != 0 && posted == Some(identity.generation) && !self.due => {
                shared.stats.add(Stat::RegistrationsAccepted, 1);
                shared.page_accepted(identity);
                Returned::Accepted
            }
            _ => {
                shared.stats.add(Stat::RegistrationsRefused, 1);
                if !self.due {
                    shared.page_refused();
                }
                Returned::Refused
            }
        }
    }
}

impl Default for RegistrationState {
    fn default() -> Self {
        Self::new()
    }
}

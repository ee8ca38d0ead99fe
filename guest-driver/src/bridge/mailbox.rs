// SPDX-License-Identifier: GPL-2.0-only
//! The kernel under [`crate::mailbox`].

use core::ffi::c_int;

use super::nic;
use super::sys::{self, Limits, NicRef, QueueRef};
use crate::mailbox::{self, ClockCommand, CommandError, MailboxPort, Moderation};
use crate::shared::Shared;

const ERANGE: c_int = 34;
const EOPNOTSUPP: c_int = 95;
const ENETDOWN: c_int = 100;
const ETIMEDOUT: c_int = 110;

/// Carries out a command about moderation: 0, or an errno. Process context; sleeps.
///
/// # Safety
/// The caller holds RTNL.
pub unsafe fn command(
    nic: NicRef<'_>,
    limits: &mut Limits,
    command: impl FnOnce(&Shared<'static>, &mut MailboxKernel<'_>) -> Result<Moderation, CommandError>,
) -> c_int {
    let state = nic::state(nic);
    if !state.is_started() {
        return -ENETDOWN;
    }
    // SAFETY: Started, so it has queues; RTNL keeps them.
    let mut port = unsafe { MailboxKernel::new(nic) };
    match command(&state.shared, &mut port) {
        Ok(Moderation { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx }) => {
            *limits = Limits { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx };
            0
        }
        Err(error) => errno(error),
    }
}

/// Carries out a command about the clock: 0 and what it shows then, nanoseconds, or an errno.
/// Process context; sleeps.
///
/// # Safety
/// The caller holds RTNL.
pub unsafe fn clock(nic: NicRef<'_>, wanted: ClockCommand, ns: &mut u64) -> c_int {
    let state = nic::state(nic);
    if !state.is_started() {
        return -ENETDOWN;
    }
    // SAFETY: Started, so it has queues; RTNL keeps them.
    let mut port = unsafe { MailboxKernel::new(nic) };
    match mailbox::clock(&state.shared, &mut port, wanted) {
        Ok(shows) => {
            *ns = shows;
            0
        }
        Err(error) => errno(error),
    }
}

const fn errno(error: CommandError) -> c_int {
    match error {
        CommandError::Unsupported => -EOPNOTSUPP,
        CommandError::Range => -ERANGE,
        CommandError::Silent => -ETIMEDOUT,
    }
}

/// The receive queue's doorbell.
pub struct MailboxKernel<'a> {
    vq: QueueRef<'a>,
}

impl<'a> MailboxKernel<'a> {
    /// For commands in process context.
    ///
    /// # Safety
    /// The interface has queues, for as long as this lives.
    pub unsafe fn new(nic: NicRef<'a>) -> Self {
        // SAFETY: The caller's promise.
        Self { vq: unsafe { sys::glue_rx_vq(nic) } }
    }
}

impl MailboxPort for MailboxKernel<'_> {
    fn kick(&mut self) {
        let _ = sys::virtqueue_notify(self.vq);
    }

    fn sleep_us(&mut self, us: u32) {
        sys::glue_sleep_us(us);
    }
}

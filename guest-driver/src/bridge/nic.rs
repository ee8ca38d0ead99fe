// SPDX-License-Identifier: GPL-2.0-only
//! The Rust half's state of an interface, and who may use which part of it.

use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};

use super::rx::RxKernel;
use super::sys::{self, NicRef};
use super::tx::TxKernel;
use crate::rx;
use crate::shared::{Queue, Shared};
use crate::tx::Tx;

/// `VIRTIO_NET_F_STATUS`
const FEATURE_STATUS: u32 = 16;

/// `VIRTIO_NET_S_LINK_UP`
const STATUS_LINK_UP: u16 = 1;

/// The Rust half's state of one interface, in the memory that `glue_state()` gives.
pub struct State {
    /// For all contexts.
    pub shared: Shared<'static>,
    tx: UnsafeCell<Tx>,
    /// The interface is up. Written under RTNL.
    up: AtomicBool,
    /// The interface has queues, the device runs, and the transmit NAPI is enabled; the receive
    /// NAPI is, too, if the interface is up. Written under RTNL, and at probe.
    started: AtomicBool,
}

const _: () = assert!(align_of::<State>() <= 8, "more than the memory's alignment");

impl State {
    /// At probe.
    pub const fn new(shared: Shared<'static>) -> Self {
        let (up, started) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared, tx: UnsafeCell::new(Tx::new()), up, started }
    }

    /// The interface is up.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Under RTNL.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// See [`State::started`].
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Under RTNL, or at probe.
    pub fn set_started(&self, started: bool) {
        self.started.store(started, Ordering::Relaxed);
    }
}

/// The state of an interface.
pub fn state(nic: NicRef<'_>) -> &State {
    // SAFETY: `Interface::new` writes it before it lets anybody have a handle; it stays until the
    // interface is freed.
    unsafe { &*sys::glue_state(nic).cast() }
}

/// The transmit queue and its state.
///
/// # Safety
/// 1. The interface has queues.
/// 2. The caller holds the transmit queue's lock, bottom halves or hard interrupts off, while `f`
///    runs; or nobody else uses the queue.
/// 3. `budget` is 0, or that of the transmit NAPI's poll in which the caller is.
pub unsafe fn with_tx<R>(
    nic: NicRef<'_>,
    budget: c_int,
    f: impl FnOnce(&Shared<'static>, &mut Tx, &mut TxKernel<'_>) -> R,
) -> R {
    let state = state(nic);
    // SAFETY: 1, 3: the caller's promise. 2: so nobody else has the state or a `TxKernel`.
    let (tx, mut port) = unsafe { (&mut *state.tx.get(), TxKernel::new(nic, budget)) };
    f(&state.shared, tx, &mut port)
}

/// The same in softirq context, or in the transmit NAPI's poll, taking the lock.
///
/// # Safety
/// 1. The interface has queues.
/// 2. Bottom halves are off, hard interrupts on, and the caller does not hold the lock.
/// 3. `budget` is 0, or that of the transmit NAPI's poll in which the caller is.
pub unsafe fn with_tx_locked(
    nic: NicRef<'_>,
    budget: c_int,
    f: impl FnOnce(&Shared<'static>, &mut Tx, &mut TxKernel<'_>),
) {
    // SAFETY: The caller's promise; locked here, unlocked below.
    unsafe {
        sys::glue_tx_lock(nic);
        with_tx(nic, budget, f);
        sys::glue_tx_unlock(nic);
    }
}

/// The state of a transmit queue that is deleted, for those that come next.
///
/// # Safety
/// Nobody else uses the interface's queues.
pub unsafe fn queues_deleted(nic: NicRef<'_>) {
    let state = state(nic);
    // SAFETY: The caller's promise.
    unsafe { &mut *state.tx.get() }.queues_deleted(&state.shared);
}

/// Looks at the link's state, and whether the queues are broken, and acts on it. Process context.
///
/// # Safety
/// The interface is started, and is not quiesced while this runs.
pub unsafe fn link(nic: NicRef<'_>) {
    let (vdev, shared) = (sys::glue_vdev(nic), &state(nic).shared);
    let broken = [
        (Queue::Receive, c"The receive queue is broken: the device has given back what it was not given, or is gone"),
        (Queue::Transmit, c"The transmit queue is broken: the device has given back what it was not given, or is gone"),
    ];
    let mut up = !sys::glue_has_feature(vdev, FEATURE_STATUS)
        || sys::glue_read_status(nic) & STATUS_LINK_UP != 0;
    for (queue, text) in broken {
        if shared.is_broken(queue) {
            up = false;
            // SAFETY: A C string.
            unsafe { sys::glue_error(vdev, text.as_ptr()) };
        }
    }
    sys::glue_carrier(nic, up);
    // SAFETY: Started, so it has queues. Locked in the second line, unlocked in the last.
    unsafe {
        sys::glue_tx_lock_bh(nic);
        with_tx(nic, 0, |shared, tx, port| tx.link(shared, port, up));
        sys::glue_tx_unlock_bh(nic);
    }
}

/// Begins to receive. Process context, RTNL.
///
/// # Safety
/// The interface has queues, the device is ready, and the receive NAPI is disabled.
pub unsafe fn receive_on(nic: NicRef<'_>) {
    // SAFETY: The NAPI is disabled, and RTNL keeps others from enabling it: the queue is this
    // function's.
    unsafe {
        rx::open(&state(nic).shared, &mut RxKernel::new(nic));
        let napi = sys::glue_rx_napi(nic);
        sys::napi_enable(napi);
        // Interrupts that came while it was disabled are lost; and the first completion arms.
        sys::glue_napi_schedule_bh(napi);
    }
}

/// Ends it. Process context, RTNL. The device need not be alive.
///
/// # Safety
/// The receive NAPI is enabled.
pub unsafe fn receive_off(nic: NicRef<'_>) {
    // First: a poll may start the timer.
    // SAFETY: The caller's promise.
    unsafe { sys::napi_disable(sys::glue_rx_napi(nic)) };
    sys::glue_refill_cancel(nic);
    rx::stop(&state(nic).shared);
}

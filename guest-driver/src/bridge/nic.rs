// SPDX-License-Identifier: GPL-2.0-only
//! An interface from probe to removal.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_uint};
use core::ptr::{self, NonNull};

use tsnic_abi::{QUEUE_PAGE_SIZE, Registration};

use super::skb::Skb;
use super::sys::{self, NicRef, VirtioRef};
use super::tx::TxKernel;
use crate::header;
use crate::mode::ModeSwitch;
use crate::queue_page::{CELLS, QueuePage};
use crate::shared::{Features, Shared};
use crate::tx::{self, Tx};

/// The mode of all interfaces.
pub static MODE: ModeSwitch = ModeSwitch::new();

/// Feature bits (virtio 1.x, sections 5.1.3 and 6).
mod feature {
    pub const CSUM: u32 = 0;
    pub const GUEST_CSUM: u32 = 1;
    pub const MTU: u32 = 3;
    pub const MAC: u32 = 5;
    pub const MRG_RXBUF: u32 = 15;
    pub const STATUS: u32 = 16;
    pub const VERSION_1: u32 = 32;
    pub const ACCESS_PLATFORM: u32 = 33;
}

/// `VIRTIO_NET_S_LINK_UP`
const STATUS_LINK_UP: u16 = 1;

const ETHERNET_MTU: u32 = 1500;
/// What fits into a frame of merged buffers.
const MERGED_MTU: u32 = 65_535 - 18;

const ENODEV: c_int = 19;
const ENOMEM: c_int = 12;

/// The Rust half's state of one interface, in the memory that `glue_state()` gives.
pub struct State {
    /// For all contexts.
    pub shared: Shared<'static>,
    tx: UnsafeCell<Tx>,
}

const _: () = assert!(align_of::<State>() <= 8, "more than the memory's alignment");

/// The state of an interface that has been through [`probe`]'s first step.
pub fn state(nic: NicRef<'_>) -> &State {
    // SAFETY: `probe` writes it before anything can call the driver; it stays until the interface is freed.
    unsafe { &*sys::glue_state(nic).cast() }
}

/// The transmit queue and its state.
///
/// # Safety
/// The caller holds the transmit queue's lock, bottom halves or hard interrupts off, while `f` runs; or nobody else knows of the queue yet. `budget` is 0, or that of the transmit NAPI's
/// poll in which the caller is.
pub unsafe fn with_tx<R>(
    nic: NicRef<'_>,
    budget: c_int,
    f: impl FnOnce(&Shared<'static>, &mut Tx, &mut TxKernel<'_>) -> R,
) -> R {
    let state = state(nic);
    // SAFETY: The lock keeps everybody else out.
    let (tx, mut port) = unsafe { (&mut *state.tx.get(), TxKernel::new(nic, budget)) };
    f(&state.shared, tx, &mut port)
}

/// The same in the transmit NAPI's poll, taking the lock.
///
/// # Safety
/// The caller is the poll and does not hold the lock. `budget` is the poll's and not 0: netpoll comes with 0, perhaps from an
/// interrupt that hit the holder of the lock.
pub unsafe fn poll_tx(nic: NicRef<'_>, budget: c_int, f: impl FnOnce(&Shared<'static>, &mut Tx, &mut TxKernel<'_>)) {
    // SAFETY: Polls run with bottom halves off. Locked here, unlocked below.
    unsafe {
        sys::glue_tx_lock(nic);
        with_tx(nic, budget, f);
        sys::glue_tx_unlock(nic);
    }
}

/// Brings a device up as an interface. Process context.
///
/// # Errors
/// An errno, positive.
pub fn probe(vdev: VirtioRef<'_>) -> Result<(), c_int> {
    let has = |bit| sys::glue_has_feature(vdev, bit);
    if !has(feature::VERSION_1) {
        let text = c"Device is a legacy one (no VIRTIO_F_VERSION_1); with QEMU, set disable-legacy=on";
        // SAFETY: A C string.
        unsafe { sys::glue_error(vdev, text.as_ptr()) };
        return Err(ENODEV);
    }
    let nic =
        NonNull::new(sys::glue_nic_alloc(vdev, QUEUE_PAGE_SIZE, size_of::<Registration>() as c_uint)).ok_or(ENOMEM)?;
    // SAFETY: Freed by `release` only, which ends all use.
    let nic = unsafe { NicRef::from_raw(nic) };
    let features = Features { guest_csum: has(feature::GUEST_CSUM), merged_buffers: has(feature::MRG_RXBUF) };
    let cells = NonNull::new(sys::glue_page(nic)).map(NonNull::cast::<[core::sync::atomic::AtomicU32; CELLS]>);
    // With an IOMMU in between the device could not go on using the page after it has returned the chain.
    let page = cells.filter(|_| !has(feature::ACCESS_PLATFORM)).map(|cells| {
        // SAFETY: `QUEUE_PAGE_SIZE` bytes, page-aligned, freed with the interface, after the state that this goes into. Rust looks at them only
        // as atomics; so does rendezvous.c.
        QueuePage::new(unsafe { cells.as_ref() })
    });
    let state = State { shared: Shared::new(features, page), tx: UnsafeCell::new(Tx::new()) };
    // SAFETY: The memory is for this, and nobody knows of it yet.
    unsafe { ptr::write(sys::glue_state(nic).cast(), state) };
    sys::glue_init_deferred(nic);
    // Before the queues: an interrupt that a bad device raises too early finds NAPIs that nobody can schedule.
    sys::glue_napi_add(nic);
    let err = sys::glue_find_vqs(nic);
    if err != 0 {
        // SAFETY: Never enabled, never used.
        unsafe { release(nic) };
        return Err(-err);
    }
    // SAFETY: Nobody else knows of the queue yet.
    if !unsafe { with_tx(nic, 0, |_, _, port| tx::ring_suffices(port)) } {
        let text = c"The transmit ring has fewer entries than the largest frame takes (MAX_SKB_FRAGS + 4); with QEMU, raise tx_queue_size";
        sys::glue_reset(nic);
        // SAFETY: A C string. Reset; never enabled, never used.
        unsafe {
            sys::glue_error(vdev, text.as_ptr());
            sys::glue_del_vqs(nic);
            release(nic);
        }
        return Err(ENODEV);
    }
    let mut mac = [0; 6];
    if has(feature::MAC) {
        // SAFETY: 6 bytes; negotiated.
        unsafe { sys::glue_read_mac(nic, mac.as_mut_ptr()) };
    }
    let max_mtu = if features.merged_buffers { MERGED_MTU } else { ETHERNET_MTU };
    let (mtu, max_mtu) = match has(feature::MTU).then(|| u32::from(sys::glue_read_mtu(nic))) {
        Some(device) if device >= 68 && device <= max_mtu => (device, device),
        _ => (ETHERNET_MTU, max_mtu),
    };
    // SAFETY: 6 bytes; all zero is no valid address, and brings a random one.
    unsafe {
        sys::glue_netdev_setup(
            nic,
            mac.as_ptr(),
            has(feature::CSUM),
            features.guest_csum,
            mtu,
            max_mtu,
            header::LEN as u16,
        );
    }
    // SAFETY: Just added, so disabled. Enabled until removal: registrations come back while the interface is down, too.
    unsafe { sys::napi_enable(sys::glue_tx_napi(nic)) };
    let err = sys::glue_netdev_register(nic);
    if err != 0 {
        sys::glue_config_off(nic);
        sys::glue_reset(nic);
        // SAFETY: Enabled above; and nothing is in the rings.
        unsafe {
            tx_napi_off(nic);
            sys::glue_del_vqs(nic);
            release(nic);
        }
        return Err(-err);
    }
    link(nic, vdev);
    Ok(())
}

/// Looks at the link's state and acts on it. Process context.
pub fn link(nic: NicRef<'_>, vdev: VirtioRef<'_>) {
    let up = !sys::glue_has_feature(vdev, feature::STATUS) || sys::glue_read_status(nic) & STATUS_LINK_UP != 0;
    sys::glue_carrier(nic, up);
    sys::glue_tx_lock_bh(nic);
    // SAFETY: Locked in the line above, unlocked in the line below.
    unsafe {
        with_tx(nic, 0, |shared, tx, port| tx.link(shared, port, up));
        sys::glue_tx_unlock_bh(nic);
    }
}

/// Ends the transmit NAPI's polls. `napi_disable()` only waits until one has given `SCHED` up, and the poll looks at the ring after
/// that ([`Tx::poll`]); so the grace period, in which every poll that had begun returns.
///
/// # Safety
/// The NAPI is enabled. Process context.
unsafe fn tx_napi_off(nic: NicRef<'_>) {
    // SAFETY: The caller's promise.
    unsafe { sys::napi_disable(sys::glue_tx_napi(nic)) };
    sys::glue_napi_grace();
}

/// Takes the interface down for good. Process context; the device may be dead.
///
/// # Safety
/// The interface went through [`probe`], and is not used again.
pub unsafe fn remove(nic: NicRef<'_>) {
    sys::glue_config_off(nic);
    sys::glue_netdev_unregister(nic);
    // SAFETY: Enabled since probe; nobody transmits any more.
    unsafe { tx_napi_off(nic) };
    sys::glue_reset(nic);
    // SAFETY: The device is reset, so no interrupt handler runs; nobody transmits; and no poll runs or will begin, so the queues are
    // ours. For the transmit NAPI `tx_napi_off` has seen to that. The receive NAPI was disabled by `ndo_stop` (or never enabled), and
    // `unregister_netdev()` goes through `synchronize_net()` after it has closed the interface: a poll that had given `SCHED` up and
    // was still on its way to arm the queue, kick it or look at its used index had bottom halves off, so it was over by then.
    // Tokens are skbs that the rings owned, but for the registration, whose memory is the interface's.
    unsafe {
        let (rx, tx) = (sys::glue_rx_vq(nic), sys::glue_tx_vq(nic));
        while let Some(skb) = Skb::from_raw(sys::virtqueue_detach_unused_buf(rx)) {
            drop(skb);
        }
        while let Some(token) = NonNull::new(sys::virtqueue_detach_unused_buf(tx)) {
            if !sys::glue_is_registration(nic, token.as_ptr()) {
                drop(Skb::from_raw(token.as_ptr()));
            }
        }
        sys::glue_del_vqs(nic);
        release(nic);
    }
}

/// The last step back from [`probe`]'s first. (The state has nothing to drop.)
///
/// # Safety
/// The queues are deleted or were never there; the NAPIs are disabled; nobody uses the interface again.
unsafe fn release(nic: NicRef<'_>) {
    const { assert!(!core::mem::needs_drop::<State>()) }
    // SAFETY: The caller's promise.
    unsafe {
        sys::glue_napi_del(nic);
        sys::glue_nic_free(nic);
    }
}

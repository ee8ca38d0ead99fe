// SPDX-License-Identifier: GPL-2.0-only
//! An interface from probe to removal, and through the machine's sleep. Process context, all of it.
//!
//! What can be done next is what the value at hand offers: [`Interface`] (memory) gives [`Queues`],
//! which borrow it, and these become [`Started`]. Back again: [`Started::quiesce`], then each value
//! is dropped.

use core::ffi::{c_int, c_uint};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;

use tsnic_abi::{CLOCK_RATE_MAX_PPB, QUEUE_PAGE_SIZE, Registration};

use super::nic::{self, State};
use super::skb::Skb;
use super::sys::{self, NicRef, VirtioRef};
use crate::header;
use crate::queue_page::{CELLS, QueuePage};
use crate::shared::{Features, Shared};
use crate::tx;

/// Feature bits (virtio 1.x, sections 5.1.3 and 6).
mod feature {
    pub const CSUM: u32 = 0;
    pub const GUEST_CSUM: u32 = 1;
    pub const MTU: u32 = 3;
    pub const MAC: u32 = 5;
    pub const MRG_RXBUF: u32 = 15;
    pub const VERSION_1: u32 = 32;
    pub const ACCESS_PLATFORM: u32 = 33;
}

const ETHERNET_MTU: u32 = 1500;
/// What fits into a frame of merged buffers.
const MERGED_MTU: u32 = 65_535 - 18;

const ENOMEM: c_int = 12;
const ENODEV: c_int = 19;

/// An errno, positive.
type Errno = c_int;

/// `virtio_driver.probe`: brings a device up as an interface.
///
/// # Errors
/// Everything done is undone.
pub fn probe(vdev: VirtioRef<'_>) -> Result<(), Errno> {
    if !sys::glue_has_feature(vdev, feature::VERSION_1) {
        error(
            vdev,
            c"Device is a legacy one (no VIRTIO_F_VERSION_1); with QEMU, set disable-legacy=on",
        );
        return Err(ENODEV);
    }
    // SAFETY: The core probes a device that has no driver.
    let mut interface = unsafe { Interface::new(vdev) }?;
    let nic = interface.0;
    let started = interface.find_queues()?.register()?;
    // SAFETY: Started, and quiesced only by `freeze` and `remove`, which turn the configuration
    // work off first; and this caller has not returned to the core, which calls them.
    unsafe { nic::link(nic) };
    started.keep();
    mem::forget(interface);
    // SAFETY: The first time; unregistered by `remove`, which frees the interface afterwards.
    unsafe { sys::glue_ptp_register(nic, CLOCK_RATE_MAX_PPB as c_int) };
    Ok(())
}

/// `virtio_driver.remove`. The device may be dead.
///
/// # Safety
/// 1. The interface went through [`probe`], and is not used again.
/// 2. Nobody else is in this file with it.
pub unsafe fn remove(nic: NicRef<'static>) {
    sys::glue_ptp_unregister(nic);
    sys::glue_config_off(nic);
    // SAFETY: Registered by `probe`.
    unsafe { sys::glue_netdev_unregister(nic) };
    // SAFETY: 1, 2: the caller's promise. Not registered any more, so `is_started` does not change.
    unsafe {
        if nic::state(nic).is_started() {
            drop(Started::again(nic).quiesce());
        }
        drop(Interface(nic));
    }
}

/// `virtio_driver.freeze`: the machine is going to sleep, or an image of its memory is going to be
/// made. What was in the rings is freed.
///
/// # Safety
/// As for [`remove`]; but the interface is used again after [`restore`].
pub unsafe fn freeze(nic: NicRef<'static>) {
    sys::glue_config_off(nic);
    let state = nic::state(nic);
    // SAFETY: The caller's promise: the interface is registered and started. Programs are frozen;
    // the kernel's own users of the interface are kept out by RTNL until the interface is detached,
    // and by that until it is attached again.
    unsafe {
        sys::glue_rtnl_lock();
        if state.is_up() {
            nic::receive_off(nic);
        }
        let queues = Started::again(nic).quiesce();
        // The lock: whoever transmits has come to an end.
        sys::glue_tx_lock_bh(nic);
        sys::glue_netdev_detach(nic);
        sys::glue_tx_unlock_bh(nic);
        drop(queues);
        sys::glue_rtnl_unlock();
    }
}

/// `virtio_driver.restore`: the machine is awake again, and the device as it is after a reset and
/// the negotiation of features.
///
/// # Errors
/// The interface stays detached.
///
/// # Safety
/// As for [`freeze`], which comes first.
pub unsafe fn restore(nic: NicRef<'static>) -> Result<(), Errno> {
    // SAFETY: The interface is the kernel's to keep, so it is not dropped here. It has no queues
    // since `freeze`.
    let mut interface = unsafe { Interface::again(nic) };
    let queues = interface.find_queues()?;
    // SAFETY: Registered, detached, and kept so by RTNL. In this order: the device is not kicked
    // before it is ready.
    unsafe {
        sys::glue_rtnl_lock();
        queues.restart().keep();
        if nic::state(nic).is_up() {
            nic::receive_on(nic);
        }
        sys::glue_netdev_attach(nic);
        sys::glue_rtnl_unlock();
    }
    sys::glue_config_on(nic);
    // SAFETY: Started; for the rest as in `probe`.
    unsafe { nic::link(nic) };
    Ok(())
}

/// Memory, NAPIs, timer and work of an interface.
///
/// # Invariants
/// It has no queues but those that [`Interface::find_queues`] has given, and both NAPIs are
/// disabled but by [`Started`] or by `ndo_open`. When it is dropped it is not registered.
struct Interface(NicRef<'static>);

impl Interface {
    /// A new one, which becomes the device's driver data.
    ///
    /// # Safety
    /// The device has no driver data.
    unsafe fn new(vdev: VirtioRef<'_>) -> Result<Self, Errno> {
        let has = |bit| sys::glue_has_feature(vdev, bit);
        // SAFETY: The caller's promise.
        let nic = unsafe {
            sys::glue_nic_alloc(vdev, QUEUE_PAGE_SIZE, size_of::<Registration>() as c_uint)
        };
        // SAFETY: Live until `drop`, after which nobody has a handle.
        let nic = unsafe { NicRef::from_raw(NonNull::new(nic).ok_or(ENOMEM)?) };
        let features = Features {
            guest_csum: has(feature::GUEST_CSUM),
            merged_buffers: has(feature::MRG_RXBUF),
        };
        let cells = NonNull::new(sys::glue_page(nic)).map(NonNull::cast::<[AtomicU32; CELLS]>);
        // With an IOMMU in between the device could not go on using the page after it has returned
        // the chain.
        let page = cells.filter(|_| !has(feature::ACCESS_PLATFORM)).map(|cells| {
            // SAFETY:
            // 1. `QUEUE_PAGE_SIZE` bytes, page-aligned; freed with the interface, after the state
            //    that this goes into.
            // 2. Rust looks at them only as atomics; so does rendezvous.c.
            QueuePage::new(unsafe { cells.as_ref() })
        });
        // SAFETY: The memory is for this, and nobody else has a handle yet: both NAPIs are
        // disabled.
        unsafe { ptr::write(sys::glue_state(nic).cast(), State::new(Shared::new(features, page))) };
        Ok(Self(nic))
    }

    /// The one that [`probe`] has left to the kernel.
    ///
    /// # Safety
    /// Nobody else has it; it has no queues.
    unsafe fn again(nic: NicRef<'static>) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(nic))
    }

    /// The device's queues.
    ///
    /// # Errors
    /// The core's, or the transmit ring is too small.
    fn find_queues(&mut self) -> Result<Queues<'_>, Errno> {
        // SAFETY: It has none: they would borrow `self`.
        match unsafe { sys::glue_find_vqs(self.0) } {
            0 => {}
            err => return Err(-err),
        }
        let queues = Queues { nic: self.0, interface: PhantomData };
        // SAFETY: 1: found above. 2: the transmit NAPI is disabled, and the stack does not
        // transmit: not registered, or detached.
        if !unsafe { nic::with_tx(queues.nic, 0, |_, _, port| tx::ring_suffices(port)) } {
            error(
                sys::glue_vdev(queues.nic),
                c"The transmit ring has fewer entries than the largest frame takes (MAX_SKB_FRAGS + 4); with QEMU, raise tx_queue_size",
            );
            return Err(ENODEV);
        }
        Ok(queues)
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        const { assert!(!mem::needs_drop::<State>()) }
        // SAFETY: By the invariant it is not registered, has no queues, and its NAPIs are disabled.
        unsafe { sys::glue_nic_free(self.0) }
    }
}

/// The queues of an interface, and the device that has them.
///
/// # Invariants
/// Nobody else uses the queues: the NAPIs are disabled and the stack does not transmit. (The
/// kernel's interrupt handlers may run: they find NAPIs that cannot be scheduled.)
struct Queues<'a> {
    nic: NicRef<'static>,
    interface: PhantomData<&'a mut Interface>,
}

impl<'a> Queues<'a> {
    /// Registers the interface with the network stack and starts the device. At probe.
    fn register(self) -> Result<Started<'a>, Errno> {
        self.set_up();
        let nic = self.nic;
        // SAFETY:
        // 1. Just added, so disabled. From here on enabled, except while frozen: registrations come
        //    back while the interface is down, too.
        // 2. Set up above.
        let err = unsafe {
            sys::napi_enable(sys::glue_tx_napi(nic));
            sys::glue_netdev_register(nic)
        };
        let started = Started(self);
        nic::state(nic).set_started(true);
        if err == 0 {
            return Ok(started);
        }
        sys::glue_config_off(nic);
        drop(started.quiesce());
        Err(-err)
    }

    /// What the stack knows of the interface. Before it is registered.
    fn set_up(&self) {
        let (nic, vdev) = (self.nic, sys::glue_vdev(self.nic));
        let has = |bit| sys::glue_has_feature(vdev, bit);
        let features = nic::state(nic).shared.features;
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
        let (csum, guest_csum, headroom) =
            (has(feature::CSUM), features.guest_csum, header::LEN as u16);
        // SAFETY: 6 bytes; all zero is no valid address, and brings a random one.
        unsafe {
            sys::glue_netdev_setup(nic, mac.as_ptr(), csum, guest_csum, mtu, max_mtu, headroom)
        };
    }

    /// Starts the device of an interface that is registered. Process context, RTNL.
    fn restart(self) -> Started<'a> {
        // SAFETY: The device was reset before its queues were found; the NAPI is disabled, by the
        // invariant.
        unsafe {
            sys::glue_device_ready(self.nic);
            sys::napi_enable(sys::glue_tx_napi(self.nic));
        }
        nic::state(self.nic).set_started(true);
        Started(self)
    }
}

impl Drop for Queues<'_> {
    fn drop(&mut self) {
        let nic = self.nic;
        // SAFETY:
        // 1. By the invariant the queues are this value's; once the device is reset no interrupt
        //    handler runs either.
        // 2. Tokens are skbs that the rings owned, but for the registration, whose memory is the
        //    interface's.
        unsafe {
            sys::glue_reset(nic);
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
            nic::queues_deleted(nic);
        }
    }
}

/// Queues that are in use: the device runs and the transmit NAPI is enabled.
struct Started<'a>(Queues<'a>);

impl Started<'_> {
    /// Leaves them to the kernel's callbacks.
    fn keep(self) {
        mem::forget(self.0);
    }

    /// Those that [`Started::keep`] has left.
    ///
    /// # Safety
    /// The interface is started, and nobody else quiesces it.
    unsafe fn again<'a>(nic: NicRef<'static>) -> Started<'a> {
        Started(Queues { nic, interface: PhantomData })
    }
}

impl<'a> Started<'a> {
    /// Ends the use of the queues by the NAPIs. The receive NAPI is disabled, or was never enabled.
    /// The stack must not transmit any more before the result is dropped.
    fn quiesce(self) -> Queues<'a> {
        let nic = self.0.nic;
        nic::state(nic).set_started(false);
        // `napi_disable()` only waits until a poll has given `SCHED` up, after which the poll still
        // looks at its ring, arms or kicks it. A grace period waits for the poll's return. SAFETY:
        // Enabled, by the type.
        unsafe { sys::napi_disable(sys::glue_tx_napi(nic)) };
        sys::glue_napi_grace();
        self.0
    }
}

fn error(vdev: VirtioRef<'_>, text: &core::ffi::CStr) {
    // SAFETY: It ends with a NUL.
    unsafe { sys::glue_error(vdev, text.as_ptr()) }
}

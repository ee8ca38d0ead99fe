// SPDX-License-Identifier: GPL-2.0-only
//! The C side: `kbuild/glue_*.c` (one file per kernel header) and the exported kernel functions
//! that need no glue.
//!
//! `kbuild/build` derives a C declaration from each declaration here, and from each structure, and
//! has the C compiler compare it with that of `kbuild/tsnic.h` or the kernel
//! (`kbuild/signatures.awk`). It knows the types that are used so far.
//!
//! A function is `safe` when its only condition is that its handles are live, which is the
//! invariant of [`Handle`], and when what it changes is the kernel's own and guarded by the kernel
//! (a timer, a state bit, a work item), so that calls may overlap. The others are `unsafe` and say
//! what more they ask for. Types of this crate that own or borrow exclusively wrap those:
//! [`super::skb::Skb`], [`super::life`], [`super::rx::RxKernel`], [`super::tx::TxKernel`].

use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use core::marker::PhantomData;
use core::ptr::NonNull;

macro_rules! opaque {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("`struct ", stringify!($name), "`, in C.")]
            #[repr(C)]
            pub struct $name {
                _opaque: [u8; 0],
            }
        )*
    };
}
opaque! { tsnic virtio_device virtqueue napi_struct sk_buff net_device }

/// A handle of a C object.
///
/// # Invariants
/// The object is live for `'a`.
#[repr(transparent)]
pub struct Handle<'a, T>(NonNull<T>, PhantomData<&'a T>);

impl<T> Handle<'_, T> {
    /// The handle of an object.
    ///
    /// # Safety
    /// The object is live for the handle's lifetime.
    pub const unsafe fn from_raw(raw: NonNull<T>) -> Self {
        Self(raw, PhantomData)
    }
}

impl<T> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<'_, T> {}

/// One network interface of this driver: its memory, NAPIs, timer and work.
pub type NicRef<'a> = Handle<'a, tsnic>;
/// A virtio device.
pub type VirtioRef<'a> = Handle<'a, virtio_device>;
/// A virtqueue.
pub type QueueRef<'a> = Handle<'a, virtqueue>;
/// A NAPI instance.
pub type NapiRef<'a> = Handle<'a, napi_struct>;

/// `struct tsnic_totals`
#[repr(C)]
pub struct Totals {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
}

/// `struct tsnic_moderation`
#[repr(C)]
#[derive(Default)]
pub struct Limits {
    pub rx_usecs: u32,
    pub rx_frames: u32,
    pub tx_usecs: u32,
    pub tx_frames: u32,
    pub adaptive_rx: bool,
    pub adaptive_tx: bool,
}

/// `struct tsnic_tx_wish`
#[repr(C)]
#[derive(Default)]
pub struct TxWish {
    pub csum_start: u16,
    pub csum_offset: u16,
    pub csum: bool,
    pub hwtstamp: bool,
}

/// `struct tsnic_rendezvous`
#[repr(C)]
pub struct Rendezvous {
    pub requested: *const u32,
    pub arrived: *mut u32,
    pub point: *mut u32,
    pub released: *const u32,
    pub before_complete: u32,
}

// SAFETY:
// 1. Each declaration has the C function's type: the module's build compares them.
// 2. A `safe` function asks for no more than its handles' invariant: see the module's text, and the
//    C function.
unsafe extern "C" {
    // glue_virtio.c: linux/virtio_config.h, linux/slab.h. Process context; may sleep.

    /// A new interface, not yet registered, with its NAPIs added and disabled; NULL without memory.
    /// It becomes the device's driver data.
    ///
    /// # Safety
    /// The device has no other.
    pub unsafe fn glue_nic_alloc(
        vdev: VirtioRef<'_>,
        page_size: c_uint,
        registration_size: c_uint,
    ) -> *mut tsnic;
    /// Frees an interface and its page.
    ///
    /// # Safety
    /// Nobody has a handle of it any more; it is not registered, its NAPIs are disabled and its
    /// queues are deleted.
    pub unsafe fn glue_nic_free(nic: NicRef<'_>);
    pub safe fn glue_has_feature(vdev: VirtioRef<'_>, bit: c_uint) -> bool;
    /// `dev_err()`. Any context.
    ///
    /// # Safety
    /// `text` ends with a NUL.
    pub unsafe fn glue_error(vdev: VirtioRef<'_>, text: *const c_char);
    /// `virtio_find_vqs()`: queues "rx" and "tx". From here on interrupts may come.
    ///
    /// # Safety
    /// The interface has no queues.
    pub unsafe fn glue_find_vqs(nic: NicRef<'_>) -> c_int;
    /// # Safety
    /// The interface has queues, and nobody uses them again. The device is reset.
    pub unsafe fn glue_del_vqs(nic: NicRef<'_>);
    /// `virtio_reset_device()`: returns when no interrupt handler runs any more and none will.
    ///
    /// # Safety
    /// Nobody expects anything of the queues any more.
    pub unsafe fn glue_reset(nic: NicRef<'_>);
    /// `virtio_device_ready()`: the device may be kicked.
    ///
    /// # Safety
    /// The interface has queues; once after it was reset.
    pub unsafe fn glue_device_ready(nic: NicRef<'_>);
    /// # Safety
    /// `mac` has room for 6 bytes; `VIRTIO_NET_F_MAC` is negotiated.
    pub unsafe fn glue_read_mac(nic: NicRef<'_>, mac: *mut u8);
    pub safe fn glue_read_status(nic: NicRef<'_>) -> u16;
    pub safe fn glue_read_mtu(nic: NicRef<'_>) -> u16;

    // glue_virtio.c: from one handle to another. Any context.

    /// The memory of the Rust half's state: zeroed at first, 8-byte aligned, `tsnic_state_size()`
    /// bytes.
    pub safe fn glue_state(nic: NicRef<'_>) -> *mut c_void;
    /// The page: page-aligned, zeroed at first, freed with the interface; NULL if there was no
    /// memory for it.
    pub safe fn glue_page(nic: NicRef<'_>) -> *mut c_void;
    pub safe fn glue_vdev(nic: NicRef<'_>) -> VirtioRef<'_>;
    pub safe fn glue_rx_napi(nic: NicRef<'_>) -> NapiRef<'_>;
    pub safe fn glue_tx_napi(nic: NicRef<'_>) -> NapiRef<'_>;
    /// # Safety
    /// The interface is one of this driver.
    pub unsafe fn glue_nic_of_dev<'a>(dev: NonNull<net_device>) -> NicRef<'a>;
    /// # Safety
    /// The device is one that this driver has probed.
    pub unsafe fn glue_nic_of_vdev(vdev: VirtioRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// The queue is one of this driver.
    pub unsafe fn glue_nic_of_vq(vq: QueueRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// It is a receive NAPI of this driver.
    pub unsafe fn glue_nic_of_rx_napi(napi: NapiRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// It is a transmit NAPI of this driver.
    pub unsafe fn glue_nic_of_tx_napi(napi: NapiRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// The interface has queues, for as long as the handle is used.
    pub unsafe fn glue_rx_vq(nic: NicRef<'_>) -> QueueRef<'_>;
    /// # Safety
    /// The same.
    pub unsafe fn glue_tx_vq(nic: NicRef<'_>) -> QueueRef<'_>;

    // glue_virtqueue.c and linux/virtio.h (drivers/virtio/virtio_ring.c). None sleeps.
    //
    // # Safety, of all `unsafe` ones: nobody else is in a function on the same queue,
    // `virtqueue_notify()` apart.

    pub unsafe fn glue_num_free(vq: QueueRef<'_>) -> c_uint;
    /// `virtqueue_add_inbuf()`: on success the ring owns the skb; its data has room for `length`
    /// bytes.
    pub unsafe fn glue_add_in(vq: QueueRef<'_>, skb: *mut sk_buff, length: c_uint) -> c_int;
    /// `virtqueue_add_outbuf()`: on success the ring owns the skb. `header` has `length` bytes, at
    /// most 12.
    pub unsafe fn glue_add_out(
        nic: NicRef<'_>,
        skb: *mut sk_buff,
        header: *const c_void,
        length: c_uint,
    ) -> c_int;
    /// `virtqueue_add_sgs()`: the header, copied, then the page. No other registration is in the
    /// ring; `header` has `length` bytes, at most what `glue_nic_alloc()` was told.
    pub unsafe fn glue_add_registration(
        nic: NicRef<'_>,
        header: *const c_void,
        length: c_uint,
    ) -> c_int;
    pub unsafe fn virtqueue_get_buf(vq: QueueRef<'_>, len: *mut c_uint) -> *mut c_void;
    pub unsafe fn virtqueue_detach_unused_buf(vq: QueueRef<'_>) -> *mut c_void;
    pub unsafe fn virtqueue_kick(vq: QueueRef<'_>) -> bool;
    pub unsafe fn virtqueue_disable_cb(vq: QueueRef<'_>);
    pub unsafe fn virtqueue_enable_cb_prepare(vq: QueueRef<'_>) -> c_uint;
    pub unsafe fn virtqueue_enable_cb_delayed(vq: QueueRef<'_>) -> bool;
    pub unsafe fn virtqueue_poll(vq: QueueRef<'_>, mark: c_uint) -> bool;
    /// Kicks the device in any case. Any context, beside anything.
    pub safe fn virtqueue_notify(vq: QueueRef<'_>) -> bool;
    /// Entries of the ring; constant.
    pub safe fn glue_ring_size(vq: QueueRef<'_>) -> c_uint;
    /// `virtqueue_is_broken()`. Any context.
    pub safe fn glue_is_broken(vq: QueueRef<'_>) -> bool;
    /// The chain is the registration, not a packet.
    pub safe fn glue_is_registration(nic: NicRef<'_>, token: *const c_void) -> bool;

    // glue_netdev.c: linux/netdevice.h, linux/rtnetlink.h.

    /// Process context.
    ///
    /// # Safety
    /// Before registration. `mac` has 6 bytes, or is NULL for a random address.
    pub unsafe fn glue_netdev_setup(
        nic: NicRef<'_>,
        mac: *const u8,
        csum: bool,
        guest_csum: bool,
        mtu: u32,
        max_mtu: u32,
        headroom: u16,
    );
    /// `register_netdevice()`, then `virtio_device_ready()`. Takes RTNL; may sleep.
    ///
    /// # Safety
    /// Set up, and not registered; the interface has queues.
    pub unsafe fn glue_netdev_register(nic: NicRef<'_>) -> c_int;
    /// `unregister_netdev()`: closes the interface. Takes RTNL; may sleep.
    ///
    /// # Safety
    /// Registered.
    pub unsafe fn glue_netdev_unregister(nic: NicRef<'_>);
    /// `netif_device_detach()`, `netif_device_attach()`. Process context, RTNL.
    ///
    /// # Safety
    /// Registered.
    pub unsafe fn glue_netdev_detach(nic: NicRef<'_>);
    /// # Safety
    /// The same; the queues take frames.
    pub unsafe fn glue_netdev_attach(nic: NicRef<'_>);
    /// Process context; sleeps.
    ///
    /// # Safety
    /// The caller does not hold it.
    pub unsafe fn glue_rtnl_lock();
    /// # Safety
    /// The caller holds it.
    pub unsafe fn glue_rtnl_unlock();
    /// Process context.
    pub safe fn glue_carrier(nic: NicRef<'_>, up: bool);
    /// Any context, like the next two.
    pub safe fn glue_queue_stop(nic: NicRef<'_>);
    pub safe fn glue_queue_wake(nic: NicRef<'_>);
    pub safe fn glue_queue_stopped(nic: NicRef<'_>) -> bool;
    /// The transmit queue's lock, bottom halves off: the lock under which the stack transmits.
    /// Process context.
    ///
    /// # Safety
    /// The caller does not hold it.
    pub unsafe fn glue_tx_lock_bh(nic: NicRef<'_>);
    /// # Safety
    /// The caller holds the lock, by [`glue_tx_lock_bh`].
    pub unsafe fn glue_tx_unlock_bh(nic: NicRef<'_>);
    /// The same lock, for a caller that has bottom halves off and hard interrupts on. Spins.
    ///
    /// # Safety
    /// Bottom halves are off, and the caller does not hold it.
    pub unsafe fn glue_tx_lock(nic: NicRef<'_>);
    /// # Safety
    /// The caller holds the lock, by [`glue_tx_lock`].
    pub unsafe fn glue_tx_unlock(nic: NicRef<'_>);
    /// `netdev_xmit_more()`. In `ndo_start_xmit`.
    pub safe fn glue_xmit_more() -> bool;

    // glue_napi.c and linux/netdevice.h (net/core/dev.c).

    pub safe static glue_napi_sched_bit: c_uint;
    pub safe static glue_napi_disable_bit: c_uint;
    /// `&napi->state`.
    pub safe fn glue_napi_state(napi: NapiRef<'_>) -> *mut c_ulong;
    /// `synchronize_net()`: returns when every poll that had begun has returned. Process context;
    /// sleeps.
    pub safe fn glue_napi_grace();
    /// Softirq context, or bottom halves or hard interrupts off.
    pub safe fn glue_napi_schedule(napi: NapiRef<'_>);
    /// Process context.
    pub safe fn glue_napi_schedule_bh(napi: NapiRef<'_>);
    /// Any context.
    pub safe fn napi_schedule_prep(napi: NapiRef<'_>) -> bool;
    /// Any context.
    ///
    /// # Safety
    /// The caller has just taken `SCHED`, which passes to the poll.
    pub unsafe fn __napi_schedule(napi: NapiRef<'_>);
    /// Bottom halves off: softirq, NAPI thread, or the process that busy-polls.
    ///
    /// # Safety
    /// The caller is the instance's poll; when this returns it is not any more.
    pub unsafe fn napi_complete_done(napi: NapiRef<'_>, work: c_int) -> bool;
    /// Process context. From Linux 6.14 on it takes the interface's instance lock; may sleep.
    ///
    /// # Safety
    /// The instance is disabled (as it is after it was added).
    pub unsafe fn napi_enable(napi: NapiRef<'_>);
    /// Process context; sleeps until it has got `SCHED`, after which no poll begins. One that has
    /// given `SCHED` up may not have returned yet: [`glue_napi_grace`].
    ///
    /// # Safety
    /// The instance is enabled.
    pub unsafe fn napi_disable(napi: NapiRef<'_>);
    /// `napi_gro_receive()`: takes the skb. Context as before.
    ///
    /// # Safety
    /// The caller is the instance's poll, and owns the skb.
    pub unsafe fn glue_gro_receive(napi: NapiRef<'_>, skb: *mut sk_buff);

    // glue_skb.c: linux/skbuff.h. Any context unless it is said.
    //
    // # Safety, of all of them: the skb is live; the caller owns it if the pointer is to mutable.

    pub safe static glue_max_skb_frags: c_uint;
    /// `netdev_alloc_skb()`: `length` bytes of linear room; NULL without memory.
    pub safe fn glue_skb_alloc(nic: NicRef<'_>, length: c_uint) -> *mut sk_buff;
    /// Takes the skb.
    pub unsafe fn glue_skb_free(skb: *mut sk_buff);
    /// `napi_consume_skb()`: takes the skb. `budget` is the poll's, or 0 outside of one.
    pub unsafe fn glue_skb_consume(skb: *mut sk_buff, budget: c_int);
    pub unsafe fn glue_skb_data(skb: *const sk_buff) -> *const c_void;
    pub unsafe fn glue_skb_len(skb: *const sk_buff) -> c_uint;
    /// `skb_put()`, `__skb_pull()`. The linear room has `length` bytes; `pull` is at most that.
    pub unsafe fn glue_skb_put_pull(skb: *mut sk_buff, length: c_uint, pull: c_uint);
    /// Appends `part` to the fragment list of `head`, which owns it then. `tail` is the last part
    /// so far, or NULL.
    pub unsafe fn glue_skb_chain(head: *mut sk_buff, tail: *mut *mut sk_buff, part: *mut sk_buff);
    pub unsafe fn glue_skb_csum_valid(skb: *mut sk_buff);
    /// `skb_partial_csum_set()`: false when the place is outside of the linear data.
    pub unsafe fn glue_skb_csum_partial(skb: *mut sk_buff, start: u16, offset: u16) -> bool;
    pub unsafe fn glue_skb_hwtstamp(skb: *mut sk_buff, ns: u64);
    /// `eth_type_trans()`. The linear data has an Ethernet header.
    pub unsafe fn glue_skb_type(nic: NicRef<'_>, skb: *mut sk_buff);
    pub unsafe fn glue_skb_wish(skb: *const sk_buff, wish: &mut TxWish);
    /// In transmission, once, before `glue_add_out()`: writes the control block.
    pub unsafe fn glue_skb_stamp_soon(skb: *mut sk_buff, promised: bool);
    pub unsafe fn glue_skb_stamp_soft(skb: *mut sk_buff);
    /// Of a packet that was in the transmit ring.
    pub unsafe fn glue_skb_stamp_due(skb: *const sk_buff) -> bool;
    /// `skb_tstamp_tx()`. Not in hard interrupt context.
    pub unsafe fn glue_skb_stamped(skb: *mut sk_buff, ns: u64);
    /// `skb_tx_timestamp()`, of a packet that the stack was told would get a hardware timestamp.
    /// Not in hard interrupt context.
    pub unsafe fn glue_skb_unstamped(skb: *mut sk_buff);

    // glue_ptp.c: linux/ptp_clock_kernel.h. Process context, not under RTNL.

    /// `ptp_clock_register()`: its callbacks take RTNL and may come at once. An error is only
    /// logged.
    ///
    /// # Safety
    /// The interface has no such clock, and is not freed before the clock is unregistered.
    pub unsafe fn glue_ptp_register(nic: NicRef<'_>, max_ppb: c_int);
    /// `ptp_clock_unregister()`: no callback runs afterwards.
    pub safe fn glue_ptp_unregister(nic: NicRef<'_>);

    // glue_timer.c: linux/delay.h, linux/timer.h, linux/workqueue.h.

    /// `usleep_range()`: so many microseconds, or up to twice that. Process context.
    pub safe fn glue_sleep_us(us: c_uint);
    /// `mod_timer()`. Any context.
    pub safe fn glue_refill_in(nic: NicRef<'_>, ms: c_uint);
    /// `timer_delete_sync()`. Process context.
    pub safe fn glue_refill_cancel(nic: NicRef<'_>);
    /// Queues the configuration work, if it is not off. Any context.
    pub safe fn glue_schedule_config_work(nic: NicRef<'_>);
    /// Process context; sleeps until the configuration work is over.
    pub safe fn glue_config_off(nic: NicRef<'_>);
    /// Any context.
    pub safe fn glue_config_on(nic: NicRef<'_>);
}

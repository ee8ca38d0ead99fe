// SPDX-License-Identifier: GPL-2.0-only
//! The C side: `kbuild/glue_*.c` (one file per kernel header) and the exported kernel functions that need no glue.
//!
//! The same list as `kbuild/tsnic.h`. A function is `safe` here when its only condition is that its handles are live, which
//! is the invariant of the handle types; the others are `unsafe` and say what more they ask for.

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

/// One network interface of this driver.
pub type NicRef<'a> = Handle<'a, tsnic>;
/// A virtio device.
pub type VirtioRef<'a> = Handle<'a, virtio_device>;
/// A virtqueue.
pub type QueueRef<'a> = Handle<'a, virtqueue>;
/// A NAPI context.
pub type NapiRef<'a> = Handle<'a, napi_struct>;
/// A packet.
pub type SkbRef<'a> = Handle<'a, sk_buff>;

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

// SAFETY: The declarations agree with tsnic.h, linux/virtio.h and linux/netdevice.h; `safe` as the module's text says.
unsafe extern "C" {
    // glue_virtio.c: linux/virtio_config.h, linux/slab.h. Process context; may sleep.

    /// A new interface, not yet registered; NULL without memory. It becomes the device's driver data.
    pub safe fn glue_nic_alloc(vdev: VirtioRef<'_>, page_size: c_uint, registration_size: c_uint) -> *mut tsnic;
    /// Frees an interface and its page.
    ///
    /// # Safety
    /// Nobody has a handle of it any more; its queues are deleted.
    pub unsafe fn glue_nic_free(nic: NicRef<'_>);
    pub safe fn glue_has_feature(vdev: VirtioRef<'_>, bit: c_uint) -> bool;
    /// `dev_err()`.
    ///
    /// # Safety
    /// `text` ends with a NUL.
    pub unsafe fn glue_error(vdev: VirtioRef<'_>, text: *const c_char);
    /// `virtio_find_vqs()`: queues "rx" and "tx". From here on interrupts may come.
    pub safe fn glue_find_vqs(nic: NicRef<'_>) -> c_int;
    /// # Safety
    /// The device is reset or was never started; the queues are not used again.
    pub unsafe fn glue_del_vqs(nic: NicRef<'_>);
    /// `virtio_reset_device()`: returns when no interrupt handler runs any more and none will.
    pub safe fn glue_reset(nic: NicRef<'_>);
    /// # Safety
    /// `mac` has room for 6 bytes; `VIRTIO_NET_F_MAC` is negotiated.
    pub unsafe fn glue_read_mac(nic: NicRef<'_>, mac: *mut u8);
    pub safe fn glue_read_status(nic: NicRef<'_>) -> u16;
    pub safe fn glue_read_mtu(nic: NicRef<'_>) -> u16;

    // glue_virtio.c: from one handle to another. Any context.

    /// The memory of the Rust half's state: zeroed at first, 8-byte aligned, `tsnic_state_size()` bytes.
    pub safe fn glue_state(nic: NicRef<'_>) -> *mut c_void;
    /// The page: page-aligned, zeroed at first, freed with the interface; NULL if there was no memory for it.
    pub safe fn glue_page(nic: NicRef<'_>) -> *mut c_void;
    /// # Safety
    /// `dev` is an interface of this driver.
    pub unsafe fn glue_nic_of_dev<'a>(dev: NonNull<net_device>) -> NicRef<'a>;
    /// # Safety
    /// The device has an interface of this driver.
    pub unsafe fn glue_nic_of_vdev(vdev: VirtioRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// The queue is one of this driver.
    pub unsafe fn glue_nic_of_vq(vq: QueueRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// The context is a receive NAPI of this driver.
    pub unsafe fn glue_nic_of_rx_napi(napi: NapiRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// The context is a transmit NAPI of this driver.
    pub unsafe fn glue_nic_of_tx_napi(napi: NapiRef<'_>) -> NicRef<'_>;
    /// # Safety
    /// After `glue_find_vqs()`.
    pub unsafe fn glue_rx_vq(nic: NicRef<'_>) -> QueueRef<'_>;
    /// # Safety
    /// After `glue_find_vqs()`.
    pub unsafe fn glue_tx_vq(nic: NicRef<'_>) -> QueueRef<'_>;
    pub safe fn glue_rx_napi(nic: NicRef<'_>) -> NapiRef<'_>;
    pub safe fn glue_tx_napi(nic: NicRef<'_>) -> NapiRef<'_>;

    // glue_virtqueue.c and linux/virtio.h (drivers/virtio/virtio_ring.c). None sleeps.
    //
    // # Safety, of all of them: nobody else is in a function on the same queue, `virtqueue_notify()` apart.

    pub unsafe fn glue_num_free(vq: QueueRef<'_>) -> c_uint;
    /// `virtqueue_add_inbuf()`: on success the ring owns the skb; its data has room for `length` bytes.
    pub unsafe fn glue_add_in(vq: QueueRef<'_>, skb: SkbRef<'_>, length: c_uint) -> c_int;
    /// `virtqueue_add_outbuf()`: on success the ring owns the skb. `header` has `length` bytes, at most 12.
    pub unsafe fn glue_add_out(nic: NicRef<'_>, skb: SkbRef<'_>, header: *const u8, length: c_uint) -> c_int;
    /// `virtqueue_add_sgs()`: the header, copied, then the page. No other registration is in the ring; `header` has `length` bytes,
    /// at most what `glue_nic_alloc()` was told.
    pub unsafe fn glue_add_registration(nic: NicRef<'_>, header: *const u8, length: c_uint) -> c_int;
    pub unsafe fn virtqueue_get_buf(vq: QueueRef<'_>, len: *mut c_uint) -> *mut c_void;
    pub unsafe fn virtqueue_detach_unused_buf(vq: QueueRef<'_>) -> *mut c_void;
    pub unsafe fn virtqueue_kick(vq: QueueRef<'_>) -> bool;
    pub unsafe fn virtqueue_disable_cb(vq: QueueRef<'_>);
    pub unsafe fn virtqueue_enable_cb_prepare(vq: QueueRef<'_>) -> c_uint;
    pub unsafe fn virtqueue_enable_cb_delayed(vq: QueueRef<'_>) -> bool;
    pub unsafe fn virtqueue_poll(vq: QueueRef<'_>, mark: c_uint) -> bool;
    /// Kicks the device in any case. Any context, beside anything.
    pub safe fn virtqueue_notify(vq: QueueRef<'_>) -> bool;
    pub safe fn virtqueue_get_vring_size(vq: QueueRef<'_>) -> c_uint;
    /// The chain is the registration, not a packet.
    pub safe fn glue_is_registration(nic: NicRef<'_>, token: *const c_void) -> bool;

    // glue_netdev.c: linux/netdevice.h, linux/rtnetlink.h.

    /// Before registration. Process context. `mac`: 6 bytes, or NULL for a random address.
    ///
    /// # Safety
    /// `mac` is as said.
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
    pub safe fn glue_netdev_register(nic: NicRef<'_>) -> c_int;
    /// `unregister_netdev()`: closes the interface. Takes RTNL; may sleep.
    pub safe fn glue_netdev_unregister(nic: NicRef<'_>);
    /// Process context.
    pub safe fn glue_carrier(nic: NicRef<'_>, up: bool);
    /// Any context, like the next two.
    pub safe fn glue_queue_stop(nic: NicRef<'_>);
    pub safe fn glue_queue_wake(nic: NicRef<'_>);
    pub safe fn glue_queue_stopped(nic: NicRef<'_>) -> bool;
    /// The transmit queue's lock, bottom halves off: the lock under which the stack transmits. Process context.
    pub safe fn glue_tx_lock_bh(nic: NicRef<'_>);
    /// # Safety
    /// The caller holds the lock, by [`glue_tx_lock_bh`].
    pub unsafe fn glue_tx_unlock_bh(nic: NicRef<'_>);
    /// The same lock, for a caller that has bottom halves off and hard interrupts on. Spins.
    ///
    /// # Safety
    /// Bottom halves are off.
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
    /// `netif_napi_add()` and `netif_napi_add_tx()`. Process context.
    pub safe fn glue_napi_add(nic: NicRef<'_>);
    /// # Safety
    /// Both NAPIs are disabled; neither is used again.
    pub unsafe fn glue_napi_del(nic: NicRef<'_>);
    /// `synchronize_net()`: returns when every poll that had begun has returned. Process context; sleeps.
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
    /// The caller is the context's poll; when this returns it is not any more.
    pub unsafe fn napi_complete_done(napi: NapiRef<'_>, work: c_int) -> bool;
    /// Process context.
    ///
    /// # Safety
    /// The context is disabled (as it is after it was added).
    pub unsafe fn napi_enable(napi: NapiRef<'_>);
    /// Process context; sleeps until it has got `SCHED`, after which no poll begins. One that has given `SCHED` up may not have
    /// returned yet: [`glue_napi_grace`].
    ///
    /// # Safety
    /// The context is enabled.
    pub unsafe fn napi_disable(napi: NapiRef<'_>);
    /// `napi_gro_receive()`: takes the skb. Context as before.
    ///
    /// # Safety
    /// The caller is the context's poll, and owns the skb.
    pub unsafe fn glue_gro_receive(napi: NapiRef<'_>, skb: SkbRef<'_>);

    // glue_skb.c: linux/skbuff.h. Any context unless it is said. The caller owns the skb, or lets nobody else at it.

    pub safe static glue_max_skb_frags: c_uint;
    /// `netdev_alloc_skb()`: `length` bytes of linear room; NULL without memory.
    pub safe fn glue_skb_alloc(nic: NicRef<'_>, length: c_uint) -> *mut sk_buff;
    /// # Safety
    /// The caller owns the skb and does not use it again.
    pub unsafe fn glue_skb_free(skb: SkbRef<'_>);
    /// `napi_consume_skb()`.
    ///
    /// # Safety
    /// The same; `budget` is the poll's, or 0 outside of one.
    pub unsafe fn glue_skb_consume(skb: SkbRef<'_>, budget: c_int);
    pub safe fn glue_skb_data(skb: SkbRef<'_>) -> *const c_void;
    pub safe fn glue_skb_len(skb: SkbRef<'_>) -> c_uint;
    /// `skb_put()`, `__skb_pull()`.
    ///
    /// # Safety
    /// The linear room has `length` bytes; `pull` is at most that.
    pub unsafe fn glue_skb_put_pull(skb: SkbRef<'_>, length: c_uint, pull: c_uint);
    /// Appends `part` to the fragment list of `head`, which owns it then.
    ///
    /// # Safety
    /// `tail` is the last part so far, or NULL; the caller owns both skbs.
    pub unsafe fn glue_skb_chain(head: SkbRef<'_>, tail: *mut *mut sk_buff, part: SkbRef<'_>);
    pub safe fn glue_skb_csum_valid(skb: SkbRef<'_>);
    /// `skb_partial_csum_set()`: false when the place is outside of the linear data.
    pub safe fn glue_skb_csum_partial(skb: SkbRef<'_>, start: u16, offset: u16) -> bool;
    pub safe fn glue_skb_hwtstamp(skb: SkbRef<'_>, ns: u64);
    /// `eth_type_trans()`.
    ///
    /// # Safety
    /// The linear data has an Ethernet header.
    pub unsafe fn glue_skb_type(nic: NicRef<'_>, skb: SkbRef<'_>);
    pub safe fn glue_skb_wish(skb: SkbRef<'_>, wish: &mut TxWish);
    /// In transmission, once, before `glue_add_out()`: writes the control block.
    pub safe fn glue_skb_stamp_soon(skb: SkbRef<'_>, promised: bool);
    pub safe fn glue_skb_stamp_soft(skb: SkbRef<'_>);
    /// Of a packet that was in the transmit ring.
    pub safe fn glue_skb_stamp_due(skb: SkbRef<'_>) -> bool;
    /// `skb_tstamp_tx()`. Not in hard interrupt context.
    pub safe fn glue_skb_stamped(skb: SkbRef<'_>, ns: u64);
    /// `skb_tx_timestamp()`, of a packet that the stack was told would get a hardware timestamp. Not in hard interrupt context.
    pub safe fn glue_skb_unstamped(skb: SkbRef<'_>);

    // glue_timer.c: linux/timer.h, linux/workqueue.h.

    /// Once, before the others.
    pub safe fn glue_init_deferred(nic: NicRef<'_>);
    /// `mod_timer()`. Any context.
    pub safe fn glue_refill_in(nic: NicRef<'_>, ms: c_uint);
    /// `timer_delete_sync()`. Process context.
    pub safe fn glue_refill_cancel(nic: NicRef<'_>);
    /// Queues the configuration work, if it is not off. Any context.
    pub safe fn glue_schedule_config_work(nic: NicRef<'_>);
    /// Process context; sleeps until the configuration work is over.
    pub safe fn glue_config_off(nic: NicRef<'_>);

    // glue_module.c: linux/moduleparam.h. Any context.

    pub safe fn glue_fail_refill() -> bool;
}

// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel calls, through the tables in the C glue. `kbuild/tsnic.h` declares these
//! functions for it.

use core::ffi::{c_char, c_int, c_uint};
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU32;

use tsnic_abi::{caps, offset, point};

use super::life;
use super::mailbox;
use super::nic::{self, State};
use super::params::{BEHAVIOUR, MODE};
use super::rx::RxKernel;
use super::skb::Skb;
use super::sys::{
    self, Limits, NapiRef, NicRef, QueueRef, Rendezvous, Totals, VirtioRef, net_device, sk_buff,
};
use crate::behaviour::Behaviour;
use crate::irq::{self, Napi};
use crate::mailbox::{ClockCommand, Moderation, moderation, set_moderation};
use crate::mode::ModeError;
use crate::rx;
use crate::stamp::{StampConfig, Unsupported};
use crate::stats::{NAME_LEN, Stat};

const EBUSY: c_int = 16;
const EINVAL: c_int = 22;
const ERANGE: c_int = 34;

/// C's type of this name.
#[expect(non_camel_case_types, reason = "C's name")]
type netdev_tx_t = c_int;

const NETDEV_TX_OK: netdev_tx_t = 0;

/// Bytes of [`State`].
#[unsafe(no_mangle)]
extern "C" fn tsnic_state_size() -> usize {
    size_of::<State>()
}

/// `virtio_driver.probe`. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_probe(vdev: VirtioRef<'_>) -> c_int {
    life::probe(vdev).map_or_else(|errno| -errno, |()| 0)
}

/// `virtio_driver.remove`. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_remove(vdev: VirtioRef<'static>) {
    // SAFETY: The core calls this once, after a probe that succeeded, and none of the functions of
    // `life` beside another.
    unsafe { life::remove(sys::glue_nic_of_vdev(vdev)) }
}

/// `virtio_driver.freeze`. Process context, programs frozen.
#[unsafe(no_mangle)]
extern "C" fn tsnic_freeze(vdev: VirtioRef<'static>) -> c_int {
    // SAFETY: The core calls this after a probe or a restore that succeeded, and none of the
    // functions of `life` beside another.
    unsafe { life::freeze(sys::glue_nic_of_vdev(vdev)) }
    0
}

/// `virtio_driver.restore`. Process context, programs frozen.
#[unsafe(no_mangle)]
extern "C" fn tsnic_restore(vdev: VirtioRef<'static>) -> c_int {
    // SAFETY: The core calls this after freeze, and none of the functions of `life` beside another.
    unsafe { life::restore(sys::glue_nic_of_vdev(vdev)) }.map_or_else(|errno| -errno, |()| 0)
}

/// The configuration may have changed, a poll asks for a registration, or a queue was found broken.
/// Process context (a work item).
#[unsafe(no_mangle)]
extern "C" fn tsnic_config(nic: NicRef<'_>) {
    nic::state(nic).shared.stats.add(Stat::ConfigChanges, 1);
    // SAFETY: The work runs only while the interface is started: it is off, and over, before that
    // ends.
    unsafe { nic::link(nic) };
}

/// The receive queue's callback. Hard interrupt context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_rx_interrupt(vq: QueueRef<'_>) {
    // SAFETY: The queue is this driver's.
    let nic = unsafe { sys::glue_nic_of_vq(vq) };
    irq::receive_interrupt(&nic::state(nic).shared, MODE.mode(), &sys::glue_rx_napi(nic));
}

/// The transmit queue's callback. Hard interrupt context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_tx_interrupt(vq: QueueRef<'_>) {
    // SAFETY: The queue is this driver's.
    let nic = unsafe { sys::glue_nic_of_vq(vq) };
    nic::state(nic).shared.stats.add(Stat::TxIrqs, 1);
    let napi = sys::glue_tx_napi(nic);
    if napi.schedule_prep() {
        napi.schedule();
    }
}

/// The receive NAPI's poll. Bottom halves off: softirq, NAPI thread, or the process that
/// busy-polls.
#[unsafe(no_mangle)]
extern "C" fn tsnic_rx_poll(napi: NapiRef<'_>, budget: c_int) -> c_int {
    // SAFETY:
    // 1. Whoever has the instance polled owns `SCHED`, until `napi_complete_done()` returns true,
    //    after which `rx::poll` does not touch the ring, but for one look at its used index.
    //    (Netpoll, which does not own it, comes with budget 0, with which nothing is done.)
    // 2. The queues stay until the poll has returned (`Started::quiesce`, and
    //    `unregister_netdev()`).
    unsafe {
        let nic = sys::glue_nic_of_rx_napi(napi);
        rx::poll(&nic::state(nic).shared, &mut RxKernel::new(nic), budget)
    }
}

/// The transmit NAPI's poll. Softirq or NAPI thread. Nothing counts against the budget.
///
/// Netpoll calls it too: with budget 0, hard interrupts off, and perhaps on the CPU that holds the
/// lock. There is nothing for it here: transmission takes back what is done.
#[unsafe(no_mangle)]
extern "C" fn tsnic_tx_poll(napi: NapiRef<'_>, budget: c_int) -> c_int {
    if budget > 0 {
        // SAFETY: The poll, with its own budget, and not 0: so this is not netpoll, which may hold
        // the lock.
        unsafe {
            nic::with_tx_locked(sys::glue_nic_of_tx_napi(napi), budget, |shared, tx, port| {
                tx.poll(shared, port)
            })
        }
    }
    0
}

/// The refill timer. Softirq context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_refill(nic: NicRef<'_>) {
    rx::refill_timer(&nic::state(nic).shared, || sys::glue_napi_schedule(sys::glue_rx_napi(nic)));
}

/// `ndo_open`. Process context, RTNL.
#[unsafe(no_mangle)]
extern "C" fn tsnic_open(dev: NonNull<net_device>) -> c_int {
    MODE.up();
    // SAFETY: An interface of this driver, which is down, so its receive NAPI is disabled; and not
    // detached, so it is started.
    unsafe {
        let nic = sys::glue_nic_of_dev(dev);
        nic::state(nic).set_up(true);
        nic::receive_on(nic);
    }
    0
}

/// `ndo_stop`. Process context, RTNL. The device need not be alive.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stop(dev: NonNull<net_device>) -> c_int {
    // SAFETY: An interface of this driver, which is up. If it is not started (it could not be
    // restored after a sleep) its receive NAPI is disabled already.
    unsafe {
        let nic = sys::glue_nic_of_dev(dev);
        nic::state(nic).set_up(false);
        if nic::state(nic).is_started() {
            nic::receive_off(nic);
        }
    }
    MODE.down();
    0
}

/// `ndo_start_xmit`. Bottom halves or (netpoll) hard interrupts off, under the transmit queue's
/// lock.
#[unsafe(no_mangle)]
extern "C" fn tsnic_xmit(skb: NonNull<sk_buff>, dev: NonNull<net_device>) -> netdev_tx_t {
    // SAFETY: The stack holds the lock and gives the skb away; the interface is not detached, so it
    // has queues.
    unsafe {
        let nic = sys::glue_nic_of_dev(dev);
        if let Some(skb) = Skb::from_raw(skb.as_ptr().cast()) {
            nic::with_tx(nic, 0, |shared, tx, port| {
                tx.transmit(shared, port, skb, sys::glue_xmit_more())
            });
        }
    }
    NETDEV_TX_OK
}

/// `ndo_tx_timeout`. Softirq context (a timer); the stack does not transmit meanwhile, but holds no
/// queue's lock.
#[unsafe(no_mangle)]
extern "C" fn tsnic_tx_timeout(dev: NonNull<net_device>) {
    let text = c"The device has not sent a frame for 5 s, and the transmit ring is full";
    // SAFETY: A C string. The rest as in `tsnic_xmit`, but for the lock.
    unsafe {
        let nic = sys::glue_nic_of_dev(dev);
        sys::glue_error(sys::glue_vdev(nic), text.as_ptr());
        nic::with_tx_locked(nic, 0, |shared, tx, port| tx.timed_out(shared, port));
    }
}

/// Numbers for `ndo_get_stats64`. Any context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_totals(nic: NicRef<'_>, totals: &mut Totals) {
    let stats = &nic::state(nic).shared.stats;
    *totals = Totals {
        rx_packets: stats.get(Stat::RxPackets),
        rx_bytes: stats.get(Stat::RxBytes),
        rx_dropped: stats.rx_dropped(),
        tx_packets: stats.get(Stat::TxPackets),
        tx_bytes: stats.get(Stat::TxBytes),
        tx_dropped: stats.get(Stat::TxDropped),
    };
}

/// `SIOCSHWTSTAMP`. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stamp_set(
    nic: NicRef<'_>,
    tx_type: &mut c_int,
    rx_filter: &mut c_int,
) -> c_int {
    let shared = &nic::state(nic).shared;
    match shared
        .stamping
        .set(StampConfig { tx_type: *tx_type, rx_filter: *rx_filter }, shared.able())
    {
        Ok(config) => {
            *tx_type = config.tx_type;
            *rx_filter = config.rx_filter;
            0
        }
        Err(Unsupported) => -ERANGE,
    }
}

/// `SIOCGHWTSTAMP`. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stamp_get(nic: NicRef<'_>, tx_type: &mut c_int, rx_filter: &mut c_int) {
    let config = nic::state(nic).shared.stamping.config();
    *tx_type = config.tx_type;
    *rx_filter = config.rx_filter;
}

/// `get_ts_info`: received frames can be timestamped; `tx`: sent ones too. Must not sleep.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stamp_able(nic: NicRef<'_>, tx: &mut bool) -> bool {
    let able = nic::state(nic).shared.able();
    *tx = able.tx;
    able.rx
}

/// `get_coalesce`. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_moderation_get(nic: NicRef<'_>, limits: &mut Limits) -> c_int {
    // SAFETY: The stack holds RTNL.
    unsafe { mailbox::command(nic, limits, |shared, port| moderation(shared, port)) }
}

/// `set_coalesce`: what is in force then. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_moderation_set(nic: NicRef<'_>, limits: &mut Limits) -> c_int {
    let Limits { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx } = *limits;
    let wanted = Moderation { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx };
    // SAFETY: The stack holds RTNL.
    unsafe { mailbox::command(nic, limits, |shared, port| set_moderation(shared, port, wanted)) }
}

/// `get_ts_info`: the device has a clock. Must not sleep.
#[unsafe(no_mangle)]
extern "C" fn tsnic_has_clock(nic: NicRef<'_>) -> bool {
    nic::state(nic).shared.page_with(caps::CLOCK).is_some()
}

/// `gettimex64`: what the clock shows, nanoseconds. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_clock_read(nic: NicRef<'_>, ns: &mut u64) -> c_int {
    // SAFETY: The glue holds RTNL.
    unsafe { mailbox::clock(nic, ClockCommand::Read, ns) }
}

/// `settime64`. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_clock_set(nic: NicRef<'_>, ns: i64) -> c_int {
    // Less than 0 is more than any clock shows, and the device's to refuse.
    let set = ClockCommand::Set(ns.cast_unsigned());
    // SAFETY: The glue holds RTNL.
    unsafe { mailbox::clock(nic, set, &mut 0) }
}

/// `adjtime`. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_clock_step(nic: NicRef<'_>, ns: i64) -> c_int {
    // SAFETY: The glue holds RTNL.
    unsafe { mailbox::clock(nic, ClockCommand::Step(ns), &mut 0) }
}

/// `adjfine`: 2^-16 parts in a million. Process context, RTNL; sleeps.
#[unsafe(no_mangle)]
extern "C" fn tsnic_clock_rate(nic: NicRef<'_>, rate: i64) -> c_int {
    // SAFETY: The glue holds RTNL.
    unsafe { mailbox::clock(nic, ClockCommand::Rate(rate), &mut 0) }
}

/// Number of counters.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stat_count() -> c_uint {
    Stat::ALL.len() as c_uint
}

/// The name of a counter.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stat_name(index: c_uint, name: &mut [u8; NAME_LEN]) {
    if let Some(known) = Stat::NAMES.get(index as usize) {
        *name = *known;
    }
}

/// The value of a counter.
#[unsafe(no_mangle)]
extern "C" fn tsnic_stat_value(nic: NicRef<'_>, index: c_uint) -> u64 {
    Stat::ALL.get(index as usize).map_or(0, |&stat| nic::state(nic).shared.stats.get(stat))
}

/// The module parameter `irq_mode` is written. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_irq_mode_set(value: *const c_char, length: usize) -> c_int {
    // SAFETY: The glue gives a string and its length.
    let text = unsafe { slice::from_raw_parts(value.cast(), length) };
    match MODE.set(text) {
        Ok(()) => 0,
        Err(ModeError::Unknown) => -EINVAL,
        Err(ModeError::Busy) => -EBUSY,
    }
}

/// The module parameter `irq_mode` is read: a string for ever.
#[unsafe(no_mangle)]
extern "C" fn tsnic_irq_mode_get() -> *const c_char {
    MODE.mode().name().as_ptr()
}

/// The module parameter `behaviour` is written. Process context.
#[unsafe(no_mangle)]
extern "C" fn tsnic_behaviour_set(value: *const c_char, length: usize) -> c_int {
    // SAFETY: The glue gives a string and its length.
    let text = unsafe { slice::from_raw_parts(value.cast(), length) };
    let Some(behaviour) = Behaviour::parse(text) else { return -EINVAL };
    BEHAVIOUR.set(behaviour);
    0
}

/// The module parameter `behaviour` is read: a string for ever.
#[unsafe(no_mangle)]
extern "C" fn tsnic_behaviour_get() -> *const c_char {
    BEHAVIOUR.get().name().as_ptr()
}

/// The rendezvous cells of the receive queue; false without a page. In the queue's poll.
#[unsafe(no_mangle)]
extern "C" fn tsnic_rendezvous_cells(nic: NicRef<'_>, rendezvous: &mut Rendezvous) -> bool {
    let Some(page) = nic::state(nic).shared.page() else { return false };
    let cell = |offset| AtomicU32::as_ptr(page.cell(offset));
    *rendezvous = Rendezvous {
        requested: cell(offset::REQUESTED),
        arrived: cell(offset::ARRIVED),
        point: cell(offset::ARRIVED_POINT),
        released: cell(offset::RELEASED),
        before_complete: point::BEFORE_COMPLETE,
    };
    true
}

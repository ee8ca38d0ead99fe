// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layout of the shared queue page.

use core::mem::offset_of;

use crate::mailbox::COMMAND_WORDS;
use crate::{Counter, QUEUE_PAGE_SIZE};

/// Receive completion records, and so the most descriptors of the receive ring that a driver with a
/// page has out at a time, however many entries the ring has. A power of two.
pub const RX_RECORDS: u16 = 512;

/// Transmit completion records; the same for the transmit ring.
pub const TX_RECORDS: u16 = 512;

/// What the device can do ([`Identity::capabilities`]).
pub mod caps {
    /// Receive records carry the time at which the frame entered the port.
    pub const RX_TIMESTAMP: u32 = 1 << 0;
    /// Transmit records carry the time at which the frame left.
    pub const TX_TIMESTAMP: u32 = 1 << 1;
    /// The device may ask for rendezvous.
    pub const RENDEZVOUS: u32 = 1 << 2;
    /// The device answers commands in the mailbox.
    pub const MAILBOX: u32 = 1 << 3;
    /// The mailbox carries out commands about the NIC's clock.
    pub const CLOCK: u32 = 1 << 4;
}

/// Values of [`Progress::phase`].
pub mod phase {
    /// No poll of this queue is looking at the ring.
    pub const IDLE: u32 = 0;
    /// A poll is looking at the ring, or filling it.
    pub const POLL: u32 = 1;
    /// The interface is down: nobody polls until it is raised, which begins with a poll.
    pub const DOWN: u32 = 2;
}

/// Values of [`RendezvousArrival::point`].
pub mod point {
    /// The poll has seen its ring empty and is about to call `napi_complete_done`;
    /// `NAPI_STATE_SCHED` is still owned.
    pub const BEFORE_COMPLETE: u32 = 1;
}

/// Bits of [`Completion::flags`].
pub mod record_flags {
    /// The timestamp is valid.
    pub const TIMESTAMP: u32 = 1 << 0;
}

/// Who the device is. Written by the device before it returns the registration chain, then constant
/// until it forgets the page.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Identity {
    /// [`crate::MAGIC`].
    pub magic: u32,
    /// [`crate::VERSION`].
    pub version: u16,
    /// The queue pair.
    pub pair: u16,
    /// The generation of the registration that was accepted; 0 when the device has forgotten the
    /// page.
    pub generation: u32,
    /// [`caps`].
    pub capabilities: u32,
}

/// The doorbell record. Written by the driver. An arm is: `ci`, `irq_seen`, then (release) `arm`,
/// then a kick of the receive queue. Several arms may share one kick, so the device compares `arm`
/// with `!=`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Doorbell {
    /// Consumer index: receive used-ring entries consumed since the queue was started.
    pub ci: u32,
    /// [`Progress::irq_seen`] as it was when the arm was written, after `napi_complete_done` had
    /// returned true.
    ///
    /// It tells the device whether a handler that found `NAPI_STATE_SCHED` owned ran before this
    /// arm (the owner that it found is the one that has armed) or after it (the owner is a later
    /// one, whose poll is still to come). mlx4's arm doorbell carries its `sn` for the same purpose
    /// (include/linux/mlx4/cq.h).
    pub irq_seen: u32,
    /// Arm sequence number: a new value asks for one interrupt.
    pub arm: u32,
}

/// How far the driver has come. Written by the driver; counters run freely.
///
/// The device tells from `irq_seen` and `irq_owned` whether an interrupt it fired is still in
/// flight, and what became of it; this is what makes the loss verdict a matter of state instead of
/// time.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Progress {
    /// Polls begun.
    pub polls: u32,
    /// Receive interrupt handler runs.
    pub irqs: u32,
    /// Handler runs that found `NAPI_STATE_SCHED` owned by somebody else.
    pub irqs_owned: u32,
    /// [`Interrupts::fired`] as the latest handler run read it.
    pub irq_seen: u32,
    /// [`Interrupts::fired`] as read by the latest handler run that found `NAPI_STATE_SCHED` owned.
    /// Written before `irq_seen` (release).
    pub irq_owned: u32,
    /// [`phase`].
    pub phase: u32,
}

/// Interrupts raised. Written by the device.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Interrupts {
    /// Number of the latest receive interrupt; written (release) before the interrupt is raised.
    pub fired: u32,
}

/// The device asks for a rendezvous. Written by the device.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct RendezvousRequest {
    /// 0: none requested. Else the [`point`] at which the guest is to stop.
    pub point: u32,
}

/// The guest has come to a rendezvous. Written by the guest's test module, followed by a kick of
/// the receive queue.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct RendezvousArrival {
    /// Sequence number of the rendezvous: a new value says "arrived, and spinning".
    pub arrived: u32,
    /// Where: [`point`]. Written before `arrived` (release).
    pub point: u32,
}

/// The device lets the guest go on. Written by the device.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct RendezvousRelease {
    /// Equal to [`RendezvousArrival::arrived`]: go on.
    pub released: u32,
}

/// A command of the driver to the device. Written by the driver: operation and arguments, then
/// (release) `number`, then a kick of the receive queue. One at a time.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Command {
    /// A new value is a new command.
    pub number: u32,
    /// [`crate::op`].
    pub op: u32,
    /// Of the operation.
    pub args: [u32; COMMAND_WORDS],
}

/// The answer. Written by the device: status and values, then (release) `number`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct CommandAnswer {
    /// [`Command::number`] of the command that is answered.
    pub number: u32,
    /// [`crate::command_status`].
    pub status: u32,
    /// Of the operation.
    pub values: [u32; COMMAND_WORDS],
}

/// One completion. Written by the device before the used index that publishes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Completion {
    /// Device clock, ns. Receive: when the frame entered the port. Transmit: when it left.
    pub timestamp_ns: u64,
    /// Completion number: lets the driver see that the record is the one it looks for.
    pub number: u32,
    /// [`record_flags`].
    pub flags: u32,
}

/// The shared queue page.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct QueuePage {
    /// Device-written.
    pub identity: Identity,
    /// Driver-written.
    pub doorbell: Doorbell,
    /// Driver-written.
    pub progress: Progress,
    /// Device-written.
    pub interrupts: Interrupts,
    /// Device-written.
    pub requested: RendezvousRequest,
    /// Written by the guest's test module.
    pub arrived: RendezvousArrival,
    /// Device-written.
    pub released: RendezvousRelease,
    /// Driver-written.
    pub command: Command,
    /// Device-written.
    pub answer: CommandAnswer,
    /// Keeps the records page-aligned. Not touched.
    pub reserved: [u8; 4096 - 9 * 64],
    /// Receive records, device-written, indexed by completion number modulo [`RX_RECORDS`].
    pub rx: [Completion; RX_RECORDS as usize],
    /// Transmit records, device-written, indexed by completion number modulo [`TX_RECORDS`].
    pub tx: [Completion; TX_RECORDS as usize],
    /// Room for the event ring of a later version. Not touched.
    pub tail:
        [u8; QUEUE_PAGE_SIZE as usize - 4096 - 16 * (RX_RECORDS as usize + TX_RECORDS as usize)],
}

const _: () = assert!(size_of::<QueuePage>() == QUEUE_PAGE_SIZE as usize);
const _: () = assert!(size_of::<Completion>() == 16);
const _: () = assert!(RX_RECORDS.is_power_of_two() && TX_RECORDS.is_power_of_two());

/// Byte offsets of the cells from the start of the page.
pub mod offset {
    use super::{QueuePage, offset_of};

    /// [`super::Identity::magic`]
    pub const MAGIC: usize = offset_of!(QueuePage, identity.magic);
    /// [`super::Identity::version`]
    pub const VERSION: usize = offset_of!(QueuePage, identity.version);
    /// [`super::Identity::pair`]
    pub const PAIR: usize = offset_of!(QueuePage, identity.pair);
    /// [`super::Identity::generation`]
    pub const GENERATION: usize = offset_of!(QueuePage, identity.generation);
    /// [`super::Identity::capabilities`]
    pub const CAPABILITIES: usize = offset_of!(QueuePage, identity.capabilities);
    /// [`super::Doorbell::ci`]
    pub const CI: usize = offset_of!(QueuePage, doorbell.ci);
    /// [`super::Doorbell::irq_seen`]
    pub const ARM_IRQ_SEEN: usize = offset_of!(QueuePage, doorbell.irq_seen);
    /// [`super::Doorbell::arm`]
    pub const ARM: usize = offset_of!(QueuePage, doorbell.arm);
    /// [`super::Progress::polls`]
    pub const POLLS: usize = offset_of!(QueuePage, progress.polls);
    /// [`super::Progress::irqs`]
    pub const IRQS: usize = offset_of!(QueuePage, progress.irqs);
    /// [`super::Progress::irqs_owned`]
    pub const IRQS_OWNED: usize = offset_of!(QueuePage, progress.irqs_owned);
    /// [`super::Progress::irq_seen`]
    pub const IRQ_SEEN: usize = offset_of!(QueuePage, progress.irq_seen);
    /// [`super::Progress::irq_owned`]
    pub const IRQ_OWNED: usize = offset_of!(QueuePage, progress.irq_owned);
    /// [`super::Progress::phase`]
    pub const PHASE: usize = offset_of!(QueuePage, progress.phase);
    /// [`super::Interrupts::fired`]
    pub const FIRED: usize = offset_of!(QueuePage, interrupts.fired);
    /// [`super::RendezvousRequest::point`]
    pub const REQUESTED: usize = offset_of!(QueuePage, requested.point);
    /// [`super::RendezvousArrival::arrived`]
    pub const ARRIVED: usize = offset_of!(QueuePage, arrived.arrived);
    /// [`super::RendezvousArrival::point`]
    pub const ARRIVED_POINT: usize = offset_of!(QueuePage, arrived.point);
    /// [`super::RendezvousRelease::released`]
    pub const RELEASED: usize = offset_of!(QueuePage, released.released);
    /// [`super::Command::number`]
    pub const COMMAND: usize = offset_of!(QueuePage, command.number);
    /// [`super::Command::op`]
    pub const COMMAND_OP: usize = offset_of!(QueuePage, command.op);
    /// [`super::Command::args`]
    pub const COMMAND_ARGS: usize = offset_of!(QueuePage, command.args);
    /// [`super::CommandAnswer::number`]
    pub const ANSWER: usize = offset_of!(QueuePage, answer.number);
    /// [`super::CommandAnswer::status`]
    pub const ANSWER_STATUS: usize = offset_of!(QueuePage, answer.status);
    /// [`super::CommandAnswer::values`]
    pub const ANSWER_VALUES: usize = offset_of!(QueuePage, answer.values);
    /// First receive record.
    pub const RX: usize = offset_of!(QueuePage, rx);
    /// First transmit record.
    pub const TX: usize = offset_of!(QueuePage, tx);
}

/// Byte offset of the record of completion `number` in the record array that starts at `base`
/// ([`offset::RX`] or [`offset::TX`]) and has `records` entries ([`RX_RECORDS`], [`TX_RECORDS`]).
#[inline]
#[must_use]
pub const fn completion_offset(base: usize, records: u16, number: Counter) -> usize {
    base + size_of::<Completion>() * (number.0 as usize & (records as usize - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_different_writers_are_on_different_cache_lines() {
        let device = [
            offset::MAGIC,
            offset::FIRED,
            offset::REQUESTED,
            offset::RELEASED,
            offset::ANSWER,
            offset::RX,
            offset::TX,
        ];
        let driver = [offset::CI, offset::PHASE, offset::ARRIVED, offset::COMMAND];
        for d in device {
            for g in driver {
                assert_ne!(d / 64, g / 64);
            }
        }
    }

    #[test]
    fn records_stay_inside_the_page_and_wrap() {
        let last = completion_offset(offset::TX, TX_RECORDS, Counter(u32::MAX));
        assert!(last + size_of::<Completion>() <= QUEUE_PAGE_SIZE as usize);
        assert_eq!(completion_offset(offset::RX, RX_RECORDS, Counter(512)), offset::RX);
        assert_eq!(
            completion_offset(offset::RX, RX_RECORDS, Counter(u32::MAX).plus(1)),
            completion_offset(offset::RX, RX_RECORDS, Counter(u32::MAX)) + 16 - 512 * 16
        );
    }

    /// On both sides of every wrap: of 16 bits, of the sign, of 32 bits.
    #[test]
    fn every_completion_has_the_record_that_is_its_remainder() {
        for (base, records) in [(offset::RX, RX_RECORDS), (offset::TX, TX_RECORDS)] {
            for start in [0x8000, 0x7fff_8000, 0xffff_8000].map(Counter) {
                for number in (0..=0xffff).map(|n| start.plus(n)) {
                    let record = number.0 % u32::from(records);
                    let expected = base + size_of::<Completion>() * record as usize;
                    assert_eq!(completion_offset(base, records, number), expected, "{number:?}");
                }
            }
        }
    }
}

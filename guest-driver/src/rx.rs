// SPDX-License-Identifier: GPL-2.0-only
//! The receive queue: poll, refill, and what a received frame must be like.

use tsnic_abi::Counter;

use crate::behaviour::Behaviour;
use crate::header::{self, Checksum};
use crate::queue_page::QueuePage;
use crate::shared::{Queue, Shared};
use crate::stats::Stat;

/// Bytes of one receive buffer, header included. A Linux packet buffer of this size, with what the
/// kernel adds, is 2 KiB.
pub const BUFFER_LEN: usize = 1664;

/// Bytes of the largest frame a device may make of merged buffers.
pub const FRAME_MAX: usize = 65_535;

/// Bytes of an Ethernet header, the least a frame has.
const ETHERNET_HEADER_LEN: usize = 14;

/// What the stack is told of a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notes {
    /// The checksum.
    pub checksum: Checksum,
    /// When the frame entered the wire port, device clock, ns.
    pub timestamp_ns: Option<u64>,
}

/// The receive queue's ring, NAPI and buffers. In the poll unless it says otherwise: bottom halves
/// off, in softirq, the NAPI's kernel thread or the process that busy-polls; never sleeps.
pub trait RxPort {
    /// A receive buffer: empty, in the ring, or filled. Dropping it frees it.
    type Buffer;
    /// A frame made of buffers. Dropping it frees it.
    type Frame;

    /// Takes the next used buffer, with the length the device claims to have written. Orders all
    /// reads of what the device wrote before it after this.
    fn pop(&mut self) -> Option<(Self::Buffer, u32)>;

    /// Buffers the ring can still take.
    fn room(&self) -> u32;

    /// A new buffer of [`BUFFER_LEN`] bytes; None when there is no memory. Any context.
    fn allocate(&mut self) -> Option<Self::Buffer>;

    /// Puts a buffer into the ring; false (and the buffer freed) when the ring does not take it.
    /// Any context.
    fn push(&mut self, buffer: Self::Buffer) -> bool;

    /// The device has done something that made the kernel give the queue up
    /// (`virtqueue_is_broken()`), or it is gone.
    fn is_broken(&self) -> bool;

    /// Tells the device of new buffers if it wants to know. Any context.
    fn kick(&mut self);

    /// Kicks the device in any case.
    fn notify(&mut self);

    /// Copies the virtio-net header out of a used buffer.
    fn header(&self, buffer: &Self::Buffer) -> [u8; header::LEN];

    /// Makes a frame of its first buffer: `length` bytes were written to it, the first
    /// [`header::LEN`] of which are not the frame's. `length` is at least [`header::LEN`] and at
    /// most [`BUFFER_LEN`].
    fn frame(&mut self, buffer: Self::Buffer, length: usize) -> Self::Frame;

    /// Appends a buffer of `length` bytes to a frame. `length` is at most [`BUFFER_LEN`].
    fn append(&mut self, frame: &mut Self::Frame, buffer: Self::Buffer, length: usize);

    /// Gives a frame to the stack; false (and the frame freed) when it cannot have the checksum it
    /// claims.
    fn deliver(&mut self, frame: Self::Frame, notes: Notes) -> bool;

    /// `virtqueue_disable_cb()`: under virtio's rules, asks the device for no interrupts.
    fn disable_callbacks(&mut self);

    /// `virtqueue_enable_cb_prepare()`: asks for interrupts again and notes where the ring stands.
    fn enable_callbacks(&mut self) -> u32;

    /// `virtqueue_poll()`: something was used since `mark`.
    fn used_since(&self, mark: u32) -> bool;

    /// `napi_complete_done()`. When true, `SCHED` is clear and another poll may already be running.
    fn complete(&mut self, work: i32) -> bool;

    /// The driver's own `napi_schedule()`, by the kernel's function.
    fn schedule(&mut self);

    /// Starts the refill timer, which calls [`refill_timer`]. It is not running. Any context.
    fn refill_in(&mut self, ms: u32);

    /// Has the link looked at anew ([`crate::tx::Tx::link`]), soon and in process context. Any
    /// context.
    fn look_at_link(&mut self);

    /// What the driver does wrong, for tests. Any context.
    fn behaviour(&self) -> Behaviour;
}

/// The NAPI poll. Returns frames consumed, at most `budget`. May be called without the driver
/// having asked for it (busy polling), and with budget 0 (netpoll), which is about transmission
/// only.
///
/// With a page there is no recheck of the ring after arming: the device raises an interrupt for
/// what was published since `ci` (docs/interface.md, "Interrupts on a queue with a page"). The arm
/// carries the number of the latest interrupt that the handler has seen. By it the device tells an
/// owner that the handler found before the arm from a later one, which may own `SCHED` by then.
/// Another poll may run between the completion and the arm. Its arm may be the newer of the two and
/// yet land first: both ask for one interrupt beyond the same `ci`, which is written only while
/// `SCHED` is owned and so never goes back. If the device has forgotten the page, the poll obeys
/// virtio's rules and asks for a new registration.
pub fn poll<P: RxPort>(shared: &Shared<'_>, port: &mut P, budget: i32) -> i32 {
    if budget <= 0 {
        return 0;
    }
    let number = shared.poll_begins();
    let page = page_in_use(shared, port);
    if let Some(page) = page {
        page.poll_begins(number);
    }
    // Under virtio's rules this masks the interrupt for the length of the poll. A device with a
    // page does not look at it.
    port.disable_callbacks();

    let before = shared.rx_ci();
    let mut consumer = Consumer { port, ci: before };
    let mut work = 0;
    while work < budget && consumer.receive(shared) {
        work += 1;
    }
    let Consumer { port, ci } = consumer;
    match port.behaviour() {
        Behaviour::NoRefill => {}
        Behaviour::OutOfMemory => refill(shared, port, ci != before),
        Behaviour::Right | Behaviour::NoKick => refill(shared, port, false),
    }

    // While `SCHED` is still owned: two polls may overlap after its release, and `ci` must not go
    // back.
    shared.set_rx_ci(ci);
    if let Some(page) = page {
        page.set_ci(ci);
        page.poll_ends();
    }
    if work == budget {
        return work;
    }
    // A device with a page does not look at this either. But should it forget the page, this is how
    // its interrupts go on. If it has done so since the poll began, there is nobody to be armed.
    let mark = port.enable_callbacks();
    let page = page.and_then(|_| page_in_use(shared, port));
    if let Some(page) = page {
        if port.complete(work) {
            page.arm(number, shared.irq_seen());
            port.notify();
            shared.armed(number);
        }
    } else if port.complete(work) && port.used_since(mark) {
        port.schedule();
    }
    work
}

/// The page, if the device uses it. The first to find that the device has forgotten it asks for
/// another registration.
fn page_in_use<'a, P: RxPort>(shared: &Shared<'a>, port: &mut P) -> Option<QueuePage<'a>> {
    let (page, forgotten) = shared.page_or_forgotten();
    if forgotten {
        shared.stats.add(Stat::PagesForgotten, 1);
        port.look_at_link();
    }
    page
}

/// Before the NAPI is enabled: discards what came while the interface was down, and fills the ring.
/// Process context.
///
/// A device has no way to be told that the interface is down: it goes on to fill the buffers that
/// are in the ring, and stamps those frames with the time of their arrival.
pub fn open<P: RxPort>(shared: &Shared<'_>, port: &mut P) {
    let mut ci = shared.rx_ci();
    while port.pop().is_some() {
        ci = ci.plus(1);
    }
    shared.stats.add(Stat::RxDiscarded, ci.since(shared.rx_ci()).into());
    shared.set_rx_ci(ci);
    if let Some(page) = shared.page() {
        page.set_ci(ci);
        page.poll_ends();
    }
    shared.refill.succeeded();
    refill(shared, port, false);
}

/// When the refill timer has been cancelled, after the NAPI was disabled: tells the device that
/// nobody polls. Process context.
pub fn stop(shared: &Shared<'_>) {
    shared.refill.ended();
    if let Some(page) = shared.page() {
        page.interface_down();
    }
}

/// The ring as one poll consumes it.
struct Consumer<'p, P> {
    port: &'p mut P,
    /// Used-ring entries consumed since the queue was started.
    ci: Counter,
}

impl<P: RxPort> Consumer<'_, P> {
    /// Takes the next used buffer off the ring, and counts it.
    fn pop(&mut self) -> Option<(P::Buffer, usize)> {
        let (buffer, length) = self.port.pop()?;
        self.ci = self.ci.plus(1);
        Some((buffer, length as usize))
    }

    /// Takes one frame off the ring and gives it to the stack, or drops it; false when the ring is
    /// empty.
    fn receive(&mut self, shared: &Shared<'_>) -> bool {
        let completion = self.ci;
        let Some((buffer, length)) = self.pop() else { return false };
        let stats = &shared.stats;
        if !(header::LEN + ETHERNET_HEADER_LEN..=BUFFER_LEN).contains(&length) {
            stats.add(Stat::RxBadLength, 1);
            return true;
        }
        let header = header::parse(&self.port.header(&buffer), shared.features.guest_csum);
        let buffers = match header {
            Some(header) if shared.features.merged_buffers => header.buffers,
            _ => 1,
        };
        let mut frame = self.port.frame(buffer, length);
        let mut total = length - header::LEN;
        let mut wrong = (buffers == 0).then_some(Stat::RxBadBuffers);
        for _ in 1..buffers {
            let Some((buffer, length)) = self.pop() else {
                wrong = Some(Stat::RxBadBuffers);
                break;
            };
            total += length;
            if wrong.is_none() && (length == 0 || length > BUFFER_LEN || total > FRAME_MAX) {
                wrong = Some(Stat::RxBadLength);
            }
            if wrong.is_none() {
                self.port.append(&mut frame, buffer, length);
            }
        }
        let Some(header) = header else {
            stats.add(Stat::RxBadHeader, 1);
            return true;
        };
        if let Some(wrong) = wrong {
            stats.add(wrong, 1);
            return true;
        }
        let notes =
            Notes { checksum: header.checksum, timestamp_ns: timestamp(shared, completion) };
        if self.port.deliver(frame, notes) {
            stats.add(Stat::RxPackets, 1);
            stats.add(Stat::RxBytes, total as u64);
        } else {
            stats.add(Stat::RxBadHeader, 1);
        }
        true
    }
}

/// The hardware timestamp of the frame that begins with this completion, if it is wanted and there.
fn timestamp(shared: &Shared<'_>, completion: Counter) -> Option<u64> {
    if !shared.stamping.rx() {
        return None;
    }
    let found = shared.page().and_then(|page| page.rx_timestamp(completion));
    shared.stats.add(if found.is_some() { Stat::RxTimestamps } else { Stat::RxNoTimestamp }, 1);
    found
}

/// Fills the ring with empty buffers. When memory has run out (or `pretend` it has), the refill
/// timer tries again later.
fn refill<P: RxPort>(shared: &Shared<'_>, port: &mut P, pretend: bool) {
    let mut added = false;
    let mut out_of_memory = pretend;
    while !out_of_memory && port.room() > 0 {
        match port.allocate() {
            Some(buffer) => {
                if !port.push(buffer) {
                    break;
                }
                added = true;
            }
            None => out_of_memory = true,
        }
    }
    if added {
        port.kick();
    }
    if out_of_memory {
        shared.stats.add(Stat::RxNoMemory, 1);
        if let Some(ms) = shared.refill.failed() {
            port.refill_in(ms);
        }
    } else {
        shared.refill.succeeded();
    }
    if port.is_broken() && shared.found_broken(Queue::Receive) {
        port.look_at_link();
    }
}

/// The refill timer: has the queue polled, which refills it. Softirq context; the queue may be
/// armed.
///
/// `schedule` is the driver's own `napi_schedule()`, by the kernel's function.
pub fn refill_timer(shared: &Shared<'_>, schedule: impl FnOnce()) {
    shared.stats.add(Stat::RxRefillTimer, 1);
    shared.refill.ended();
    schedule();
}

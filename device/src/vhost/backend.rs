// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the daemon calls.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use parking_lot::FairMutex;
use tracing::error;
use tsnic_core::time::Instant;
use vhost::vhost_user::Backend as BackendChannel;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringT as _};
use virtio_queue::QueueT as _;
use vm_memory::{GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use super::cut::{Cut, CutBits};
use super::vring::{Base, Vring};
use crate::clock::{HostClock, monotonic};
use crate::log_limit::LogLimit;
use crate::net::features::Features;
use crate::net::index::{Index, MAX_RING_SIZE};
use crate::net::pair::{Lines, Next, Pair, QueueSetup, RX, TX};
use crate::net::ring::RingConfig;
use crate::net::session;
use crate::port::Port;

/// A pair of this host: whichever port, and its clock.
pub type HostPair = Pair<Box<dyn Port>, HostClock>;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

const QUEUES_PER_PAIR: usize = 2;

/// What a sleeping worker takes to be awake, as a rule. So long before a placed interrupt is due its
/// timer fires, and the rest of the time it waits awake.
const LEAD: Duration = Duration::from_micros(60);

/// What wakes a worker besides kicks. The daemon keeps numbers up to the number of queues to
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Wake {
    Timer = 0x100,
    Port = 0x101,
    Control = 0x102,
}

/// The device as the daemon sees it: queue pairs, each served by a worker of its own.
///
/// A worker holds its pair's lock while it is awake. The lock is fair, so that a front end that
/// stops a queue gets its turn however busy the worker is; and no worker sleeps while it holds it,
/// because a front end that waits for a queue to stop freezes its guest.
pub struct Backend {
    memory: Memory,
    features: Mutex<Features>,
    connected: AtomicBool,
    cut_bits: Arc<CutBits>,
    pairs: Vec<Worker>,
    /// How long a worker goes on looking once it has been woken.
    poll: Duration,
    exit_fds: Mutex<Vec<RawFd>>,
    lines: Mutex<Lined>,
    /// The channel for requests to the front end, on which nothing is ever said.
    requests: Mutex<Option<BackendChannel>>,
}

/// What a guest can cause lines of the log by, by having its VMM connect again and again.
#[derive(Debug, Default)]
pub(super) struct Lined {
    pub connected: LogLimit,
    pub disconnected: LogLimit,
}

struct Worker {
    timer: TimerFd,
    served: FairMutex<Served>,
}

struct Served {
    pair: HostPair,
    /// When the timer fires.
    armed: Option<Instant>,
}

impl Backend {
    /// A device with these queue pairs, to which no front end is connected. Once woken, a worker goes
    /// on looking for `poll` without waiting for another event.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(pairs: Vec<HostPair>, poll: Duration) -> io::Result<Self> {
        let cut_bits = Arc::new(CutBits::new(QUEUES_PER_PAIR * pairs.len()));
        let pairs = pairs
            .into_iter()
            .map(|pair| {
                let timer = TimerFd::new(
                    ClockId::CLOCK_MONOTONIC,
                    TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
                )?;
                Ok(Worker { timer, served: FairMutex::new(Served { pair, armed: None }) })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            memory: GuestMemoryAtomic::new(GuestMemoryMmap::new()),
            features: Mutex::default(),
            connected: AtomicBool::new(false),
            cut_bits,
            pairs,
            poll,
            exit_fds: Mutex::default(),
            lines: Mutex::default(),
            requests: Mutex::new(None),
        })
    }

    /// Queue pairs.
    #[must_use]
    pub const fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The memory table, which the daemon replaces as the front end says.
    pub(super) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// What the shim keeps of ring addresses.
    pub(super) fn cut_bits(&self) -> Arc<CutBits> {
        Arc::clone(&self.cut_bits)
    }

    /// The limits of lines about front ends.
    pub(super) fn lines(&self) -> MutexGuard<'_, Lined> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A front end is there: has the daemon's workers woken by timers, ports and the control
    /// socket.
    ///
    /// # Errors
    /// When an event cannot be watched.
    pub(super) fn connect(&self, daemon: &VhostUserDaemon<Arc<Self>>) -> io::Result<()> {
        self.cut_bits.clear();
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        for (worker, handler) in self.pairs.iter().zip(daemon.get_epoll_handlers()) {
            let mut served = worker.served.lock();
            handler.register_listener(
                worker.timer.as_fd().as_raw_fd(),
                EventSet::IN,
                Wake::Timer as u64,
            )?;
            handler.register_listener(
                served.pair.control().event().as_raw_fd(),
                EventSet::IN,
                Wake::Control as u64,
            )?;
            if let Some(event) = served.pair.port().event() {
                handler.register_listener(event.as_raw_fd(), edge, Wake::Port as u64)?;
            }
            served.pair.connected();
        }
        self.connected.store(true, Ordering::Release);
        Ok(())
    }

    /// The front end is gone: lets go of its memory. No worker touches a ring afterwards.
    pub(super) fn disconnect(&self) {
        self.connected.store(false, Ordering::Release);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.reset_device();
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).replace(GuestMemoryMmap::new());
        self.serve_alone();
    }

    /// The daemon and its workers have ended. The daemon (vhost-user-backend 0.24) keeps the
    /// descriptor of each worker's exit event without ever closing it; a test watches that this
    /// stays so.
    pub(super) fn close_exit_events(&self) {
        for fd in self.exit_fds.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Err(error) = nix::unistd::close(fd) {
                error!(%error, "A worker's exit event was closed by somebody else");
            }
        }
    }

    /// Serves the control socket, and a run that has not ended, while no front end is connected and
    /// there are no workers. To be called when a command comes, or when one of [`Self::timers`] is
    /// readable.
    pub fn serve_alone(&self) {
        for worker in &self.pairs {
            let served = &mut *worker.served.lock();
            worker.timer_seen(&mut served.armed);
            served.pair.commands_wait();
            let next = session::service(
                &mut served.pair,
                &GuestMemoryMmap::new(),
                [None; QUEUES_PER_PAIR],
                &NoLines,
            );
            // Whatever else is due, frames of a port most of all, is of no use to anybody now.
            if served.pair.run_is_on() {
                worker.set_timer(&mut served.armed, next);
            }
        }
    }

    /// The workers' timers.
    pub fn timers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pairs.iter().map(|worker| worker.timer.as_fd())
    }

    /// Serves a pair once. Nobody else that wants its lock waits for longer than that.
    fn serve(
        &self,
        worker: &Worker,
        wake: u16,
        vrings: &[Vring<Memory>],
        thread_id: usize,
    ) -> Next {
        let served = &mut *worker.served.lock();
        match wake {
            wake if wake == Wake::Timer as u16 => worker.timer_seen(&mut served.armed),
            wake if wake == Wake::Port as u16 => served.pair.port_readable(),
            wake if wake == Wake::Control as u16 => served.pair.commands_wait(),
            queue => served.pair.kicked(usize::from(queue) % QUEUES_PER_PAIR),
        }
        let features = *self.features.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = self.connected.load(Ordering::Acquire);
        let enabled = vrings.get(RX).is_some_and(|vring| vring.get_ref().is_enabled());
        served.pair.set_port_active(connected && enabled);
        let [rx, tx] = [RX, TX].map(|queue| {
            let vring = vrings.get(queue).filter(|_| connected)?;
            queue_setup(vring, features, self.cut_bits.of(QUEUES_PER_PAIR * thread_id + queue))
        });
        let memory = self.memory.memory();
        let next = session::service(&mut served.pair, &memory, [rx, tx], &CallLines(vrings));
        for (queue, vring) in vrings.iter().enumerate().take(QUEUES_PER_PAIR) {
            if let Some((start, Index(next_avail))) = served.pair.next_avail(queue) {
                vring.report(Base { start, next_avail });
            }
        }
        worker.set_timer(&mut served.armed, next);
        next
    }

    fn pair_of(&self, queue: u32) -> Option<(&Worker, usize)> {
        let queue = queue as usize;
        Some((self.pairs.get(queue / QUEUES_PER_PAIR)?, queue % QUEUES_PER_PAIR))
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Vring<Memory>;

    fn num_queues(&self) -> usize {
        self.pairs.len() * QUEUES_PER_PAIR
    }

    fn max_queue_size(&self) -> usize {
        MAX_RING_SIZE.into()
    }

    fn features(&self) -> u64 {
        Features::offered(self.pairs.len()).0
    }

    fn acked_features(&self, features: u64) {
        let features = Features(features);
        *self.features.lock().unwrap_or_else(PoisonError::into_inner) = features;
        for worker in &self.pairs {
            worker.served.lock().pair.set_features(features);
        }
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // Not CONFIG: a VMM keeps the configuration of a network device itself, and QEMU warns when
        // it is offered. BACKEND_REQ, though nothing is ever asked of a front end: user-mode Linux
        // 6.1 has no interrupt for its queues without it.
        VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::MQ
    }

    fn set_backend_req_fd(&self, channel: BackendChannel) {
        // Kept: a front end takes a channel that is closed for a back end that has died.
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
    }

    fn set_event_idx(&self, _enabled: bool) {
        // Among the features.
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        // The new table is in place already. A session that began before is over when its lock can
        // be had.
        for worker in &self.pairs {
            drop(worker.served.lock());
        }
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.pairs.len()).map(|pair| 0b11 << (QUEUES_PER_PAIR * pair)).collect()
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        let event = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)
            .inspect_err(
                |error| error!(%error, "No exit event: this front end's worker will not end"),
            )
            .ok()?;
        self.exit_fds.lock().unwrap_or_else(PoisonError::into_inner).push(event.0.as_raw_fd());
        Some(event)
    }

    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        if let Some((worker, queue)) = self.pair_of(queue) {
            worker.served.lock().pair.stop(queue);
        }
        Ok(())
    }

    fn reset_device(&self) {
        let memory = self.memory.memory();
        for worker in &self.pairs {
            worker.served.lock().pair.disconnected(&memory);
        }
    }

    /// Never fails: the daemon would end the worker without a word.
    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[Self::Vring],
        thread_id: usize,
    ) -> io::Result<()> {
        let Some(worker) = self.pairs.get(thread_id) else { return Ok(()) };
        // Once: other events may wait as well. Nobody holds the lock meanwhile.
        if let Next::Placed(due) = self.serve(worker, event, vrings, thread_id)
            && due <= monotonic().plus(LEAD)
            && self.connected.load(Ordering::Acquire)
        {
            while monotonic() < due {
                std::hint::spin_loop();
            }
            self.serve(worker, Wake::Timer as u16, vrings, thread_id);
        }
        if !self.poll.is_zero() {
            let end = monotonic().plus(self.poll);
            while monotonic() < end && self.connected.load(Ordering::Acquire) {
                // On a machine with few processors the guest is to have this one.
                std::thread::yield_now();
                self.serve(worker, Wake::Port as u16, vrings, thread_id);
            }
        }
        Ok(())
    }
}

impl Worker {
    /// The timer may have fired; it is set anew when it is needed.
    fn timer_seen(&self, armed: &mut Option<Instant>) {
        // EAGAIN: it has not fired, or was set anew since.
        let _ = self.timer.wait();
        *armed = None;
    }

    fn set_timer(&self, armed: &mut Option<Instant>, next: Next) {
        let at = match next {
            // A timer that fires for nothing does no harm.
            Next::Event => return,
            Next::AtOnce => Instant::from_ns(1),
            Next::At(at) => Instant::from_ns(at.as_ns().max(1)),
            Next::Placed(at) => Instant::from_ns(at.minus(LEAD).as_ns().max(1)),
        };
        if *armed == Some(at) {
            return;
        }
        *armed = Some(at);
        let expiration =
            Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at.as_ns())));
        if let Err(error) = self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            error!(%error, %at, "The worker's timer cannot be set");
        }
    }
}

/// A queue that is started and enabled.
fn queue_setup(vring: &Vring<Memory>, features: Features, cut: Cut) -> Option<QueueSetup> {
    let state = vring.get_ref();
    let queue = state.get_queue();
    if !queue.ready() || !state.is_enabled() {
        return None;
    }
    let [descriptors, available, used] =
        cut.restore([queue.desc_table(), queue.avail_ring(), queue.used_ring()]);
    let config = RingConfig {
        entries: vring.entries(),
        descriptors,
        available,
        used,
        event_idx: features.event_idx(),
        indirect: features.indirect(),
    };
    let Base { start, next_avail } = vring.base();
    Some(QueueSetup { config, start, next_avail: Index(next_avail) })
}

/// The call eventfds.
struct CallLines<'a>(&'a [Vring<Memory>]);

impl Lines for CallLines<'_> {
    fn raise(&self, queue: usize) {
        // A full counter is an interrupt that has been raised 2^64 times and not been looked at
        // once.
        let _ = self.0[queue].signal_used_queue();
    }
}

/// No guest is there to be interrupted.
struct NoLines;

impl Lines for NoLines {
    fn raise(&self, _queue: usize) {}
}

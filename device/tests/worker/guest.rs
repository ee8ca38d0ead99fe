// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model guest: what matters of NAPI (`SCHED`, `MISSED`, a handler, a poll, a timer and a busy
//! poller), and the spin at the rendezvous.
//!
//! A poll is a chain of events with a little time between them, so interrupts and other owners of
//! `SCHED` can come in between: begin, look (until the ring is empty), the rendezvous, complete,
//! arm.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::{Counter, phase, point};
use tsnic_core::time::Instant;

/// What the handler does when it finds `SCHED` owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sets `MISSED`.
    V4_11,
    /// Nothing, as before 4.11.
    V4_10,
}

/// Who else takes `SCHED`, some time after a poll that consumed packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    /// A timer: the driver's refill, or the `gro_flush_timeout` watchdog.
    Timer(Duration),
    /// A receiver that busy-polls for so long.
    BusyPoll(Duration),
    /// The `gro_flush_timeout` watchdog, which runs only while GRO holds a segment.
    Watchdog(Duration),
}

/// A frame, as far as the guest cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A request of the client, by its number.
    Request(u64),
    /// A segment that GRO holds.
    Held,
    /// One that makes GRO let go of it.
    Pushed,
    Other,
}

/// How the guest deviates from a healthy one.
#[derive(Clone, Debug)]
pub struct Temper {
    /// From the interrupt being raised to its handler, microseconds.
    pub irq_latency_us: Range<u64>,
    /// The rendezvous module is there.
    pub comes: bool,
    /// Bound of the spin at the rendezvous.
    pub spin: Duration,
    /// This interrupt never reaches the handler.
    pub swallow: Option<u32>,
    /// None does.
    pub swallows_all: bool,
    /// Nanoseconds between a poll's last look and its completion.
    pub window_ns: Range<u64>,
    /// Completions polls, but never arms.
    pub never_arms: bool,
}

impl Default for Temper {
    fn default() -> Self {
        Self {
            irq_latency_us: 20..200,
            comes: true,
            spin: Duration::from_millis(500),
            swallow: None,
            swallows_all: false,
            window_ns: 300..2_000,
            never_arms: false,
        }
    }
}

/// The cells of the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cells {
    pub ci: Counter,
    pub arm: Counter,
    /// `irq_seen` as the latest arm carries it.
    pub arm_irq_seen: Counter,
    pub polls: Counter,
    pub irq_seen: Counter,
    pub irq_owned: Counter,
    pub phase: u32,
    pub arrived: u32,
    pub point: u32,
    pub fired: Counter,
    pub requested: u32,
    pub released: u32,
    /// Stands for the used index.
    pub used: Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The interrupt with this number arrives.
    Interrupt(u32),
    Begin(Poll),
    Look(Poll),
    Spin(Poll, Instant),
    Complete(Poll),
    Arm(Poll, u32),
    /// The timer that was started so many-th runs out; one that was started again later does not.
    Timer(u64),
    /// The receiver tries to take `SCHED`, until then; it was woken so many-th.
    Busy(u64, Instant),
    /// The application has a request and answers it.
    Reply(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Poll {
    /// `IN_BUSY_POLL` until then.
    busy_until: Option<Instant>,
    consumed: bool,
    /// The last poll of the receiver.
    receiver: bool,
}

const PLAIN: Poll = Poll { busy_until: None, consumed: false, receiver: false };

/// The guest.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are bits of the kernel's own")]
pub struct Guest {
    pub mode: Mode,
    pub owner: Owner,
    pub temper: Temper,
    pub cells: Cells,
    /// Contents of the ring.
    pub ring: VecDeque<Received>,
    /// Requests answered, not fetched by the client yet.
    pub replies: VecDeque<(Instant, u64)>,
    /// The guest wrote its kick register.
    pub kicked: bool,
    /// Frames consumed.
    pub consumed: Counter,
    pub gave_up: u32,
    answered: u64,
    sched: bool,
    receiving: bool,
    missed: bool,
    /// GRO holds a segment.
    gro_holds: bool,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    /// Times the timer was started, or the receiver woken.
    starts: u64,
    rng: Pcg64Mcg,
}

impl Guest {
    pub fn new(mode: Mode, owner: Owner, start: Counter, seed: u64) -> Self {
        let cells = Cells { ci: start, used: start, arm: start, ..Cells::default() };
        Self {
            mode,
            owner,
            temper: Temper::default(),
            cells,
            ring: VecDeque::new(),
            replies: VecDeque::new(),
            kicked: false,
            consumed: start,
            gave_up: 0,
            answered: 0,
            sched: false,
            receiving: false,
            missed: false,
            gro_holds: false,
            events: BinaryHeap::new(),
            sequence: 0,
            starts: 0,
            rng: Pcg64Mcg::seed_from_u64(seed),
        }
    }

    /// Schedules NAPI once, as a driver does after a registration.
    pub fn schedule(&mut self, now: Instant) {
        self.timer(now);
    }

    /// The device raises interrupt `number`.
    pub fn raise(&mut self, now: Instant, number: Counter) {
        if self.temper.swallows_all || self.temper.swallow == Some(number.0) {
            return;
        }
        let us = self.rng.random_range(self.temper.irq_latency_us.clone());
        self.after(now, Duration::from_micros(us), Event::Interrupt(number.0));
    }

    /// The interface goes down, between two polls: the NAPI is disabled, which owns it.
    pub fn down(&mut self) {
        assert!(!self.sched, "a poll would have to end first");
        self.sched = true;
        self.cells.phase = phase::DOWN;
    }

    /// It comes up: what is in the ring is discarded, and a poll arms.
    pub fn up(&mut self, now: Instant) {
        self.ring.clear();
        self.consumed = self.cells.used;
        self.cells.phase = phase::IDLE;
        self.sched = false;
        self.timer(now);
    }

    /// A packet is in the ring and nobody owns the NAPI.
    pub fn is_stuck(&self) -> bool {
        self.consumed != self.cells.used && !self.sched
    }

    pub fn next_event(&self) -> Option<Instant> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// Runs the events due at `now`.
    pub fn run(&mut self, now: Instant) {
        while let Some(&Reverse((at, _, event))) = self.events.peek() {
            if at > now {
                break;
            }
            self.events.pop();
            self.event(at, event);
        }
    }

    fn after(&mut self, now: Instant, delay: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((now.plus(delay), self.sequence, event)));
    }

    fn soon(&mut self, now: Instant, ns: Range<u64>, event: Event) {
        let delay = Duration::from_nanos(self.rng.random_range(ns));
        self.after(now, delay, event);
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Interrupt(_) => self.interrupt(now),
            Event::Begin(poll) => {
                self.cells.phase = phase::POLL;
                self.cells.polls = self.cells.polls.plus(1);
                self.soon(now, 500..3_000, Event::Look(poll));
            }
            Event::Look(poll) => self.look(now, poll),
            Event::Spin(poll, give_up) => {
                if self.cells.released == self.cells.arrived {
                    self.soon(now, 500..2_000, Event::Complete(poll));
                } else if now >= give_up {
                    self.gave_up += 1;
                    self.soon(now, 500..2_000, Event::Complete(poll));
                } else {
                    self.after(now, Duration::from_micros(5), Event::Spin(poll, give_up));
                }
            }
            Event::Complete(poll) => self.complete(now, poll),
            Event::Arm(poll, ci) => {
                if !self.temper.never_arms {
                    self.cells.ci = Counter(ci);
                    self.cells.arm_irq_seen = self.cells.irq_seen;
                    self.cells.arm = self.cells.arm.plus(1);
                    self.kicked = true;
                }
                if poll.consumed {
                    self.starts += 1;
                    match self.owner {
                        Owner::Nobody => {}
                        Owner::Watchdog(_) if !self.gro_holds => {}
                        Owner::Timer(after) | Owner::Watchdog(after) => {
                            self.after(now, after, Event::Timer(self.starts));
                        }
                        Owner::BusyPoll(length) => {
                            let wakes =
                                now.plus(Duration::from_micros(self.rng.random_range(10..60)));
                            self.after(
                                wakes,
                                Duration::ZERO,
                                Event::Busy(self.starts, wakes.plus(length)),
                            );
                        }
                    }
                }
            }
            Event::Timer(start) => {
                if start == self.starts {
                    self.timer(now);
                }
            }
            Event::Busy(start, until) => {
                if start != self.starts || self.receiving {
                    // It has been woken anew since, or polls already.
                } else if !self.sched {
                    (self.sched, self.receiving) = (true, true);
                    self.soon(
                        now,
                        200..1_000,
                        Event::Begin(Poll { busy_until: Some(until), ..PLAIN }),
                    );
                } else if now < until {
                    self.after(now, Duration::from_micros(5), Event::Busy(start, until));
                }
            }
            Event::Reply(request) => self.replies.push_back((now, request)),
        }
    }

    fn timer(&mut self, now: Instant) {
        if !self.sched {
            self.sched = true;
            self.soon(now, 500..3_000, Event::Begin(PLAIN));
        }
    }

    fn interrupt(&mut self, now: Instant) {
        if self.consumed == self.cells.used {
            // vring_interrupt sees no used entries and does not call the driver.
            return;
        }
        let fired = self.cells.fired;
        if self.sched {
            self.missed |= self.mode == Mode::V4_11;
            self.cells.irq_owned = fired;
        } else {
            self.sched = true;
            self.soon(now, 1_000..20_000, Event::Begin(PLAIN));
        }
        self.cells.irq_seen = fired;
    }

    fn look(&mut self, now: Instant, mut poll: Poll) {
        if self.consumed != self.cells.used {
            self.consumed = self.cells.used;
            poll.consumed = true;
            while let Some(frame) = self.ring.pop_front() {
                match frame {
                    Received::Request(request) if request > self.answered => {
                        self.answered = request;
                        self.soon(now, 20_000..80_000, Event::Reply(request));
                    }
                    Received::Held => self.gro_holds = true,
                    Received::Pushed => self.gro_holds = false,
                    Received::Request(_) | Received::Other => {}
                }
            }
            self.soon(now, 500..5_000, Event::Look(poll));
            return;
        }
        if let Some(until) = poll.busy_until {
            // napi_complete_done does nothing while IN_BUSY_POLL is set. The last round is
            // busy_poll_stop's.
            if now >= until || poll.consumed {
                poll.busy_until = None;
                poll.receiver = true;
                self.missed = false;
            }
            self.soon(now, 500..2_000, Event::Look(poll));
            return;
        }
        self.cells.phase = phase::IDLE;
        if self.temper.comes && self.cells.requested == point::BEFORE_COMPLETE {
            self.cells.point = point::BEFORE_COMPLETE;
            self.cells.arrived = self.cells.arrived.wrapping_add(1);
            self.kicked = true;
            self.after(
                now,
                Duration::from_micros(1),
                Event::Spin(poll, now.plus(self.temper.spin)),
            );
        } else {
            self.soon(now, self.temper.window_ns.clone(), Event::Complete(poll));
        }
    }

    fn complete(&mut self, now: Instant, poll: Poll) {
        if poll.receiver {
            self.receiving = false;
        }
        // A poll that finds nothing has GRO flushed.
        self.gro_holds &= poll.consumed;
        if self.missed {
            self.missed = false;
            self.soon(now, 500..3_000, Event::Begin(poll));
        } else {
            self.sched = false;
            self.soon(now, 100..800, Event::Arm(poll, self.consumed.0));
        }
    }
}

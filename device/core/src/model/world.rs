// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model worker, wire and clock.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::Counter;

use super::guest::{Cells, Guest, Mode, Owner};
use crate::adversary::Adversary;
use crate::moderation::Limits;
use crate::progress::{Doorbell, Progress};
use crate::run::{
    Actions, Arrival, Finished, HELD_FRAMES_MAX, HeldFrames, Observation, PageView, PortPolicy, Publish, Published,
    RunRequest, StartError,
};
use crate::rx_irq::{Request, RxIrq};
use crate::spec::Flow;
use crate::time::Instant;

/// An address for everything.
pub const FLOW: Flow = Flow {
    guest_mac: [2, 0, 0, 0, 0, 1],
    guest_ip: Ipv4Addr::new(10, 0, 0, 1),
    guest_port: 9,
    peer_mac: [2, 0, 0, 0, 0, 2],
    peer_ip: Ipv4Addr::new(10, 0, 0, 2),
    peer_port: 10,
};

/// A closed-loop TCP client: the next request goes out when the reply is there, the same one again after 200 ms.
#[derive(Debug)]
pub struct Client {
    pub requests: u64,
    pub think: Duration,
    sent: u64,
    next_at: Option<Instant>,
    again_at: Option<Instant>,
    pub retransmissions: u32,
    /// Sends a bare acknowledgement so long after each reply.
    pub ack_after: Option<Duration>,
    ack_at: Option<Instant>,
}

impl Client {
    pub fn new(requests: u64) -> Self {
        Self {
            requests,
            think: Duration::from_micros(20),
            sent: 0,
            next_at: Some(Instant::default()),
            again_at: None,
            retransmissions: 0,
            ack_after: None,
            ack_at: None,
        }
    }

    pub fn is_done(&self) -> bool {
        self.sent == self.requests && self.again_at.is_none()
    }

    fn next_event(&self) -> Option<Instant> {
        [self.next_at, self.again_at, self.ack_at].into_iter().flatten().min()
    }

    fn run(&mut self, now: Instant, wire: &mut VecDeque<Option<u64>>) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            wire.push_back(None);
        }
        if self.next_at.is_some_and(|at| at <= now) {
            self.next_at = None;
            if self.sent < self.requests {
                self.sent += 1;
                wire.push_back(Some(self.sent));
                self.again_at = Some(now.plus(Duration::from_millis(200)));
            }
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.retransmissions += 1;
            wire.push_back(Some(self.sent));
            self.again_at = Some(now.plus(Duration::from_millis(400)));
        }
    }

    fn reply(&mut self, now: Instant, request: u64) {
        if request == self.sent {
            self.again_at = None;
            self.next_at = Some(now.plus(self.think));
            self.ack_at = self.ack_after.map(|after| now.plus(after));
        }
    }
}

/// The world.
pub struct World {
    pub now: Instant,
    pub guest: Guest,
    pub irq: Option<RxIrq>,
    pub generation: u32,
    pub adversary: Adversary,
    pub client: Option<Client>,
    pub wire: VecDeque<Option<u64>>,
    pub held: VecDeque<Option<u64>>,
    /// Buffers the guest has posted.
    pub ring_size: u32,
    pub last: Actions,
    pub finished: Option<Finished>,
    /// What was published: its kind and when.
    pub published: Vec<(Publish, Instant)>,
    pub acks: Vec<u32>,
    rng: Pcg64Mcg,
    pass_at: Option<Instant>,
    due: Option<Instant>,
}

impl World {
    pub fn new(mode: Mode, owner: Owner, seed: u64) -> Self {
        Self::starting_at(mode, owner, seed, Counter(u32::MAX - 20))
    }

    /// A world whose completions are numbered from `start`, handed over and armed.
    pub fn starting_at(mode: Mode, owner: Owner, seed: u64, start: Counter) -> Self {
        let now = Instant::from_ns(1_000_000);
        let mut guest = Guest::new(mode, owner, start, seed);
        guest.schedule(now);
        let mut world = Self {
            now,
            guest,
            irq: None,
            generation: 0,
            adversary: Adversary::default(),
            client: None,
            wire: VecDeque::new(),
            held: VecDeque::new(),
            ring_size: 256,
            last: Actions::default(),
            finished: None,
            published: Vec::new(),
            acks: Vec::new(),
            rng: Pcg64Mcg::seed_from_u64(seed ^ 0x5eed),
            pass_at: None,
            due: None,
        };
        world.register();
        world.run_for(Duration::from_millis(1));
        world
    }

    /// The guest posts its page (again).
    pub fn register(&mut self) {
        let cells = &mut self.guest.cells;
        let irq = RxIrq::at_registration(
            self.guest.consumed,
            cells.used.0 as u16,
            cells.arm,
            cells.irq_seen,
            Limits::default(),
        );
        cells.fired = irq.interrupts().fired();
        cells.requested = 0;
        self.last.requested = 0;
        self.generation += 1;
        self.irq = Some(irq);
        self.guest.schedule(self.now);
        self.pass();
    }

    /// The page is gone.
    pub fn withdraw(&mut self) {
        self.irq = None;
        self.pass();
    }

    pub fn start(&mut self, request: RunRequest) -> Result<(), StartError> {
        let (progress, arrival) = self.copy();
        let seen = observe(self.irq.as_ref(), self.generation, progress, arrival, &self.held);
        let result = self.adversary.start(request, self.now, &seen);
        self.pass();
        result
    }

    /// Starts a run and lets the world go on until it is over.
    pub fn run_to_end(&mut self, request: RunRequest) -> Finished {
        self.start(request).expect("the run starts");
        self.until_finished(Duration::from_secs(600))
    }

    pub fn until_finished(&mut self, at_most: Duration) -> Finished {
        let end = self.now.plus(at_most);
        while self.finished.is_none() && self.advance(end) {}
        self.finished.take().expect("the run has come to its end")
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.advance(end) {}
    }

    /// Goes on until `condition` holds; false when it does not within `at_most`.
    pub fn run_until(&mut self, at_most: Duration, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.plus(at_most);
        loop {
            if condition(self) {
                return true;
            }
            if !self.advance(end) {
                return false;
            }
        }
    }

    /// Wakes the worker.
    pub fn poke(&mut self) {
        self.pass();
    }

    /// The page as a run sees it.
    pub fn view(&self) -> PageView<'_> {
        let (progress, arrival) = self.copy();
        PageView { generation: self.generation, irq: self.irq.as_ref().expect("there is a page"), progress, arrival }
    }

    /// One event. False when there is none before `end`, which is the time then.
    fn advance(&mut self, end: Instant) -> bool {
        let client = self.client.as_ref().and_then(Client::next_event);
        let reply = self.guest.replies.front().map(|(at, _)| *at);
        let next = [self.guest.next_event(), self.pass_at, self.due, client, reply].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        self.guest.run(self.now);
        if let Some(client) = &mut self.client {
            while let Some((_, request)) = self.guest.replies.pop_front() {
                client.reply(self.now, request);
            }
            let before = self.wire.len();
            client.run(self.now, &mut self.wire);
            if self.wire.len() != before && self.last.port != PortPolicy::Shut {
                self.pass_soon();
            }
        } else {
            self.guest.replies.clear();
        }
        if core::mem::take(&mut self.guest.kicked) {
            self.pass_soon();
        }
        if [self.pass_at, self.due].into_iter().flatten().any(|at| at <= self.now) {
            self.pass();
        }
        true
    }

    fn pass_soon(&mut self) {
        let at = self.now.plus(Duration::from_micros(self.rng.random_range(3..40)));
        self.pass_at = Some(self.pass_at.map_or(at, |other| other.min(at)));
    }

    fn copy(&self) -> (Progress, Arrival) {
        let cells = &self.guest.cells;
        let progress =
            Progress { polls: cells.polls, irq_seen: cells.irq_seen, irq_owned: cells.irq_owned, phase: cells.phase };
        (progress, Arrival { number: cells.arrived, point: cells.point })
    }

    /// What the worker does when it is woken.
    fn pass(&mut self) {
        self.pass_at = None;
        for step in 0.. {
            assert!(step < 1000, "the adversary keeps the worker spinning: {:?}", self.last);
            self.due = None;
            let (progress, arrival) = self.copy();
            if let Some(irq) = &mut self.irq {
                let Cells { arm, arm_irq_seen: irq_seen, ci, .. } = self.guest.cells;
                irq.doorbell(Doorbell { arm, irq_seen, ci }, &progress, self.now);
            }
            let seen = observe(self.irq.as_ref(), self.generation, progress, arrival, &self.held);
            let mut actions = self.adversary.step(self.now, &seen);
            let again = self.obey(&mut actions, &progress);
            self.last = actions;
            if !again {
                break;
            }
        }
        if self.irq.is_some() && self.last.wake.is_none() && self.due.is_none() {
            return;
        }
        self.due = [self.due, self.last.wake].into_iter().flatten().min();
        assert!(self.due.is_none_or(|due| due > self.now), "asked to wake in the past");
    }

    fn obey(&mut self, actions: &mut Actions, progress: &Progress) -> bool {
        if self.irq.is_some() {
            self.guest.cells.requested = actions.requested;
        }
        let mut again = false;
        if let Some(publish) = actions.publish {
            again = true;
            let frames: Vec<_> = match publish {
                Publish::Generated { .. } => vec![None],
                Publish::Held => core::mem::take(&mut self.held).into(),
            };
            let room = self.ring_size - self.guest.cells.used.since(self.guest.consumed);
            if frames.len() as u32 <= room && self.irq.is_some() {
                self.published.push((publish, self.now));
                for frame in frames {
                    self.publish(frame, progress);
                }
                let published = self.latest();
                self.adversary.published(published);
                if actions.fire {
                    let request = self.irq.as_mut().map_or(Request::None, RxIrq::force);
                    self.carry_out(request);
                }
            } else {
                if publish == Publish::Held {
                    self.held = frames.into();
                }
                self.adversary.publish_failed(self.now);
            }
        }
        if let Some(ack) = actions.release {
            self.guest.cells.released = ack;
            self.acks.push(ack);
        }
        again |= self.poll_port(actions.port, progress);
        let request = self.irq.as_mut().map_or(Request::None, |irq| irq.poll(self.now));
        self.carry_out(request);
        if let Some(finished) = actions.finished.take() {
            self.finished = Some(*finished);
        }
        again
    }

    fn poll_port(&mut self, wire: PortPolicy, progress: &Progress) -> bool {
        match wire {
            PortPolicy::Shut => false,
            PortPolicy::Hold => {
                let mut again = false;
                while !self.held.back().is_some_and(Option::is_some)
                    && self.held.len() < HELD_FRAMES_MAX as usize
                    && let Some(frame) = self.wire.pop_front()
                {
                    self.held.push_back(frame);
                    again = true;
                }
                again
            }
            PortPolicy::Open => {
                while let Some(frame) = self.held.pop_front().or_else(|| self.wire.pop_front()) {
                    if self.guest.cells.used.since(self.guest.consumed) >= self.ring_size {
                        self.wire.push_front(frame);
                        break;
                    }
                    self.publish(frame, progress);
                    if frame.is_some() && self.adversary.request_port().is_some() {
                        let published = self.latest();
                        self.adversary.request_published(published);
                        return true;
                    }
                }
                false
            }
        }
    }

    fn publish(&mut self, frame: Option<u64>, progress: &Progress) {
        if let Some(irq) = &mut self.irq {
            irq.due(progress);
            irq.published(1, self.now);
        }
        self.guest.cells.used = self.guest.cells.used.plus(1);
        self.guest.ring.push_back(frame);
    }

    fn latest(&self) -> Published {
        Published { end: self.guest.cells.used, at: self.now, timestamp: crate::model::stamp(self.now) }
    }

    fn carry_out(&mut self, request: Request) {
        match request {
            Request::None => {}
            Request::Raise(number) => {
                self.guest.cells.fired = number;
                self.guest.raise(self.now, number);
            }
            Request::At(at) => self.due = Some(self.due.map_or(at, |due| due.min(at))),
        }
    }
}

fn observe<'a>(
    irq: Option<&'a RxIrq>,
    generation: u32,
    progress: Progress,
    arrival: Arrival,
    held: &VecDeque<Option<u64>>,
) -> Observation<'a> {
    Observation {
        page: irq.map(|irq| PageView { generation, irq, progress, arrival }),
        held: HeldFrames { count: held.len() as u32, request: held.back().is_some_and(Option::is_some) },
    }
}

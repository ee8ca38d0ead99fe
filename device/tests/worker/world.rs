// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker, its port and the model guest on one virtual clock.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tsnic::control::channel::{Answer, Command, ControlEnd, PathCommand, control_channel};
use tsnic::frame::Frame;
use tsnic::net::event::Event;
use tsnic::net::features::Features;
use tsnic::net::pair::{InterruptConfig, Next, Pair};
use tsnic::net::session::service;
use tsnic_abi::{Counter, Registration, record_flags};
use tsnic_core::arming::Rearm;
use tsnic_core::counters::Counters;
use tsnic_core::moderation::Setting;
use tsnic_core::policy::spec::PolicySpec;
use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::schedule::Entry;
use tsnic_core::spec::Flow;
use tsnic_core::time::Instant;
use tsnic_core::wire::spec::PacketSpec;

use super::client::{self, Client};
use super::guest::{Guest, Mode, Owner, Received};
use super::ports::{CountedLines, VirtualClock, Waiting, stamp};
use super::rings::{ENTRIES, Rings};

/// An address for everything.
pub const FLOW: Flow = Flow {
    guest_mac: [2, 0, 0, 0, 0, 1],
    guest_ip: Ipv4Addr::new(10, 0, 0, 1),
    guest_port: 9,
    peer_mac: [2, 0, 0, 0, 0, 2],
    peer_ip: Ipv4Addr::new(10, 0, 0, 2),
    peer_port: 10,
};

/// The world.
pub struct World {
    pub now: Instant,
    pub guest: Guest,
    pub client: Option<Client>,
    /// Buffers the guest has posted beyond what it has consumed.
    pub buffers: u32,
    pub finished: Option<Finished>,
    /// From a kick to the worker, microseconds.
    pub wakes_us: Range<u64>,
    /// Requests that the guest got, in their order.
    pub received: Vec<u64>,
    /// When each frame was published.
    pub published: Vec<Instant>,
    clock: VirtualClock,
    pub pair: Pair<Waiting, VirtualClock>,
    control: ControlEnd,
    lines: CountedLines,
    pub rings: Rings,
    generation: u32,
    has_page: bool,
    /// Policies may raise more than is asked for.
    has_policies: bool,
    /// Frames from the port that were published.
    passed_on: u64,
    /// Answers to commands.
    answers: Vec<Answer>,
    rng: Pcg64Mcg,
    pass_at: Option<Instant>,
    due: Option<Instant>,
}

impl World {
    pub fn new(mode: Mode, owner: Owner, seed: u64) -> Self {
        Self::starting_at(mode, owner, seed, Counter(u32::MAX - 20))
    }

    /// A world whose device looks closer when the guest has shown no progress for so long.
    pub fn with_stall_detector(mode: Mode, owner: Owner, seed: u64, after: Duration) -> Self {
        let mut world = Self::new(mode, owner, seed);
        world.pair.watch_for_stalls(after);
        world
    }

    /// A world whose completions are numbered from `start`, with a page that is armed.
    pub fn starting_at(mode: Mode, owner: Owner, seed: u64, start: Counter) -> Self {
        Self::of_kind(Rearm::OneShot, mode, owner, seed, start)
    }

    /// The same with this kind of device.
    pub fn of_kind(rearm: Rearm, mode: Mode, owner: Owner, seed: u64, start: Counter) -> Self {
        let now = Instant::from_ns(1_000_000);
        let clock = VirtualClock::default();
        let (control, worker) = control_channel().unwrap();
        let interrupts = InterruptConfig { rearm, ..InterruptConfig::default() };
        let mut pair = Pair::new(0, Waiting::default(), clock.clone(), worker, &interrupts);
        pair.set_features(Features::OFFERED);
        let mut guest = Guest::new(mode, owner, start, seed);
        guest.schedule(now);
        let mut world = Self {
            now,
            guest,
            client: None,
            buffers: ENTRIES.into(),
            finished: None,
            wakes_us: 3..40,
            received: Vec::new(),
            published: Vec::new(),
            clock,
            pair,
            control,
            lines: CountedLines::default(),
            rings: Rings::new(start),
            generation: 0,
            has_page: false,
            has_policies: false,
            passed_on: 0,
            answers: Vec::new(),
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
        self.generation += 1;
        self.post_registration(true);
        assert!(self.rings.is_accepted(self.generation));
        self.guest.schedule(self.now);
        self.poke();
    }

    /// The page is gone: the guest posts one that is refused.
    pub fn withdraw(&mut self) {
        self.post_registration(false);
        assert!(!self.rings.is_accepted(self.generation) && self.pair.status().page.is_none());
    }

    fn post_registration(&mut self, good: bool) {
        let (ci, arm) = (self.guest.consumed, self.guest.cells.arm);
        let header = Registration::new(0, self.generation, ci, self.rings.transmitted(), arm);
        self.rings.post_registration(&header, good);
        self.has_page = good;
        self.poke();
    }

    /// Starts a run; why not, when it is refused.
    pub fn start(&mut self, request: RunRequest) -> Result<(), String> {
        match self.ask(Command::Start(request)) {
            Answer::Started => Ok(()),
            Answer::Refused(why) => Err(why),
            answer => panic!("{answer:?}"),
        }
    }

    /// Asks the traffic monitor to end; false when none is on.
    pub fn stop_monitor(&mut self) -> bool {
        self.ask(Command::StopMonitor) == Answer::Stopping
    }

    pub fn cancel(&mut self) {
        assert_eq!(self.ask(Command::Cancel), Answer::Cancelled);
    }

    /// Events are wanted from now on.
    pub fn watch(&self) {
        self.control.watch(true);
    }

    /// What has happened since the last call, if it was asked for.
    pub fn events(&mut self) -> Vec<(Instant, Event)> {
        std::iter::from_fn(|| self.control.try_recv_event()).collect()
    }

    /// Lets these policies decide on receive interrupts.
    pub fn set_policies(&mut self, policies: Vec<PolicySpec>) {
        self.set_policies_of_both(1, [policies, Vec::new()]);
    }

    /// Lets these policies decide on the interrupts of each vector.
    pub fn set_policies_of_both(&mut self, seed: u64, policies: [Vec<PolicySpec>; 2]) {
        self.has_policies = true;
        let command = PathCommand::Policies(seed, policies);
        assert_eq!(self.ask(Command::Paths(command)), Answer::Paths(None));
    }

    /// Lets these policies decide on packets, by direction.
    pub fn set_packets(&mut self, seed: u64, specs: [Vec<PacketSpec>; 2]) {
        let command = PathCommand::Packets(seed, specs);
        assert_eq!(self.ask(Command::Paths(command)), Answer::Paths(None));
    }

    /// Moderates the interrupts of each vector so.
    pub fn set_moderation(&mut self, settings: [Setting; 2]) {
        for (queue, setting) in settings.into_iter().enumerate() {
            let command = PathCommand::Moderation(queue, setting);
            assert_eq!(self.ask(Command::Paths(command)), Answer::Paths(None));
        }
    }

    /// What was decided on the interrupts of a queue.
    pub fn schedule(&mut self, queue: usize) -> Vec<Entry> {
        match self.ask(Command::Paths(PathCommand::Schedule(queue))) {
            Answer::Paths(Some(schedule)) => schedule.entries().to_vec(),
            answer => panic!("{answer:?}"),
        }
    }

    fn ask(&mut self, command: Command) -> Answer {
        assert!(self.control.send(command));
        self.pair.commands_wait();
        self.poke();
        assert_eq!(self.answers.len(), 1, "one answer to each command");
        self.answers.remove(0)
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
    pub fn run_until(
        &mut self,
        at_most: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> bool {
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

    /// Sends frames to the device ([`client::frame`]); the worker does not wake up by itself.
    pub fn send(&self, frames: impl IntoIterator<Item = Option<u64>>) {
        let frames = frames
            .into_iter()
            .map(|request| Frame { bytes: client::frame(request), ..Frame::default() });
        self.pair.port().frames.lock().unwrap().extend(frames);
    }

    /// Frames the device has not read.
    pub fn waiting(&self) -> usize {
        self.pair.port().frames.lock().unwrap().len()
    }

    /// Frames the device has read and holds back.
    pub fn held(&self) -> u64 {
        self.pair.port().read - self.passed_on
    }

    /// A run is on.
    pub const fn run_is_on(&self) -> bool {
        self.pair.run_is_on()
    }

    pub fn counters(&self) -> Counters {
        self.pair.status().counters
    }

    /// Nothing is asked of the guest, and a frame that comes in goes to it at once.
    pub fn assert_let_go(&mut self) {
        self.send([None]);
        self.poke();
        assert_eq!((self.guest.cells.requested, self.waiting(), self.held()), (0, 0, 0));
    }

    /// One event. False when there is none before `end`, which is the time then.
    fn advance(&mut self, end: Instant) -> bool {
        let client = self.client.as_ref().and_then(Client::next_event);
        let reply = self.guest.replies.front().map(|(at, _)| *at);
        let next = [self.guest.next_event(), self.pass_at, self.due, client, reply]
            .into_iter()
            .flatten()
            .min();
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
            let frames = client.run(self.now);
            if !frames.is_empty() {
                self.send(frames);
                self.pass_soon();
            }
        } else {
            self.guest.replies.clear();
        }
        if std::mem::take(&mut self.guest.kicked) {
            self.pass_soon();
        }
        if [self.pass_at, self.due].into_iter().flatten().any(|at| at <= self.now) {
            self.poke();
        }
        true
    }

    fn pass_soon(&mut self) {
        let us = self.rng.random_range(self.wakes_us.clone());
        let at = self.now.plus(Duration::from_micros(us));
        self.pass_at = Some(self.pass_at.map_or(at, |other| other.min(at)));
    }

    /// Wakes the worker once, and looks at nothing but its counters.
    pub fn serve(&mut self) -> Counters {
        let setups = self.rings.setups();
        service(&mut self.pair, &self.rings.memory, setups, &self.lines);
        self.counters()
    }

    /// Wakes the worker, which does everything that is to be done.
    pub fn poke(&mut self) {
        self.pass_at = None;
        self.clock.set(self.now);
        for session in 0.. {
            assert!(session < 20, "the worker goes round and round");
            self.rings.write_cells(&self.guest.cells);
            let out = self.guest.cells.used.since(self.guest.consumed);
            self.rings.post(self.guest.cells.used.plus(self.buffers.saturating_sub(out)));
            let setups = self.rings.setups();
            let next = service(&mut self.pair, &self.rings.memory, setups, &self.lines);
            self.take_over();
            self.due = match next {
                Next::AtOnce => continue,
                Next::At(due) | Next::Placed(due) => Some(due),
                Next::Event => None,
            };
            assert!(
                self.due.is_none_or(|due| due > self.now),
                "the worker wants to wake in the past"
            );
            break;
        }
    }

    /// What the worker has done, as the guest and the control thread see it.
    fn take_over(&mut self) {
        let first = self.guest.cells.used;
        self.guest.cells.used = self.rings.used(first);
        for offset in 0..self.guest.cells.used.since(first) {
            let number = first.plus(offset);
            let frame = self.rings.frame(number);
            if self.has_page {
                assert_eq!(
                    self.rings.record(number),
                    (number, record_flags::TIMESTAMP, stamp(self.now))
                );
            }
            self.passed_on += u64::from(client::is_from_client(&frame));
            self.published.push(self.now);
            let received = client::received(&frame);
            if let Received::Request(request) = received {
                self.received.push(request);
            }
            self.guest.ring.push_back(received);
        }
        self.rings.read_cells(&mut self.guest.cells);
        let raised = self.lines.take();
        assert!(
            raised <= u32::from(self.has_page) || self.has_policies,
            "one shot, and without a page none is asked for"
        );
        if raised != 0 {
            self.guest.raise(self.now, self.guest.cells.fired);
        }
        while let Some(answer) = self.control.try_recv() {
            match answer {
                Answer::Progress { .. } => {}
                Answer::Finished(finished) => self.finished = Some(*finished),
                answer => self.answers.push(answer),
            }
        }
        assert_eq!(self.counters().queues_broken, 0);
    }
}

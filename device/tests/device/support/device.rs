// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device in this process.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tsnic::clock::HostClock;
use tsnic::control::channel::{Answer, Command, ControlEnd, control_channel};
use tsnic::control::convert;
use tsnic::net::pair::{InterruptConfig, Pair};
use tsnic::port::Port;
use tsnic::vhost::{Backend, Connection};
use tsnic_core::moderation::{Limits, Setting};
use tsnic_protocol::Status;

use super::eventually;
use super::port::{Host, cable};

pub struct Device {
    pub backend: Arc<Backend>,
    pub host: Host,
    pub control: ControlEnd,
}

impl Device {
    pub fn new() -> Self {
        Self::with_interrupts(InterruptConfig::default())
    }

    /// A device that moderates its receive interrupts.
    pub fn with_limits(usecs: u32, frames: u32) -> Self {
        let rx = Limits { usecs, frames };
        let moderation = [rx.into(), Setting::default()];
        Self::with_interrupts(InterruptConfig { moderation, ..InterruptConfig::default() })
    }

    pub fn with_interrupts(interrupts: InterruptConfig) -> Self {
        let (port, host) = cable();
        Self::build(Box::new(port), host, interrupts)
    }

    /// A device with another port than the cable to [`Self::host`].
    pub fn with_port(port: Box<dyn Port>) -> Self {
        Self::build(port, cable().1, InterruptConfig::default())
    }

    /// A device that looks closer when its guest has shown no progress for so long.
    pub fn with_stall_detector(after: Duration) -> Self {
        let (port, host) = cable();
        let watch = |pair: &mut Pair<_, _>| pair.watch_for_stalls(after);
        Self::with_pair(Box::new(port), host, InterruptConfig::default(), Duration::ZERO, watch)
    }

    /// A device whose worker goes on looking for so long once it has been woken.
    pub fn with_poll(poll: Duration) -> Self {
        let (port, host) = cable();
        Self::with_pair(Box::new(port), host, InterruptConfig::default(), poll, |_| ())
    }

    fn build(port: Box<dyn Port>, host: Host, interrupts: InterruptConfig) -> Self {
        Self::with_pair(port, host, interrupts, Duration::ZERO, |_| ())
    }

    fn with_pair(
        port: Box<dyn Port>,
        host: Host,
        interrupts: InterruptConfig,
        poll: Duration,
        set_up: impl FnOnce(&mut Pair<Box<dyn Port>, HostClock>),
    ) -> Self {
        let (control, worker) = control_channel().unwrap();
        let mut pair = Pair::new(0, port, HostClock::default(), worker, &interrupts);
        set_up(&mut pair);
        let backend = Arc::new(Backend::new(vec![pair], poll).unwrap());
        Self { backend, host, control }
    }

    /// Takes the cable away.
    pub fn unplug(&mut self) {
        self.host.unplug();
    }

    /// Connects a front end; returns its end of the socket.
    pub fn connect(&self) -> (Connection, UnixStream) {
        let (front, vmm) = UnixStream::pair().unwrap();
        (Connection::start(&self.backend, front).unwrap(), vmm)
    }

    /// The next answer to a command.
    pub fn ask(&self, command: Command) -> Answer {
        assert!(self.control.send(command));
        self.answer()
    }

    pub fn answer(&self) -> Answer {
        eventually("the device answers", || self.control.try_recv())
    }

    pub fn status(&self) -> Status {
        match self.ask(Command::Status) {
            Answer::Status(status) => convert::status(&status),
            answer => panic!("{answer:?}"),
        }
    }

    /// Waits until both queues run: a frame sent earlier never came.
    pub fn running(&self) {
        eventually("both queues run", || self.status().running.then_some(()));
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.status().counters.by_name()[name]
    }
}

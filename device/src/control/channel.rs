// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The channel between the control thread and the data path: three queues and two eventfds. Neither
//! side ever waits for the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use tsnic_core::adversary::Adversary;
use tsnic_core::moderation::Setting;
use tsnic_core::nic_clock::Adjustment;
use tsnic_core::policy::spec::PolicySpec;
use tsnic_core::run::{Actions, Finished, Observation, RunRequest};
use tsnic_core::schedule::Schedule;
use tsnic_core::time::Instant;
use tsnic_core::wire::spec::PacketSpec;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::net::event::Event;
use crate::net::status::PairStatus;

/// Events that wait for the control thread. The guest causes them, so there is a bound; those
/// beyond it are counted.
const EVENTS_MAX: usize = 1024;

/// What the control thread asks of the data path.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send [`Answer::Status`].
    Status,
    /// Start a run: [`Answer::Started`] or [`Answer::Refused`] comes at once.
    Start(RunRequest),
    /// End the traffic monitor: [`Answer::Stopping`] comes at once and its [`Answer::Finished`]
    /// later, or [`Answer::Refused`] when no traffic monitor is on.
    StopMonitor,
    /// End the run without a result: [`Answer::Cancelled`] comes.
    Cancel,
    /// Change or tell something of the interrupt paths or of the wire: [`Answer::Paths`] or [`Answer::Refused`]
    /// comes at once.
    Paths(PathCommand),
}

/// What is asked of the interrupt paths and of the wire. Queues are [`crate::net::pair::RX`] and
/// [`crate::net::pair::TX`].
#[derive(Clone, Debug, PartialEq)]
pub enum PathCommand {
    /// Moderate a queue's interrupts so.
    Moderation(usize, Setting),
    /// Let these policies decide, by queue, with this seed.
    Policies(u64, [Vec<PolicySpec>; 2]),
    /// Let these policies decide on packets, by queue, with this seed.
    Packets(u64, [Vec<PacketSpec>; 2]),
    /// Adjust the NIC's clock, which all pairs have.
    Clock(Adjustment),
    /// Tell what the policies of a queue have decided.
    Schedule(usize),
}

/// What the data path answers: one answer to each command, in their order, and in between what a
/// run has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Command::Status`].
    Status(Box<PairStatus>),
    /// The run has started.
    Started,
    /// The command cannot be carried out, and why.
    Refused(String),
    /// The traffic monitor is about to end.
    Stopping,
    /// The run, if one was on, has ended without a result.
    Cancelled,
    /// To [`Command::Paths`]: it is done; with the schedule that was asked for.
    Paths(Option<Schedule>),
    /// Of a run: it goes on.
    Progress {
        /// Rounds or packets done.
        done: u32,
        /// Rounds or packets asked for.
        total: u32,
    },
    /// Of a run: it is over.
    Finished(Box<Finished>),
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlEnd {
    commands: Sender<Command>,
    answers: Receiver<Answer>,
    events: Receiver<(Instant, Event)>,
    watch: Arc<Watch>,
    ask: EventFd,
    answered: EventFd,
}

/// Whether somebody wants to be told of events, and how many could not be.
#[derive(Debug, Default)]
struct Watch {
    on: AtomicBool,
    missed: AtomicU64,
}

/// The data path's end. None of its methods blocks.
#[derive(Debug)]
pub struct WorkerEnd {
    commands: Receiver<Command>,
    answers: Sender<Answer>,
    events: SyncSender<(Instant, Event)>,
    watch: Arc<Watch>,
    ask: EventFd,
    answered: EventFd,
}

/// Makes the two ends.
///
/// # Errors
/// When the process has no file descriptor left.
pub fn control_channel() -> io::Result<(ControlEnd, WorkerEnd)> {
    let (ask, answered) = (EventFd::new(EFD_NONBLOCK)?, EventFd::new(EFD_NONBLOCK)?);
    let (command_sender, command_receiver) = channel();
    let (answer_sender, answer_receiver) = channel();
    let (event_sender, event_receiver) = sync_channel(EVENTS_MAX);
    let watch = Arc::new(Watch::default());
    let control = ControlEnd {
        commands: command_sender,
        answers: answer_receiver,
        events: event_receiver,
        watch: Arc::clone(&watch),
        ask: ask.try_clone()?,
        answered: answered.try_clone()?,
    };
    let worker = WorkerEnd {
        commands: command_receiver,
        answers: answer_sender,
        events: event_sender,
        watch,
        ask,
        answered,
    };
    Ok((control, worker))
}

impl ControlEnd {
    /// Sends a command. False when the data path is gone.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        // The counter of an eventfd is full only after 2^64 - 2 writes that nobody read.
        self.commands.send(command).is_ok() && self.ask.write(1).is_ok()
    }

    /// Clears the event. Take every answer afterwards.
    pub fn clear(&self) {
        // EAGAIN: there was nothing to clear.
        let _ = self.answered.read();
    }

    /// The next answer, if there is one.
    #[must_use]
    pub fn try_recv(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Events are wanted from now on, or no longer.
    pub fn watch(&self, on: bool) {
        self.watch.on.store(on, Ordering::Relaxed);
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn try_recv_event(&self) -> Option<(Instant, Event)> {
        self.events.try_recv().ok()
    }

    /// Events since the last call that there was no room for.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.watch.missed.swap(0, Ordering::Relaxed)
    }

    /// Readable when there are answers or events.
    #[must_use]
    pub const fn event(&self) -> &EventFd {
        &self.answered
    }
}

impl WorkerEnd {
    /// Readable when there are commands.
    #[must_use]
    pub const fn event(&self) -> &EventFd {
        &self.ask
    }

    /// Carries out every command that waits, after clearing the event. Step the adversary
    /// afterwards.
    pub fn serve(
        &self,
        adversary: &mut Adversary,
        now: Instant,
        seen: &Observation,
        mut paths: impl FnMut(PathCommand) -> Answer,
        mut status: impl FnMut() -> PairStatus,
    ) {
        // EAGAIN: nothing was waiting, or it has been served already.
        let _ = self.ask.read();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Status => self.send(Answer::Status(Box::new(status()))),
                Command::Start(request) => self.send(match adversary.start(request, now, seen) {
                    Ok(()) => Answer::Started,
                    Err(error) => Answer::Refused(error.to_string()),
                }),
                Command::StopMonitor => self.send(if adversary.stop_monitor() {
                    Answer::Stopping
                } else {
                    Answer::Refused("No traffic monitor is on".into())
                }),
                Command::Paths(command) => self.send(paths(command)),
                Command::Cancel => {
                    adversary.cancel();
                    self.send(Answer::Cancelled);
                }
            }
        }
    }

    /// Somebody wants to be told of events.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watch.on.load(Ordering::Relaxed)
    }

    /// Tells of an event, if there is room for it.
    pub fn tell(&self, at: Instant, event: Event) {
        if self.events.try_send((at, event)).is_err() {
            self.watch.missed.fetch_add(1, Ordering::Relaxed);
        }
        // EAGAIN: 2^64 - 2 writes that nobody read.
        let _ = self.answered.write(1);
    }

    /// Passes on what a step has to report. Takes it out of `actions`.
    pub fn report(&self, actions: &mut Actions) {
        if let Some((done, total)) = actions.progress.take() {
            self.send(Answer::Progress { done, total });
        }
        if let Some(finished) = actions.finished.take() {
            self.send(Answer::Finished(finished));
        }
    }

    fn send(&self, answer: Answer) {
        // The control thread is gone only while the process ends; there is nobody to tell then.
        if self.answers.send(answer).is_ok() {
            let _ = self.answered.write(1);
        }
    }
}

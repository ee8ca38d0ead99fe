// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who asked for what: turns requests of many clients into commands to one data path, and its
//! answers into replies.
//!
//! Knows no socket and no thread. One run at a time; it belongs to the client that started it and
//! ends with it.

use std::collections::VecDeque;

use tsnic_protocol::{Reply, Request};

use super::channel::{Answer, Command, PathCommand};
use super::{convert, packets, policies};

#[cfg(test)]
mod tests;

/// Number of a client, never used again.
pub type ClientId = u64;

/// The dispatcher.
#[derive(Debug, Default)]
pub struct Dispatcher {
    run: Option<Run>,
    /// Commands that have not been answered, in their order.
    pending: VecDeque<Pending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    client: ClientId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Injection,
    Natural,
    Monitor,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Injection => "injection run",
            Self::Natural => "natural run",
            Self::Monitor => "traffic monitor",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Status(ClientId),
    Start(Run),
    StopMonitor(ClientId),
    Paths(ClientId),
    Cancel,
}

/// A reply, and to whom.
pub type Addressed = (ClientId, Reply);

impl Dispatcher {
    /// A client asks for something: the command to send.
    ///
    /// # Errors
    /// The reply, when the request cannot be carried out.
    pub fn request(&mut self, client: ClientId, request: Request) -> Result<Command, String> {
        let (kind, run) = match request {
            Request::Status => {
                self.pending.push_back(Pending::Status(client));
                return Ok(Command::Status);
            }
            // The server's, for they are of all queue pairs.
            Request::Events => return Err("Events are of no single queue pair".into()),
            Request::MonitorStop => return self.stop_monitor(client),
            Request::Moderation(moderation) => {
                let (queue, setting) =
                    policies::moderation(moderation).map_err(|error| error.to_string())?;
                return Ok(self.paths(client, PathCommand::Moderation(queue, setting)));
            }
            Request::Policies(asked) => {
                let stacks = policies::policies(&asked).map_err(|error| error.to_string())?;
                return Ok(self.paths(client, PathCommand::Policies(asked.seed, stacks)));
            }
            Request::Packets(asked) => {
                let specs = packets::packets(&asked.packets).map_err(|error| error.to_string())?;
                return Ok(self.paths(client, PathCommand::Packets(asked.seed, specs)));
            }
            Request::Clock(asked) => {
                return Ok(self.paths(client, PathCommand::Clock(convert::adjustment(asked))));
            }
            Request::Schedule { vector } => {
                return Ok(self.paths(client, PathCommand::Schedule(policies::queue(vector))));
            }
            Request::Injection(run) => (Kind::Injection, convert::injection(&run)),
            Request::Natural(run) => (Kind::Natural, convert::natural(&run)),
            Request::MonitorStart(run) => (Kind::Monitor, convert::monitor(&run)),
        };
        if let Some(on) = self.run {
            let whose = if on.client == client { "this connection" } else { "another connection" };
            return Err(format!(
                "A {} is on, started by {whose}: one run at a time",
                on.kind.name()
            ));
        }
        let on = Run { client, kind };
        self.run = Some(on);
        self.pending.push_back(Pending::Start(on));
        Ok(Command::Start(run))
    }

    fn paths(&mut self, client: ClientId, command: PathCommand) -> Command {
        self.pending.push_back(Pending::Paths(client));
        Command::Paths(command)
    }

    fn stop_monitor(&mut self, client: ClientId) -> Result<Command, String> {
        match self.run {
            Some(Run { client: owner, kind: Kind::Monitor }) if owner == client => {
                self.pending.push_back(Pending::StopMonitor(client));
                Ok(Command::StopMonitor)
            }
            Some(Run { kind: Kind::Monitor, .. }) => {
                Err("The traffic monitor was started by another connection".into())
            }
            _ => Err("No traffic monitor is on".into()),
        }
    }

    /// A client has gone: the command to send, if it had a run on.
    pub fn gone(&mut self, client: ClientId) -> Option<Command> {
        if self.run.is_none_or(|run| run.client != client) {
            return None;
        }
        self.run = None;
        self.pending.push_back(Pending::Cancel);
        Some(Command::Cancel)
    }

    /// The data path has answered.
    pub fn answer(&mut self, answer: Answer) -> Option<Addressed> {
        match answer {
            Answer::Progress { done, total } => {
                Some((self.running()?.client, Reply::Progress { done, total }))
            }
            Answer::Finished(finished) => {
                let client = self.running()?.client;
                self.run = None;
                Some((client, convert::finished(*finished)))
            }
            Answer::Stopping | Answer::Cancelled => {
                self.pending.pop_front();
                None
            }
            Answer::Status(status) => match self.pending.pop_front()? {
                Pending::Status(client) => {
                    Some((client, Reply::Status(convert::status(&status).into())))
                }
                _ => None,
            },
            Answer::Paths(told) => match self.pending.pop_front()? {
                Pending::Paths(client) => Some((
                    client,
                    told.map_or(Reply::Done, |it| Reply::Schedule(policies::schedule(&it))),
                )),
                _ => None,
            },
            Answer::Started => match self.pending.pop_front()? {
                Pending::Start(Run { client, kind: Kind::Monitor }) => {
                    Some((client, Reply::MonitorStarted))
                }
                _ => None,
            },
            Answer::Refused(why) => match self.pending.pop_front()? {
                Pending::Start(run) => {
                    if self.run == Some(run) {
                        self.run = None;
                    }
                    Some((run.client, error(why)))
                }
                Pending::Paths(client) => Some((client, error(why))),
                // The traffic monitor ended by itself while the command was under way, and its
                // result has been told.
                Pending::StopMonitor(_) | Pending::Status(_) | Pending::Cancel => None,
            },
        }
    }

    /// The run whose news these are: none while one that was cancelled may still have had something
    /// to say.
    fn running(&self) -> Option<Run> {
        self.run.filter(|run| {
            !self
                .pending
                .iter()
                .any(|it| matches!(it, Pending::Cancel) || *it == Pending::Start(*run))
        })
    }

    /// Replies are still to come for this client.
    #[must_use]
    pub fn owes(&self, client: ClientId) -> bool {
        self.run.is_some_and(|run| run.client == client)
            || self.pending.iter().any(|it| match it {
                Pending::Status(other) | Pending::StopMonitor(other) | Pending::Paths(other) => {
                    *other == client
                }
                Pending::Start(run) => run.client == client,
                Pending::Cancel => false,
            })
    }
}

/// An error reply.
#[must_use]
pub const fn error(message: String) -> Reply {
    Reply::Error { message }
}

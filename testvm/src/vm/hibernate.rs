// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hibernation: the machine's memory goes to its disk, QEMU ends, and another QEMU goes on from it.

use std::time::Duration;

use guest_protocol as agent;

use super::error::Error;
use super::family::Waiting;
use super::lines::{JsonLines, LineError};
use super::message::{accepted, carried_out, describe, unexpected};
use super::parts::{AGENT, AGENT_SOCKET, QEMU};
use super::start::accept;
use super::{POWER_OFF_LIMIT, Vm};
use crate::process::Child;

/// The kernel's half of it: all memory in use is written, or read.
const LIMIT: Duration = Duration::from_secs(60);

impl Vm {
    /// Hibernates the guest, which uses a disk for swap, and resumes it from there in another QEMU:
    /// `disk` is its number, as in /sys/block/NAME/dev. The device stays, and sees its front end go
    /// and come. Call it on a thread that outlives the guest.
    ///
    /// # Errors
    /// The guest refuses, or one of the two machines does not do its part.
    pub fn hibernate(&mut self, disk: &str) -> Result<(), Error> {
        let write = |path: &str, value: &str| agent::Request::WriteFile {
            path: path.into(),
            value: value.into(),
        };
        self.command(&write("/sys/power/disk", "shutdown"))?;
        let hibernate = write("/sys/power/state", "disk");
        let doing = describe(&hibernate);
        self.agent
            .send(&hibernate)
            .map_err(|source| self.family.diagnose(AGENT, &doing, source))?;
        self.hear_end(&doing)?;

        let Self { family, machine, listener, sockets, .. } = self;
        family.qemu = Child::spawn(QEMU, machine)?;
        self.qmp = None;
        let socket = sockets.socket(AGENT_SOCKET);
        self.agent = JsonLines::new(accept(listener, &socket, family, &mut || ())?);
        self.hear_ready("the machine that resumes starts", &mut || ())?;
        let resume = write("/sys/power/resume", disk);
        let doing = describe(&resume);
        self.agent.send(&resume).map_err(|source| self.family.diagnose(AGENT, &doing, source))?;
        // The answer to the request to hibernate, by the agent that was resumed. Where the kernel
        // finds no image, the other one says as much; the difference is in what is loaded.
        let reply = self.hear_agent(&doing, LIMIT, &mut || ())?;
        carried_out(&doing, reply)
    }

    /// Waits until the guest has powered off by itself.
    fn hear_end(&mut self, doing: &str) -> Result<(), Error> {
        let Self { agent, family, .. } = self;
        let limit = family.scale.limit(LIMIT);
        let answer: Result<agent::Reply, Waiting> = agent.receive(limit, &mut || {
            crate::interrupt::check().map_err(|source| {
                Waiting::Died(Error::Interrupted { doing: doing.to_owned(), source })
            })
        });
        match answer {
            Err(Waiting::Line(LineError::Closed)) => {}
            Err(waiting) => return Err(family.explain(AGENT, doing, waiting)),
            Ok(reply) => {
                let other = accepted(doing, reply)?;
                return Err(unexpected(AGENT, doing, &other));
            }
        }
        let limit = self.limit(POWER_OFF_LIMIT);
        let ended = self.family.qemu.wait(limit)?;
        self.family.qemu.kill()?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.family.qemu_ended(doing, status)),
            None => Err(self.family.diagnose(QEMU, doing, LineError::Silent(limit))),
        }
    }
}

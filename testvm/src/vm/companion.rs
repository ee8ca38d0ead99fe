// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of the host beside a guest, on its wire.

use std::process::Command;

use super::Vm;
use super::error::Error;
use super::family::Logs;
use crate::process::Child;

/// A program that runs until this is dropped.
#[derive(Debug)]
pub struct Companion {
    name: &'static str,
    child: Child,
    logs: Logs,
}

impl Vm {
    /// Starts a program in the network of the run, where the guest's wire ends, and in the directory
    /// of the guest's sockets. Its outputs go to a log of this name. Call it on a thread that
    /// outlives the program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_beside(
        &self,
        name: &'static str,
        mut command: Command,
    ) -> Result<Companion, Error> {
        let logs = self.family.logs.clone();
        command.current_dir(self.sockets.path());
        logs.redirect(&mut command, name)?;
        Ok(Companion { name, child: Child::spawn(name, &mut command)?, logs })
    }
}

impl Companion {
    /// An error when it has ended.
    ///
    /// # Errors
    /// See above; `doing` goes into the message.
    pub fn check(&mut self, doing: &str) -> Result<(), Error> {
        match self.child.ended()? {
            Some(status) => Err(Error::Ended {
                who: self.name,
                doing: doing.to_owned(),
                status,
                tail: self.logs.tail(self.name),
            }),
            None => Ok(()),
        }
    }
}

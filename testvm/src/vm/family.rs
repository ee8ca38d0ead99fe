// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processes of one virtual machine, and what they leave in their logs when they die.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::console::Console;
use super::error::Error;
use super::lines::LineError;
use super::parts::{DEVICE, QEMU, TAIL};
use crate::config::LimitScale;
use crate::interrupt;
use crate::process::{Child, Tail};

/// QEMU and the device. The fields are dropped in order: the guest dies before the device it uses.
#[derive(Debug)]
pub(super) struct Family {
    pub qemu: Child,
    pub backend: Child,
    /// The device was ended on purpose: it is not missed.
    pub device_off: bool,
    /// It is stopped on purpose (SIGSTOP): it does not answer.
    pub device_held: bool,
    pub console: Console,
    pub logs: Logs,
    pub scale: LimitScale,
}

/// Why waiting for a message ended.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The connection.
    Line(LineError),
    /// Something else, seen meanwhile.
    Died(Error),
}

impl From<LineError> for Waiting {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

/// How long a closed connection waits for the death that explains it.
const DEATH_NOTICE: Duration = Duration::from_secs(1);

impl Family {
    /// An error when one of them has died or the user wants to stop.
    pub fn check(&mut self, doing: &str) -> Result<(), Error> {
        interrupt::check()
            .map_err(|source| Error::Interrupted { doing: doing.to_owned(), source })?;
        if let Some(status) = self.qemu.ended()? {
            return Err(self.qemu_ended(doing, status));
        }
        if !self.device_off
            && let Some(status) = self.backend.ended()?
        {
            let tail = self.logs.tail("device");
            return Err(Error::Ended { who: DEVICE, doing: doing.to_owned(), status, tail });
        }
        Ok(())
    }

    /// QEMU's end while `doing`, as an error: the guest's panic, if that was the reason.
    pub fn qemu_ended(&self, doing: &str, status: ExitStatus) -> Error {
        let doing = doing.to_owned();
        let console = self.console.tail(TAIL);
        if self.console.panicked() {
            return Error::Panicked { doing, console };
        }
        let mut tail = self.logs.tail("qemu");
        tail.0.extend(console.0);
        Error::Ended { who: QEMU, doing, status, tail }
    }

    /// The cause behind a wait that failed.
    pub fn explain(&mut self, who: &'static str, doing: &str, waiting: Waiting) -> Error {
        match waiting {
            Waiting::Died(error) => error,
            Waiting::Line(source) => self.diagnose(who, doing, source),
        }
    }

    /// The cause behind a failed connection: mostly, somebody has just died.
    pub fn diagnose(&mut self, who: &'static str, doing: &str, source: LineError) -> Error {
        if matches!(source, LineError::Closed | LineError::Io(_)) {
            let deadline = Instant::now() + DEATH_NOTICE;
            while Instant::now() < deadline {
                if let Err(error) = self.check(doing) {
                    return error;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let doing = doing.to_owned();
        match source {
            LineError::Silent(limit) => {
                Error::Silent { who, doing, limit, console: self.console.tail(TAIL) }
            }
            source => Error::Connection { who, doing, source },
        }
    }
}

/// The logs of one virtual machine.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    pub dir: PathBuf,
    pub index: u8,
}

impl Logs {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("vm{}-{name}.log", self.index))
    }

    /// Send both outputs of `command` to the log `name`.
    pub fn redirect(&self, command: &mut Command, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        let open = |path: &Path| {
            // A device that is started again goes on with its log.
            let file = File::options().create(true).append(true).open(path)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open(&path).map_err(|source| Error::Io { path, source })?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(())
    }

    pub fn tail(&self, name: &str) -> Tail {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        Tail::of(&String::from_utf8_lossy(&bytes), TAIL)
    }
}

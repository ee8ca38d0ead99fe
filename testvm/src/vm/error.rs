// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong with a running guest. None of these is a verdict.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::lines::LineError;
use crate::interrupt::Interrupted;
use crate::process::Tail;
use crate::{isolate, process};

/// An error of the running guest or of what runs it.
#[derive(Debug, Error)]
pub enum Error {
    /// A process could not be started or stopped.
    #[error("A process of the virtual machine cannot be handled")]
    Process(#[from] process::Error),
    /// The run's directory or the TAP device.
    #[error("The surroundings of the virtual machine cannot be made")]
    Isolate(#[from] isolate::Error),
    /// A file or socket.
    #[error("{path} cannot be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process that must live has ended.
    #[error("{who} ended while {doing}: {status}{tail}")]
    Ended {
        /// Which process.
        who: &'static str,
        /// What was going on.
        doing: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        tail: Tail,
    },
    /// The guest's kernel gave up.
    #[error("The guest panicked while {doing}; its console ends with{console}")]
    Panicked {
        /// What was going on.
        doing: String,
        /// The end of the console.
        console: Tail,
    },
    /// No answer in time.
    #[error(
        "{who} did not answer within {limit:?} while {doing}; the guest's console ends with{console}"
    )]
    Silent {
        /// Who should have answered.
        who: &'static str,
        /// What was going on.
        doing: String,
        /// The time it had.
        limit: Duration,
        /// The end of the console.
        console: Tail,
    },
    /// The other side was not done when the time for it was over, by its own measure or by ours.
    #[error("{who} was not done in time ({doing}): {message}")]
    Late {
        /// The other side.
        who: &'static str,
        /// What was asked.
        doing: String,
        /// What was waited for.
        message: String,
    },
    /// The connection failed.
    #[error("The connection to {who} failed while {doing}")]
    Connection {
        /// The other side.
        who: &'static str,
        /// What was going on.
        doing: String,
        /// Why.
        #[source]
        source: LineError,
    },
    /// The other side could not do what was asked.
    #[error("{who} cannot do this ({doing}): {message}")]
    Refused {
        /// The other side.
        who: &'static str,
        /// What was asked.
        doing: String,
        /// Its words.
        message: String,
    },
    /// The other side answered something else.
    #[error("{who} answered beside the point ({doing}): {reply}")]
    Unexpected {
        /// The other side.
        who: &'static str,
        /// What was asked.
        doing: String,
        /// What it answered.
        reply: String,
    },
    /// There is no device to ask: it was killed on purpose.
    #[error("The device is off, it cannot be asked ({doing})")]
    DeviceOff {
        /// What was to be asked.
        doing: String,
    },
    /// The user asked for the end.
    #[error("Stopped while {doing}")]
    Interrupted {
        /// What was going on.
        doing: String,
        /// The signal.
        #[source]
        source: Interrupted,
    },
}

impl Error {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Late { .. } => true,
            Self::Process(error) => error.is_late(),
            Self::Isolate(error) => error.is_late(),
            _ => false,
        }
    }
}

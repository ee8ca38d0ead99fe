// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong in the guest.

use std::io;

use guest_protocol::Reply;

/// A request the agent could not carry out. It is sent to testvm as text, causes included, by
/// [`Error::reply`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a device or a directory of the guest.
    #[error("Cannot {action} {path}")]
    File {
        /// What was tried: "open", "read", "write", "mount".
        action: &'static str,
        /// On what.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A system call that is not about a file.
    #[error("{what}")]
    Call {
        /// What was tried, with its arguments.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer on a netlink socket made no sense.
    #[error("Unexpected netlink answer to {what}: {answer}")]
    Netlink {
        /// What was asked.
        what: String,
        /// What came.
        answer: String,
    },
    /// Something that should have been there by now is not.
    #[error("{what} within {limit_ms} ms")]
    TimeLimit {
        /// What was waited for, as "No carrier on eth0".
        what: String,
        /// How long, milliseconds.
        limit_ms: u128,
    },
    /// Nothing by this name.
    #[error("No {kind} {name:?} in {place}")]
    NotFound {
        /// What it is that is missing: "interrupt", "thread".
        kind: &'static str,
        /// The name looked for.
        name: String,
        /// Where it was looked for.
        place: &'static str,
    },
    /// The driver granted less than was asked for.
    #[error("{name} granted receive filter {granted} instead of {asked} (all packets)")]
    TimestampFilter {
        /// Interface.
        name: String,
        /// `HWTSTAMP_FILTER_*` asked for.
        asked: i32,
        /// What the driver made of it.
        granted: i32,
    },
    /// The module that drives the kernel's NAPI functions does not permit what the model permits.
    #[error("The kernel's side refuses step {number}, {step}")]
    Refusal {
        /// The step.
        step: String,
        /// Its number, from 0.
        number: u32,
    },
    /// That module accepts what it must refuse.
    #[error("The kernel's side accepts {what} ({taken} bytes)")]
    Accepted {
        /// What it must refuse.
        what: String,
        /// Bytes that it took.
        taken: usize,
    },
    /// The NAPI instance to compare with is not idle.
    #[error("The state word of an idle NAPI instance is {word:#x}")]
    NotIdle {
        /// The word.
        word: usize,
    },
    /// A request that makes no sense now.
    #[error("{0}")]
    State(&'static str),
    /// A line on the serial port that is no request.
    #[error("Malformed request {line:?}")]
    Malformed {
        /// The line, shortened.
        line: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line on the serial port that does not end.
    #[error("A request is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A background thread ended early.
    #[error("The {who} ended early, after {count}")]
    Ended {
        /// Which.
        who: &'static str,
        /// How far it had come.
        count: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on an I/O result about a file.
    pub fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.into(), source: source.into() }
    }

    /// For `map_err` on the result of a system call.
    pub fn call<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Call { what: what.into(), source: source.into() }
    }

    /// The time for something was over, the agent's own or the kernel's: slowness alone may have
    /// brought this about. `EAGAIN` does not tell: a module in use is refused by that.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match self {
            Self::TimeLimit { .. } => true,
            Self::File { source, .. } | Self::Call { source, .. } => {
                source.kind() == io::ErrorKind::TimedOut
            }
            _ => false,
        }
    }

    /// What testvm is told of it.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let message = self.chain();
        if self.is_late() { Reply::Late { message } } else { Reply::Error { message } }
    }

    /// The error and its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_place_and_cause() {
        let error = Error::file("open", "/nowhere")(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(error.chain(), "Cannot open /nowhere: No such file or directory (os error 2)");
    }

    #[test]
    fn a_wait_in_vain_is_late_and_a_refusal_is_an_error() {
        let own = Error::TimeLimit { what: "No carrier on eth0".into(), limit_ms: 5_000 };
        assert_eq!(
            own.reply(),
            Reply::Late { message: "No carrier on eth0 within 5000 ms".into() }
        );
        let call = |errno| Error::call("Cannot set it")(io::Error::from_raw_os_error(errno));
        assert!(matches!(call(libc::ETIMEDOUT).reply(), Reply::Late { .. }), "the driver's wait");
        for refusal in [libc::EAGAIN, libc::EBUSY, libc::ERANGE, libc::ECONNREFUSED] {
            assert!(matches!(call(refusal).reply(), Reply::Error { .. }), "{refusal}");
        }
    }
}

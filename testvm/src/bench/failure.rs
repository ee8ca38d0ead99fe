// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why what was expected of a guest was not seen.

use std::fmt::Write as _;

use thiserror::Error;

use crate::rpc::ClientError;
use crate::vm;
use crate::{isolate, scenario, stream};

/// Why a check did not pass.
#[derive(Debug, Error)]
pub enum Failure {
    /// It cannot be done here.
    #[error("{0}")]
    Skip(String),
    /// What the check is about did not come about: nothing is known.
    #[error("{0}")]
    NoSituation(String),
    /// It was not seen within its time limit: the driver, the device or the machine may be at
    /// fault.
    #[error("{0}; --slow gives more time")]
    Late(String),
    /// Something expected was not seen, or something forbidden was.
    #[error("{0}")]
    Unmet(String),
    /// The guest or the device refused something, or died.
    #[error(transparent)]
    Vm(#[from] vm::Error),
    /// The TAP interface.
    #[error("The TAP interface cannot be deleted or made again")]
    Tap(#[from] isolate::Error),
    /// The RPC client.
    #[error("The RPCs ended early")]
    Rpc(#[from] ClientError),
    /// What an experiment does to the guest.
    #[error(transparent)]
    Experiment(#[from] scenario::Error),
    /// A long stream.
    #[error("A TCP stream broke")]
    Stream(#[from] stream::Error),
    /// A socket of the host.
    #[error("The host's own traffic cannot be made")]
    Socket(#[from] std::io::Error),
}

impl Failure {
    /// With all causes, in one text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

impl Failure {
    /// Slowness alone may have brought this about.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::Late(_)
                | Self::Vm(vm::Error::Silent { .. })
                | Self::Experiment(scenario::Error::Vm(vm::Error::Silent { .. }))
                | Self::Stream(stream::Error::Vm(vm::Error::Silent { .. }))
                | Self::Rpc(ClientError::TimeLimit { .. })
        )
    }
}

/// [`Failure::Unmet`] with this text unless `condition` holds.
pub fn expect(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(Failure::Unmet(text())) }
}

/// [`Failure::Unmet`] unless these counters of the device are the same in both states.
macro_rules! unchanged {
    ($before:expr, $after:expr, $($name:ident),+) => {
        $(
            let (before, after) = ($before.counters.$name, $after.counters.$name);
            $crate::bench::failure::expect(before == after, || {
                format!("{} went from {before} to {after}", stringify!($name))
            })?;
        )+
    };
}
pub(crate) use unchanged;

/// The other way round: the refusal that was expected. `errno` is the guest's system error as a
/// number.
pub fn expect_refused(
    result: Result<(), vm::Error>,
    what: &str,
    errno: i32,
) -> Result<(), Failure> {
    match result {
        Ok(()) => Err(Failure::Unmet(format!("{what} was accepted"))),
        Err(vm::Error::Refused { message, .. })
            if message.contains(&format!("(os error {errno})")) =>
        {
            Ok(())
        }
        Err(vm::Error::Refused { message, .. }) => Err(Failure::Unmet(format!(
            "{what} was refused, but not by system error {errno}: {message}"
        ))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Result<(), vm::Error> {
        Err(vm::Error::Refused {
            who: "The guest agent",
            doing: String::new(),
            message: message.into(),
        })
    }

    #[test]
    fn what_may_be_slowness_is_told_from_what_is_wrong() {
        let silent = vm::Error::Silent {
            who: "The device",
            doing: String::new(),
            limit: std::time::Duration::from_secs(20),
            console: crate::process::Tail::default(),
        };
        assert!(Failure::Vm(silent).is_late());
        assert!(Failure::Late("Not armed".into()).is_late());
        assert!(!Failure::Unmet("1 packet lost".into()).is_late());
        assert!(!Failure::from(refused("no").expect_err("a refusal")).is_late());
    }

    #[test]
    fn only_the_expected_refusal_is_one() {
        let busy = nix::libc::EBUSY;
        assert!(
            expect_refused(
                refused("Cannot write: Device or resource busy (os error 16)"),
                "x",
                busy
            )
            .is_ok()
        );
        for other in [Ok(()), refused("Invalid argument (os error 22)"), refused("os error 161")] {
            assert!(matches!(expect_refused(other, "x", busy), Err(Failure::Unmet(_))));
        }
    }
}

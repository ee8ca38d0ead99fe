// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why what was expected of a guest was not seen.

use std::fmt::Write as _;

use guest_protocol::icmp::Pings;
use thiserror::Error;

use crate::late::ran_out;
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
    #[error("{0}")]
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
    /// With all causes, in one text, and with what may help.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        if self.is_late() {
            text.push_str("; --slow gives more time");
        }
        text
    }
}

impl Failure {
    /// Slowness alone may have brought this about.
    pub fn is_late(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Vm(error) => error.is_late(),
            Self::Tap(error) => error.is_late(),
            Self::Rpc(error) => error.is_late(),
            Self::Experiment(error) => error.is_late(),
            Self::Stream(error) => error.is_late(),
            Self::Socket(error) => ran_out(error),
            Self::Skip(_) | Self::NoSituation(_) | Self::Unmet(_) => false,
        }
    }
}

/// [`Failure::Unmet`] with this text unless `condition` holds.
pub fn expect(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(Failure::Unmet(text())) }
}

/// All `count` echo requests, by whomever they were sent, were answered. One that was not is
/// evidence when a later one was; else it is late.
pub fn expect_answered(count: u16, pings: &[(&str, Pings)]) -> Result<(), Failure> {
    let told = || {
        let tell = |(whose, Pings { answered, lost, late }): &(&str, Pings)| {
            format!("{whose} {answered}, {lost}, {late}")
        };
        let all: Vec<_> = pings.iter().map(tell).collect();
        format!("Of {count} echo requests were answered, lost and late: {}", all.join("; "))
    };
    expect(pings.iter().all(|(_, pings)| pings.lost == 0), told)?;
    if pings.iter().all(|(_, pings)| pings.answered == count) {
        Ok(())
    } else {
        Err(Failure::Late(told()))
    }
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
    use std::io;
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use super::*;
    use crate::process::{self, Tail};

    fn refused(message: &str) -> Result<(), vm::Error> {
        Err(vm::Error::Refused {
            who: "The guest agent",
            doing: String::new(),
            message: message.into(),
        })
    }

    #[test]
    fn what_may_be_slowness_is_told_from_what_is_wrong() {
        let limit = Duration::from_secs(20);
        let silent = || vm::Error::Silent {
            who: "The device",
            doing: String::new(),
            limit,
            console: Tail::default(),
        };
        let waited = || vm::Error::Late {
            who: "The guest agent",
            doing: String::new(),
            message: "No carrier".into(),
        };
        let slow_ip = || {
            isolate::Error::Tap(process::Error::TimedOut {
                name: "ip".into(),
                limit,
                tail: Tail::default(),
            })
        };
        let timed_out = || io::Error::from_raw_os_error(nix::libc::ETIMEDOUT);
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let unanswered = || ClientError::Connect { server, source: timed_out() };
        let late: [Failure; 14] = [
            Failure::Late("Not armed".into()),
            silent().into(),
            waited().into(),
            vm::Error::Isolate(slow_ip()).into(),
            slow_ip().into(),
            scenario::Error::Vm(waited()).into(),
            scenario::Error::NotArmed(Box::default()).into(),
            scenario::Error::Livepatch.into(),
            scenario::Error::Rpc(unanswered()).into(),
            scenario::Error::Stream(stream::Error::Host(timed_out())).into(),
            stream::Error::Vm(silent()).into(),
            ClientError::TimeLimit { seq: 0, total: 1, limit }.into(),
            unanswered().into(),
            timed_out().into(),
        ];
        for failure in late {
            assert!(failure.is_late(), "{failure:?}");
            assert!(failure.chain().ends_with("; --slow gives more time"), "{}", failure.chain());
        }
        let reset = || io::Error::from_raw_os_error(nix::libc::ECONNRESET);
        let refusal = || refused("no").expect_err("a refusal");
        let wrong: [Failure; 8] = [
            Failure::Unmet("1 packet lost".into()),
            Failure::Skip("no S3".into()),
            Failure::NoSituation("no poll".into()),
            refusal().into(),
            scenario::Error::Vm(refusal()).into(),
            stream::Error::Host(reset()).into(),
            ClientError::Broken { seq: 0, total: 1, source: reset() }.into(),
            reset().into(),
        ];
        for failure in wrong {
            assert!(!failure.is_late(), "{failure:?}");
            assert!(!failure.chain().contains("--slow"), "{}", failure.chain());
        }
    }

    #[test]
    fn an_echo_request_that_was_left_behind_outweighs_those_that_are_late() {
        let all = Pings { answered: 20, lost: 0, late: 0 };
        let lossy = Pings { answered: 19, lost: 1, late: 0 };
        let late = Pings { answered: 9, lost: 0, late: 3 };
        let judged = |out, back| expect_answered(20, &[("the guest's", out), ("the host's", back)]);
        assert!(judged(all, all).is_ok());
        for (out, back) in [(all, late), (late, all), (late, late)] {
            let failure = judged(out, back).expect_err("late");
            assert!(failure.is_late(), "{failure:?}");
        }
        for (out, back) in [(all, lossy), (lossy, late), (late, lossy)] {
            let failure = judged(out, back).expect_err("a loss");
            assert!(matches!(failure, Failure::Unmet(_)), "{failure:?}");
        }
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

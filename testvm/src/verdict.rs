// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The three ways a run can end, kept apart: it held, it did not hold, it could not be told.

use std::process::ExitCode;

/// What a scenario found. An infrastructure failure is no verdict: it is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything expected was seen.
    Pass,
    /// Something expected was not seen, or something forbidden was.
    Fail,
    /// The run ended in order, but too little of it was conclusive.
    Undecided,
}

impl Verdict {
    /// The word of the machine-readable reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Undecided => "no-verdict",
        }
    }
}

/// Exit code of a failed run.
pub const EXIT_FAIL: u8 = 1;
/// Exit code of a run that could not be judged (`EX_UNAVAILABLE`): never a pass, never a failure of
/// what was tested.
pub const EXIT_NO_VERDICT: u8 = 69;
/// Exit code after Ctrl-C or SIGTERM, as shells report it.
pub const EXIT_INTERRUPTED: u8 = 130;

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::SUCCESS,
            Verdict::Fail => Self::from(EXIT_FAIL),
            Verdict::Undecided => Self::from(EXIT_NO_VERDICT),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a policy acts.

use alloc::string::String;

/// Latest that a policy may begin, and longest that it may act: an hour, milliseconds.
const MAX_MS: u32 = 3_600_000;

/// When a policy acts, counted from when it was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// It begins after so many milliseconds.
    pub after_ms: u32,
    /// And acts for so many; to the end when there is no number.
    pub for_ms: Option<u32>,
}

impl Window {
    const fn end_ms(self) -> u64 {
        match self.for_ms {
            Some(for_ms) => self.after_ms as u64 + for_ms as u64,
            None => u64::MAX,
        }
    }

    /// There are times that belong to both.
    pub(super) const fn overlaps(self, other: Self) -> bool {
        (self.after_ms as u64) < other.end_ms() && (other.after_ms as u64) < self.end_ms()
    }

    /// The field that cannot be, and why.
    pub(super) fn wrong(self) -> Option<(&'static str, String)> {
        if self.for_ms == Some(0) {
            return Some(("for_ms", "for_ms is 0: 1 or more".into()));
        }
        let times = [("after_ms", Some(self.after_ms)), ("for_ms", self.for_ms)];
        times.into_iter().find_map(|(field, value)| {
            let value = value.filter(|value| *value > MAX_MS)?;
            Some((field, format!("{field} is {value}, more than {MAX_MS} (an hour)")))
        })
    }
}

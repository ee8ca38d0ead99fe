// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The NIC's clock: what completion records are stamped with, and what a guest may set, step and
//! tune as the PTP hardware clock of the interface. Timer time, which drives it, is never touched.

use tsnic_abi::CLOCK_RATE_MAX_PPB;

use crate::time::{Instant, NicTime};

#[cfg(test)]
mod tests;

/// One unit of a rate: 2^-16 parts in a million, as `adjfine` of Linux has it.
const RATE_UNIT: i128 = 1_000_000 << 16;

/// [`CLOCK_RATE_MAX_PPB`] in units of a rate.
const RATE_MAX: u64 = (CLOCK_RATE_MAX_PPB as u64 / 1_000) << 16;

/// Latest reading: what a signed count of nanoseconds can hold, 292 years.
const LATEST: i128 = i64::MAX as i128;

/// A rate in parts in a billion; at the ends of the type one that no clock takes.
#[must_use]
pub const fn rate_of_ppb(ppb: i64) -> i64 {
    let rate = ((ppb as i128) << 16) / 1_000;
    if rate > i64::MAX as i128 {
        i64::MAX
    } else if rate < i64::MIN as i128 {
        i64::MIN
    } else {
        rate as i64
    }
}

/// A rate's parts in a billion, to the nearest.
#[must_use]
pub const fn ppb_of_rate(rate: i64) -> i64 {
    let ppb = rate as i128 * 1_000;
    let half = if ppb < 0 { -(1 << 15) } else { 1 << 15 };
    ((ppb + half) / (1 << 16)) as i64
}

/// What is to be done to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// It shows this now.
    Set(NicTime),
    /// It goes so many nanoseconds forward or, negative, back.
    Step(i64),
    /// It runs so much faster or, negative, slower than the host's from now on: in 2^-16 parts in a
    /// million.
    Rate(i64),
}

/// The clock cannot be set to that, or be tuned so much. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// The clock. At first it shows timer time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicClock {
    /// When it was last adjusted.
    since: Instant,
    /// What it showed then.
    at_since: NicTime,
    rate: i64,
}

impl NicClock {
    /// What it shows at this time, which is not before the latest adjustment.
    #[must_use]
    pub fn read(&self, now: Instant) -> NicTime {
        let elapsed = i128::from(now.as_ns()) - i128::from(self.since.as_ns());
        let elapsed = elapsed.max(0);
        let gained = elapsed * i128::from(self.rate) / RATE_UNIT;
        let shown = i128::from(self.at_since.as_ns()) + elapsed + gained;
        NicTime::from_ns(shown.clamp(0, LATEST).unsigned_abs() as u64)
    }

    /// How much faster than timer time it runs, in 2^-16 parts in a million.
    #[must_use]
    pub const fn rate(&self) -> i64 {
        self.rate
    }

    /// Adjusts it.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn adjust(&mut self, adjustment: Adjustment, now: Instant) -> Result<(), OutOfRange> {
        let shows = self.read(now);
        let shows = match adjustment {
            Adjustment::Set(time) if i128::from(time.as_ns()) <= LATEST => time,
            Adjustment::Step(by) => {
                let to = i128::from(shows.as_ns()) + i128::from(by);
                if !(0..=LATEST).contains(&to) {
                    return Err(OutOfRange);
                }
                NicTime::from_ns(to.unsigned_abs() as u64)
            }
            Adjustment::Rate(rate) if rate.unsigned_abs() <= RATE_MAX => {
                self.rate = rate;
                shows
            }
            Adjustment::Set(_) | Adjustment::Rate(_) => return Err(OutOfRange),
        };
        (self.since, self.at_since) = (now, shows);
        Ok(())
    }
}

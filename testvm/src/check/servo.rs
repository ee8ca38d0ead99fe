// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `phc2sys` and `ptp4l` say of their servo, a line for each sample.

use tsnic_protocol::NicClock;

use crate::bench::failure::{Failure, expect};

/// The state in which a servo is locked: it has stepped the clock, and tunes it.
pub const LOCKED: &str = " s2 freq ";

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How far the clock is ahead of the one it follows.
    pub offset_ns: i64,
    /// The servo's state: 0 unlocked, 1 steps, 2 locked.
    pub state: u8,
    /// How much faster it runs than the one it follows, by the servo's estimate, parts in a billion:
    /// the clock gets the opposite.
    pub freq_ppb: i64,
}

impl Sample {
    /// Of a line such as `phc2sys[5.1]: /dev/ptp0 sys offset -12 s2 freq +345 delay 1000`; `None`
    /// when it is another one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip_while(|&word| word != "offset").skip(1);
        let offset_ns = words.next()?.parse().ok()?;
        let state = words.next()?.strip_prefix('s')?.parse().ok()?;
        let freq_ppb = words.next().filter(|&word| word == "freq").and_then(|_| words.next())?;
        Some(Self { offset_ns, state, freq_ppb: freq_ppb.parse().ok()? })
    }
}

/// All samples in what a program `said`.
pub fn samples(said: &str) -> Vec<Sample> {
    said.lines().filter_map(Sample::parse).collect()
}

/// The median of how far the clock was off in the last `count` of `samples`, nanoseconds: 0 without
/// any.
pub fn typical_offset_ns(samples: &[Sample], count: usize) -> u64 {
    let last = &samples[samples.len().saturating_sub(count)..];
    let mut offsets: Vec<_> = last.iter().map(|sample| sample.offset_ns.unsigned_abs()).collect();
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied().unwrap_or(0)
}

/// The device's clock runs as the last of `samples` has it.
pub fn has_tuned(samples: &[Sample], clock: &NicClock) -> Result<(), Failure> {
    let wanted = samples.last().map(|sample| -sample.freq_ppb);
    // The programs show it without a fraction.
    let has = wanted.is_some_and(|wanted| (wanted - clock.rate_ppb).abs() <= 1);
    expect(has, || format!("The servo wants {wanted:?} ppb, and the device says {clock:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_both_programs_are_read() {
        let said = "\
phc2sys[26.4]: /dev/ptp0 sys offset -1796100640680790815 s0 freq      +0 delay   8172
phc2sys[26.5]: /dev/ptp0 sys offset        12 s2 freq    +345 delay   1000
ptp4l[12.0]: port 1: UNCALIBRATED to SLAVE on MASTER_CLOCK_SELECTED
ptp4l[12.1]: master offset     -7 s1 freq  -99999 path delay       456
ptp4l[12.1]: offset of nothing
";
        let sample = |offset_ns, state, freq_ppb| Sample { offset_ns, state, freq_ppb };
        assert_eq!(
            samples(said),
            [sample(-1_796_100_640_680_790_815, 0, 0), sample(12, 2, 345), sample(-7, 1, -99_999)]
        );
        assert_eq!(said.matches(LOCKED).count(), 1);
    }

    #[test]
    fn the_clock_gets_the_opposite_of_the_last_sample() {
        let samples = [7, 345].map(|freq_ppb| Sample { offset_ns: 0, state: 2, freq_ppb });
        let clock = |rate_ppb| NicClock { ns: 0, timer_ns: 0, rate_ppb };
        for rate_ppb in -346..=-344 {
            has_tuned(&samples, &clock(rate_ppb)).expect("within a unit");
        }
        for rate_ppb in [345, -347, -7, 0] {
            has_tuned(&samples, &clock(rate_ppb)).expect_err("another rate");
        }
        has_tuned(&[], &clock(0)).expect_err("no sample");
    }

    #[test]
    fn the_typical_offset_is_of_the_last_samples_whatever_their_sign() {
        let samples = [900, -5, 3, -4].map(|offset_ns| Sample { offset_ns, state: 2, freq_ppb: 0 });
        assert_eq!(typical_offset_ns(&samples, 3), 4);
        assert_eq!(typical_offset_ns(&[], 3), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of the log that a guest can cause as often as it likes: some at once, then one now and
//! then, so that it cannot fill the host's disk. What happened is counted all the same, by counters
//! of its own.

use std::time::Duration;

use tsnic_core::time::Instant;

/// Lines that may follow one another.
pub const BURST: u32 = 8;

/// Between two lines after that.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Limits one kind of line. Each kind has a limit of its own, so that one cannot hide another.
#[derive(Debug)]
pub struct LogLimit {
    /// Lines that may be written before the next interval is over.
    allowed: u32,
    /// When the current interval began.
    since: Instant,
    left_out: u64,
}

impl Default for LogLimit {
    /// A whole burst is allowed.
    fn default() -> Self {
        Self { allowed: BURST, since: Instant::default(), left_out: 0 }
    }
}

/// A line that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Lines of its kind that were left out before it, if any: a field of the line.
    pub left_out: Option<u64>,
}

impl LogLimit {
    /// There is something to say at `now`: the line, if it may be written. Else it is counted among
    /// those left out.
    pub fn line(&mut self, now: Instant) -> Option<Line> {
        if self.allowed < BURST {
            let intervals = now.since(self.since).as_nanos() / INTERVAL.as_nanos();
            if intervals > 0 {
                self.allowed = BURST
                    .min(self.allowed.saturating_add(u32::try_from(intervals).unwrap_or(BURST)));
                self.since = now;
            }
        } else {
            self.since = now;
        }
        if self.allowed == 0 {
            self.left_out += 1;
            return None;
        }
        self.allowed -= 1;
        let left_out = std::mem::take(&mut self.left_out);
        Some(Line { left_out: (left_out != 0).then_some(left_out) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_ns(1_000_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_burst_then_one_line_an_interval_that_says_how_many_were_left_out() {
        let mut limit = LogLimit::default();
        for _ in 0..BURST {
            assert_eq!(limit.line(at(0)), Some(Line { left_out: None }));
        }
        for _ in 0..1000 {
            assert_eq!(limit.line(at(9)), None);
        }
        assert_eq!(limit.line(at(10)), Some(Line { left_out: Some(1000) }));
        assert_eq!(limit.line(at(10)), None);
        assert_eq!(limit.line(at(19)), None);
        assert_eq!(limit.line(at(20)), Some(Line { left_out: Some(2) }));
    }

    #[test]
    fn a_day_of_lines_is_one_an_interval() {
        let mut limit = LogLimit::default();
        let day = (0..864_000)
            .filter(|tenth| limit.line(at(0).plus(Duration::from_millis(100 * tenth))).is_some())
            .count();
        assert_eq!(day, BURST as usize + 8640 - 1);
    }

    #[test]
    fn after_a_quiet_time_there_is_a_whole_burst_again_and_no_more() {
        let mut limit = LogLimit::default();
        let burst =
            |limit: &mut LogLimit, now| (0..100).filter(|_| limit.line(now).is_some()).count();
        assert_eq!(burst(&mut limit, at(0)), BURST as usize);
        assert_eq!(burst(&mut limit, at(30)), 3);
        assert_eq!(burst(&mut limit, at(10_000)), BURST as usize);
        // A clock that goes back is none, but nothing is let through by it.
        assert_eq!(burst(&mut limit, at(0)), 0);
    }
}

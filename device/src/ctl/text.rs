// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a device, for people.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use tsnic_protocol::stall::VectorStalls;
use tsnic_protocol::{Lateness, Moderation, PortState, Status, Vector};

/// A status as text: one line a fact.
pub(super) struct Told<'a>(pub &'a Status);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let running = if status.running { "running" } else { "not running" };
        writeln!(f, "queue pair {} of {}: {running}", status.pair, status.pairs)?;
        match &status.port {
            PortState::Attached => writeln!(f, "  port       attached")?,
            PortState::Detached { reason } => writeln!(f, "  port       detached: {reason}")?,
        }
        match status.page {
            None => writeln!(f, "  driver     any: no shared queue page")?,
            Some(generation) => {
                let armed = if status.armed { "armed" } else { "not armed" };
                let Status { produced, signaled, ci, fired, .. } = status;
                writeln!(
                    f,
                    "  driver     tsnic: page {generation}, {armed}, produced {produced}, signaled {signaled}, ci {ci}, fired {fired}"
                )?;
            }
        }
        for moderation in &status.moderation {
            writeln!(f, "  {} moderation  {}", name(moderation.vector), Limits(moderation))?;
        }
        for lateness in &status.lateness {
            let Lateness { count, median_ns, p99_ns, max_ns, .. } = lateness;
            writeln!(
                f,
                "  {} interrupts placed {count}, late by {median_ns} ns (median), {p99_ns} ns (p99), {max_ns} ns (at most)",
                name(lateness.vector)
            )?;
        }
        if let Some(stalls) = &status.stalls {
            writeln!(f, "  rx stalls  {}", Verdicts(&stalls.rx))?;
            writeln!(f, "  tx stalls  {}", Verdicts(&stalls.tx))?;
        }
        if let Some(wire) = &status.wire {
            for (name, direction) in [("rx", &wire.rx), ("tx", &wire.tx)] {
                if !direction.policies.is_empty() {
                    writeln!(f, "  {name} packets {}", direction.policies.join(", "))?;
                }
            }
        }
        let clock = &status.clock;
        writeln!(
            f,
            "  clock      {} ns, {:+} ns from the host's, {:+} ppb",
            clock.ns,
            i128::from(clock.ns) - i128::from(clock.timer_ns),
            clock.rate_ppb
        )
    }
}

const fn name(vector: Vector) -> &'static str {
    match vector {
        Vector::Rx => "rx",
        Vector::Tx => "tx",
    }
}

struct Limits<'a>(&'a Moderation);

impl Display for Limits<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let &Moderation { usecs, frames, adaptive, .. } = self.0;
        match (usecs, frames) {
            (0, 0) => write!(f, "at once")?,
            (usecs, 0) => write!(f, "{usecs} us")?,
            (0, frames) => write!(f, "{frames} frames")?,
            (usecs, frames) => write!(f, "{usecs} us or {frames} frames")?,
        }
        if adaptive { write!(f, " (adaptive)") } else { Ok(()) }
    }
}

struct Verdicts<'a>(&'a VectorStalls);

impl Display for Verdicts<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let stalls = self.0;
        let verdicts = [
            ("lost", stalls.lost),
            ("ignored", stalls.ignored),
            ("suppressed", stalls.suppressed),
            ("not refilled", stalls.not_refilled),
            ("kick lost", stalls.kick_lost),
            ("slow", stalls.slow),
            ("stopped", stalls.stopped),
        ];
        write!(f, "{} nudges", stalls.nudges)?;
        for (verdict, count) in verdicts.into_iter().filter(|(_, count)| *count != 0) {
            write!(f, ", {count} {verdict}")?;
        }
        if stalls.by_policy == 0 { Ok(()) } else { write!(f, "; {} by policy", stalls.by_policy) }
    }
}

/// Every counter, a column a pair.
pub(super) fn counters(statuses: &[Status], out: &mut impl Write) -> io::Result<()> {
    if statuses.len() > 1 {
        write!(out, "{:<26}", "queue pair")?;
        for status in statuses {
            write!(out, "{:>16}", status.pair)?;
        }
        writeln!(out)?;
    }
    let columns: Vec<_> = statuses.iter().map(|status| status.counters.by_name()).collect();
    let Some(first) = columns.first() else { return Ok(()) };
    for name in first.keys() {
        write!(out, "{name:<26}")?;
        for column in &columns {
            write!(out, "{:>16}", column[name])?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsnic_protocol::NicClock;

    #[test]
    fn a_status_is_told_in_words() {
        let moderation = [
            Moderation { vector: Vector::Rx, usecs: 50, frames: 8, adaptive: true },
            Moderation { vector: Vector::Tx, usecs: 0, frames: 0, adaptive: false },
        ];
        let status = Status {
            pairs: 2,
            running: true,
            page: Some(7),
            produced: 3,
            moderation: moderation.to_vec(),
            lateness: vec![Lateness {
                vector: Vector::Rx,
                count: 4,
                median_ns: 1_500,
                p99_ns: 2_000,
                max_ns: 9_000,
            }],
            clock: NicClock { ns: 10, timer_ns: 15, rate_ppb: 100 },
            ..Status::default()
        };
        let expected = "queue pair 0 of 2: running
  port       attached
  driver     tsnic: page 7, not armed, produced 3, signaled 0, ci 0, fired 0
  rx moderation  50 us or 8 frames (adaptive)
  tx moderation  at once
  rx interrupts placed 4, late by 1500 ns (median), 2000 ns (p99), 9000 ns (at most)
  clock      10 ns, -5 ns from the host's, +100 ppb
";
        assert_eq!(Told(&status).to_string(), expected);
    }

    #[test]
    fn counters_have_a_column_a_pair() {
        let mut second = Status { pair: 1, ..Status::default() };
        second.counters.rx_frames = 12;
        let mut out = Vec::new();
        counters(&[Status::default(), second], &mut out).expect("it is written");
        let text = String::from_utf8(out).expect("text");
        let line = text.lines().find(|line| line.starts_with("rx_frames ")).expect("a line");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["rx_frames", "0", "12"]);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of clock and hardware timestamps with the programs of linuxptp.

use std::str::FromStr;
use std::time::Duration;

use tsnic_abi::CLOCK_RATE_MAX_PPB;
use tsnic_protocol::NicClock;

use super::clock::{
    CLOCK, SECOND, SET, device, is_the_nics, offset, reads_between, restore, was_set,
};
use super::servo::{self, LOCKED, Sample};
use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::scenario::guest::NIC;

/// In seconds, and nanoseconds: a double has both exactly.
const STEP: (&str, i64) = ("-3600.5", -3_600 * SECOND - SECOND / 2);
const RATE_PPB: i64 = 50_000;
/// How far apart two comparisons are; a guest that stands still in one is not taken for that.
const FAR: (&str, i64) = ("1000", 1_000 * SECOND);
/// What is lost of a nanosecond at every reading of a clock that is tuned.
const ROUNDING_NS: i128 = 2;

/// Samples of a servo that is locked, and how many of them a figure is of.
const SAMPLES: usize = 24;
const LAST: usize = 12;
/// Samples in a second.
const SAMPLE_RATE: &str = "8";
/// For a servo to lock, and for the samples after that.
const SERVO_LIMIT: Duration = Duration::from_secs(30);

/// Check: what `phc_ctl` reads is the device's clock, and what it does to it is done there, to the
/// nanosecond and to the unit of a rate; a clock that is tuned runs at that rate.
pub fn phc_ctl(bench: &mut Bench) -> Result<String, Failure> {
    is_the_nics(bench)?;
    let caps = ask(bench, &["caps"])?;
    let max: u32 = number(&caps, "", " maximum frequency adjustment (ppb)")?;
    expect(max == CLOCK_RATE_MAX_PPB, || format!("The greatest rate is {max} ppb: {caps}"))?;
    get(bench)?;
    let first = device(bench)?;
    ask(bench, &["set", &(SET / SECOND).to_string()])?;
    let set = get(bench)?;
    was_set(SET, &first, &set)?;
    ask(bench, &["adj", STEP.0])?;
    let stepped = get(bench)?;
    let by = offset(&stepped) - offset(&set);
    expect(by == STEP.1.into(), || format!("A step of {} s moved the clock by {by} ns", STEP.0))?;
    ask(bench, &["freq", &RATE_PPB.to_string()])?;
    let tuned = get(bench)?;
    expect(tuned.rate_ppb == RATE_PPB, || format!("The device's rate is {} ppb", tuned.rate_ppb))?;
    let said = ask(bench, &["freq"])?;
    let told: f64 = number(&said, "clock frequency offset is ", "ppb")?;
    expect(told.round() as i64 == RATE_PPB, || format!("The kernel's rate is not that: {said}"))?;
    let gained = follows_its_rate(bench, &tuned)?;
    ask(bench, &["freq", "0"])?;
    let off: i64 = compare(bench)?;
    ask(bench, &["adj", FAR.0])?;
    let further = off - compare(bench)? - FAR.1;
    expect(further.abs() < FAR.1 / 2, || {
        format!("A step of {} s moved it by {further} ns more, against the system's", FAR.0)
    })?;
    restore(bench)?;
    Ok(format!("get, set, adj, freq and cmp; {gained} ns gained at {RATE_PPB} ppb"))
}

/// Check: `hwstamp_ctl` has the driver stamp both directions, and neither; and says what was in
/// force.
pub fn hwstamp_ctl(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_rpcs()?;
    // As the agent has set it, both on, both off.
    let settings = [(0, 1), (1, 1), (0, 0)];
    for pair in settings.windows(2) {
        let [was, will] = [pair[0], pair[1]];
        let [tx, rx] = [will.0, will.1].map(|value| value.to_string());
        let said = bench.tool("hwstamp_ctl", &["-i", NIC, "-t", &tx, "-r", &rx])?;
        let expected = |(tx, rx)| format!("settings:\ntx_type {tx}\nrx_filter {rx}\n");
        let expected = format!("current {}new {}", expected(was), expected(will));
        expect(said == expected, || format!("hwstamp_ctl says {said:?}, not {expected:?}"))?;
        if will.1 == 1 {
            bench.stamped_rpcs(&traffic)?;
        }
    }
    let then = traffic.replies();
    let now = bench.replies(&traffic, |now| now.plain >= then.plain + PLAIN_RPCS)?;
    // The reply to a request that was stamped before may have come after.
    let stamped = now.stamped - then.stamped;
    expect(stamped <= 1, || format!("{stamped} RPCs had hardware timestamps, which were off"))?;
    bench.link_up()?;
    bench.stamped_rpcs(&traffic)?;
    Ok(format!("both directions on and off, {}", bench.end_traffic(traffic)?))
}

/// RPCs that show that timestamps are off.
const PLAIN_RPCS: u64 = 20;

/// Check: `phc2sys` has the NIC's clock follow the guest's, and the guest's the NIC's. Its servo
/// locks, and the device's clock runs at the rate it wants.
pub fn phc2sys(bench: &mut Bench) -> Result<String, Failure> {
    is_the_nics(bench)?;
    let (phc, samples) = follow(bench, "CLOCK_REALTIME", CLOCK)?;
    let tuned = get(bench)?;
    servo::has_tuned(&samples, &tuned)?;
    follows_its_rate(bench, &tuned)?;
    let (system, _) = follow(bench, CLOCK, "CLOCK_REALTIME")?;
    restore(bench)?;
    let rate = tuned.rate_ppb;
    Ok(format!(
        "locked; median offset of {CLOCK} {phc} ns at {rate} ppb, of the system {system} ns"
    ))
}

/// Has `phc2sys` make one clock follow another until its servo has been locked for a while: the
/// typical offset in the end, and all samples.
fn follow(bench: &mut Bench, source: &str, sink: &str) -> Result<(u64, Vec<Sample>), Failure> {
    let args = ["-m", "-q", "-s", source, "-c", sink, "-O", "0", "-R", SAMPLE_RATE];
    let said = bench.tool_until("phc2sys", &args, (LOCKED, SAMPLES), SERVO_LIMIT)?;
    let samples = servo::samples(&said);
    Ok((servo::typical_offset_ns(&samples, LAST), samples))
}

/// The device's clock has run at its rate since it was `tuned`, whatever time has passed; what it
/// has gained, nanoseconds.
fn follows_its_rate(bench: &mut Bench, tuned: &NicClock) -> Result<i128, Failure> {
    ask(bench, &["wait", "0.5"])?;
    let now = get(bench)?;
    let gained = offset(&now) - offset(tuned);
    let elapsed = i128::from(now.timer_ns) - i128::from(tuned.timer_ns);
    // The rate is rounded to a part in a billion.
    let (slow, fast) = ((tuned.rate_ppb - 1).into(), (tuned.rate_ppb + 1).into());
    let gains = |ppb: i128| elapsed * ppb / i128::from(SECOND);
    let range = gains(slow) - ROUNDING_NS..=gains(fast) + ROUNDING_NS;
    expect(now.rate_ppb == tuned.rate_ppb && range.contains(&gained), || {
        format!("At {tuned:?} the clock gained {gained} ns in {elapsed} ns, and is {now:?}")
    })?;
    Ok(gained)
}

/// Reads the clock: the time lies between what the device says before and afterwards.
fn get(bench: &mut Bench) -> Result<NicClock, Failure> {
    reads_between(bench, "phc_ctl get", |bench| {
        let said = ask(bench, &["get"])?;
        let time: String = number(&said, "clock time is ", " or ")?;
        let (seconds, ns) = time.split_once('.').unwrap_or((&time, ""));
        let ns = seconds.parse::<i64>().ok().zip(ns.parse::<i64>().ok());
        ns.map(|(seconds, ns)| seconds * SECOND + ns)
            .ok_or_else(|| Failure::Unmet(format!("phc_ctl says {said:?}, which is no time")))
    })
}

/// How far the system's clock is ahead of the NIC's.
fn compare(bench: &mut Bench) -> Result<i64, Failure> {
    let said = ask(bench, &["cmp"])?;
    let exactly = number(&said, "offset from CLOCK_REALTIME is ", "ns");
    exactly.or_else(|_| number(&said, "offset from CLOCK_REALTIME is approximately ", "ns"))
}

/// What `phc_ctl` says.
fn ask(bench: &mut Bench, command: &[&str]) -> Result<String, Failure> {
    bench.tool("phc_ctl", &[&["-q", CLOCK, "--"], command].concat())
}

/// What stands in `said` between these two texts.
fn number<T: FromStr>(said: &str, before: &str, after: &str) -> Result<T, Failure> {
    let line = said.lines().find_map(|line| Some(line.split_once(before)?.1.split_once(after)?.0));
    line.and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Failure::Unmet(format!("There is no number between {before:?} and {after:?} in {said:?}"))
    })
}

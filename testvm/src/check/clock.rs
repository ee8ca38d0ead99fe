// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of the PTP hardware clock.

use guest_protocol::{ClockAction, Reply, Request};
use nix::libc::{EINVAL, ERANGE};
use tsnic_protocol::NicClock;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, expect_refused};

pub(super) const CLOCK: &str = "/dev/ptp0";
/// Which driver's it is.
const NAME: &str = "/sys/class/ptp/ptp0/clock_name";
pub(super) const SECOND: i64 = 1_000_000_000;
/// Where the clock is set to: 2001, and so far from the time since the host's boot.
pub(super) const SET: i64 = 1_000_000_000 * SECOND;
const STEP: i64 = -3_600 * SECOND;
const RATE_PPB: i64 = 50_000;

/// Check: the guest reads, sets, steps and tunes `/dev/ptp0`, and the device's clock is that; what
/// cannot be is refused; the clock outlives the link and a reload of the driver; hardware timestamps
/// follow it; and RPCs go on as before, for timer time does not.
pub fn hardware(bench: &mut Bench) -> Result<String, Failure> {
    is_the_nics(bench)?;
    let first = device(bench)?;
    is_between(bench, ClockAction::Read)?;
    let traffic = bench.start_traffic()?;
    let set = is_between(bench, ClockAction::Set(SET))?;
    was_set(SET, &first, &set)?;
    let stepped = is_between(bench, ClockAction::Step(STEP))?;
    let by = offset(&stepped) - offset(&set);
    expect(by == STEP.into(), || format!("A step of {STEP} ns moved the clock by {by} ns"))?;
    let tuned = is_between(bench, ClockAction::Rate(RATE_PPB))?;
    expect(tuned.rate_ppb == RATE_PPB, || format!("The device's rate is {} ppb", tuned.rate_ppb))?;
    // To less than 0, and by more than a tenth.
    is_between(bench, ClockAction::Set(SECOND))?;
    for (action, errno) in
        [(ClockAction::Step(-1_000 * SECOND), EINVAL), (ClockAction::Rate(100_000_001), ERANGE)]
    {
        let refused = bench.vm.command(&Request::Clock { path: CLOCK.into(), action });
        expect_refused(refused, &format!("{action:?}"), errno)?;
    }
    let unchanged = is_between(bench, ClockAction::Set(SET))?;
    bench.stamped_rpcs(&traffic)?;
    bench.link_down()?;
    is_between(bench, ClockAction::Read)?;
    bench.link_up()?;
    bench.unload("tsnic")?;
    bench.load_driver()?;
    bench.link_up()?;
    let rpcs = bench.end_traffic(traffic)?;
    let after = is_between(bench, ClockAction::Read)?;
    expect(after.rate_ppb == RATE_PPB, || format!("After a reload it is {after:?}"))?;
    restore(bench)?;
    let gained = (offset(&after) - offset(&unchanged)) / 1_000;
    Ok(format!("set, stepped, tuned ({gained} us gained at {RATE_PPB} ppb), {rpcs}"))
}

/// The clock is that of the NIC's driver.
pub(super) fn is_the_nics(bench: &mut Bench) -> Result<(), Failure> {
    let name = bench.read(NAME)?;
    expect(name == "tsnic", || format!("{CLOCK} is the clock of {name:?}"))
}

/// The device's clock was set to `ns` between these two looks at it.
pub(super) fn was_set(ns: i64, before: &NicClock, after: &NicClock) -> Result<(), Failure> {
    let since = i128::from(after.ns) - i128::from(ns);
    let longest = i128::from(after.timer_ns) - i128::from(before.timer_ns);
    expect((0..=longest).contains(&since), || {
        format!("The device's clock is {after:?} after it was set to {ns} ns, and was {before:?}")
    })
}

/// As the clock was at first: at no rate of its own, and about timer time.
pub(super) fn restore(bench: &mut Bench) -> Result<(), Failure> {
    is_between(bench, ClockAction::Rate(0))?;
    let now = device(bench)?;
    is_between(bench, ClockAction::Set(now.timer_ns.cast_signed())).map(drop)
}

/// How far the NIC's clock is ahead of timer time, nanoseconds.
pub(super) fn offset(clock: &NicClock) -> i128 {
    i128::from(clock.ns) - i128::from(clock.timer_ns)
}

/// The clock, by the device's account.
pub(super) fn device(bench: &mut Bench) -> Result<NicClock, Failure> {
    Ok(bench.status()?.clock)
}

/// Does this. What the guest reads then lies between what the device says before and afterwards.
fn is_between(bench: &mut Bench, action: ClockAction) -> Result<NicClock, Failure> {
    reads_between(bench, &format!("{action:?}"), |bench| {
        match bench.vm.ask(&Request::Clock { path: CLOCK.into(), action })? {
            Reply::Time { ns } => Ok(ns),
            reply => Err(Failure::Unmet(format!("The agent answers {reply:?}"))),
        }
    })
}

/// What `read` reads in the guest lies between what the device says before and afterwards, its
/// offset and rate being those afterwards.
pub(super) fn reads_between(
    bench: &mut Bench,
    what: &str,
    read: impl FnOnce(&mut Bench) -> Result<i64, Failure>,
) -> Result<NicClock, Failure> {
    let before = device(bench)?;
    let ns = read(bench)?;
    let after = device(bench)?;
    let read = i128::from(ns) - offset(&after);
    // What it gains meanwhile is small against a second.
    let from = i128::from(before.timer_ns) - i128::from(SECOND);
    let to = i128::from(after.timer_ns);
    expect((from..=to).contains(&read), || {
        format!("After {what} the guest reads {ns} ns, and the device says {after:?}")
    })?;
    Ok(after)
}

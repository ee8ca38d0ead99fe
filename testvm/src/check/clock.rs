// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of the PTP hardware clock.

use guest_protocol::{ClockAction, Reply, Request};
use nix::libc::{EINVAL, ERANGE};
use tsnic_protocol::NicClock;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, expect_refused};

const CLOCK: &str = "/dev/ptp0";
/// Which driver's it is.
const NAME: &str = "/sys/class/ptp/ptp0/clock_name";
const SECOND: i64 = 1_000_000_000;
/// Where the clock is set to: 2001, and so far from the time since the host's boot.
const SET: i64 = 1_000_000_000 * SECOND;
const STEP: i64 = -3_600 * SECOND;
const RATE_PPB: i64 = 50_000;

/// Check: the guest reads, sets, steps and tunes `/dev/ptp0`, and the device's clock is that; what
/// cannot be is refused; the clock outlives the link and a reload of the driver; hardware timestamps
/// follow it; and RPCs go on as before, for timer time does not.
pub fn hardware(bench: &mut Bench) -> Result<String, Failure> {
    let name = bench.read(NAME)?;
    expect(name == "tsnic", || format!("{CLOCK} is the clock of {name:?}"))?;
    let first = device(bench)?;
    is_between(bench, ClockAction::Read)?;
    let traffic = bench.start_traffic()?;
    let set = is_between(bench, ClockAction::Set(SET))?;
    let since = i128::from(set.ns) - i128::from(SET);
    let longest = i128::from(set.timer_ns) - i128::from(first.timer_ns);
    expect((0..=longest).contains(&since), || {
        format!("The device's clock is {set:?} after it was set to {SET} ns, and was {first:?}")
    })?;
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
    is_between(bench, ClockAction::Rate(0))?;
    let now = device(bench)?;
    is_between(bench, ClockAction::Set(now.timer_ns.cast_signed()))?;
    let gained = (offset(&after) - offset(&unchanged)) / 1_000;
    Ok(format!("set, stepped, tuned ({gained} us gained at {RATE_PPB} ppb), {rpcs}"))
}

/// How far the NIC's clock is ahead of timer time, nanoseconds.
fn offset(clock: &NicClock) -> i128 {
    i128::from(clock.ns) - i128::from(clock.timer_ns)
}

fn device(bench: &mut Bench) -> Result<NicClock, Failure> {
    Ok(bench.status()?.clock)
}

/// Does this. What the guest reads then lies between what the device says before and afterwards,
/// its offset and rate being those afterwards.
fn is_between(bench: &mut Bench, action: ClockAction) -> Result<NicClock, Failure> {
    let before = device(bench)?;
    let reply = bench.vm.ask(&Request::Clock { path: CLOCK.into(), action })?;
    let Reply::Time { ns } = reply else {
        return Err(Failure::Unmet(format!("The agent answers {reply:?}")));
    };
    let after = device(bench)?;
    let read = i128::from(ns) - offset(&after);
    // What it gains meanwhile is small against a second.
    let from = i128::from(before.timer_ns) - i128::from(SECOND);
    let to = i128::from(after.timer_ns);
    expect((from..=to).contains(&read), || {
        format!("After {action:?} the guest reads {ns} ns, and the device says {after:?}")
    })?;
    Ok(after)
}

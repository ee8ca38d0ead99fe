// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of power management: the machine sleeps and the driver goes on.

use guest_protocol::Request;
use tsnic_protocol::Status;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};

const SLEEPS: usize = 3;
const SNAPSHOTS: usize = 3;
/// How often the machine has slept and woken.
const SLEPT: &str = "/sys/power/suspend_stats/success";
const MEM_SLEEP: &str = "/sys/power/mem_sleep";

/// Check: the machine is suspended to memory (S3) under traffic and woken by QMP. Each time the old
/// page is forgotten and registered again, hardware timestamps are still on, and the connection of
/// the RPCs lives.
pub fn to_memory(bench: &mut Bench) -> Result<String, Failure> {
    can_sleep(bench)?;
    let traffic = bench.start_traffic()?;
    for _ in 0..SLEEPS {
        let before = bench.status()?;
        let slept = bench.number(SLEPT)?;
        bench.vm.sleep_and_wake()?;
        let now = bench.number(SLEPT)?;
        expect(now == slept + 1, || {
            format!("{SLEPT} went from {slept} to {now}: the machine did not sleep")
        })?;
        registered_again(bench, &before)?;
        bench.stamped_rpcs(&traffic)?;
    }
    // Once more with the interface down, which it stays until it is raised.
    let rpcs = bench.end_traffic(traffic)?;
    bench.link_down()?;
    bench.vm.sleep_and_wake()?;
    let down = bench.status()?;
    bench.link_up()?;
    bench.wait("No arm after a sleep with the link down", |status| {
        status.page.is_some() && status.counters.arms > down.counters.arms
    })?;
    let traffic = bench.start_traffic()?;
    let rpcs_after = bench.end_traffic(traffic)?;
    restart(bench)?;
    Ok(format!("{SLEEPS} times, {rpcs}; once with the link down, {rpcs_after}"))
}

/// Has a sleep be one to memory.
pub fn can_sleep(bench: &mut Bench) -> Result<(), Failure> {
    if !bench.read(MEM_SLEEP).is_ok_and(|states| states.contains("deep")) {
        return Err(Failure::Skip("This kernel cannot suspend to memory".into()));
    }
    Ok(bench.vm.command(&Request::WriteFile { path: MEM_SLEEP.into(), value: "deep".into() })?)
}

/// Check: images of the machine's memory are made under traffic, as for hibernation. The driver
/// puts its device to rest (`freeze`) and wakes it again, by the function that is called when an
/// image is loaded, too (`restore`). No image is loaded here; the check `hibernate` does that.
pub fn snapshot(bench: &mut Bench) -> Result<String, Failure> {
    if bench.read("/sys/power/disk").is_ok_and(|modes| modes.contains("disabled")) {
        return Err(Failure::Skip("This kernel does not hibernate".into()));
    }
    let traffic = bench.start_traffic()?;
    for _ in 0..SNAPSHOTS {
        let before = bench.status()?;
        bench.vm.command(&Request::Snapshot)?;
        registered_again(bench, &before)?;
        bench.stamped_rpcs(&traffic)?;
    }
    let rpcs = bench.end_traffic(traffic)?;
    restart(bench)?;
    Ok(format!("{SNAPSHOTS} times, {rpcs}"))
}

/// Resets the machine. One that has slept here sometimes does not power off: Linux says "Power
/// down", and QEMU goes on.
pub(super) fn restart(bench: &mut Bench) -> Result<(), Failure> {
    bench.collect_log()?;
    Ok(bench.vm.reboot()?)
}

/// The page of `before` is forgotten and another one is in use and armed.
pub(super) fn registered_again(bench: &mut Bench, before: &Status) -> Result<(), Failure> {
    let after =
        bench.wait("The old page is not forgotten, or no new one is registered", |after| {
            let (now, then) = (&after.counters, &before.counters);
            let again = now.registrations > then.registrations
                && now.pages_forgotten > then.pages_forgotten;
            after.page.is_some() && again && now.arms > then.arms
        })?;
    expect(after.counters.queues_broken == before.counters.queues_broken, || {
        "The device found a broken queue".into()
    })
}

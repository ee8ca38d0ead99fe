// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of the PTP protocol between guest and host.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::clock::{SECOND, device, is_the_nics, offset, restore};
use super::servo::{self, LOCKED};
use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::scenario::guest::NIC;

const PROGRAM: &str = "ptp4l";
/// What the slave says when it has measured the delay of the path and found the master good.
const SLAVE: &str = "UNCALIBRATED to SLAVE";
/// Samples of a servo that is locked, and how many of them a figure is of.
const SAMPLES: usize = 24;
const LAST: usize = 12;
/// For master and slave to find each other, and for the samples after that.
const LIMIT: Duration = Duration::from_secs(40);
/// Longer than any packet takes to the wire under emulation, milliseconds.
const STAMP_LIMIT: &str = "--tx_timestamp_timeout=1000";
/// Eight samples a second, each of them shown.
const OFTEN: [&str; 2] = ["--logSyncInterval=-3", "--summary_interval=-4"];

/// Check: `ptp4l` in the guest, with hardware timestamps of both directions, is the slave of one on
/// the host, in raw frames and by UDP. Its servo locks, the device's clock runs at the rate it
/// wants, and shows the time of the host.
pub fn slave(bench: &mut Bench) -> Result<String, Failure> {
    is_the_nics(bench)?;
    let mut seen = Vec::new();
    for (transport, name) in [("-2", "raw frames"), ("-4", "UDP")] {
        seen.push(format!("{name}: {}", follow(bench, transport)?));
        restore(bench)?;
    }
    Ok(format!("slave and locked; {}", seen.join("; ")))
}

fn follow(bench: &mut Bench, transport: &str) -> Result<String, Failure> {
    let mut command = bench.tools()?.command(PROGRAM);
    // One that is not free running sets the frequency of the host's clock, if only to what it was.
    command.args(["-m", "-q", "-S", transport, "--free_running=1", "--masterOnly=1"]);
    command.args(["--uds_address=ptp4l", "--announceReceiptTimeout=2", "--logAnnounceInterval=-1"]);
    command.args(["-i", &bench.vm.link().tap, "--logMinDelayReqInterval=-3", STAMP_LIMIT]);
    command.args(OFTEN);
    let mut master = bench.vm.start_beside(PROGRAM, command)?;
    let args = ["-m", "-q", "-H", transport, "-s", "-i", NIC, "--uds_address=/tmp/ptp4l"];
    let args = [&args[..], &["--logAnnounceInterval=-1", STAMP_LIMIT], &OFTEN].concat();
    let followed = bench.tool_until(PROGRAM, &args, (LOCKED, SAMPLES), LIMIT);
    master.check("the guest is its slave")?;
    let said = followed?;
    expect(said.contains(SLAVE), || format!("{PROGRAM} never was a slave: {said}"))?;
    let samples = servo::samples(&said);
    let now = device(bench)?;
    servo::has_tuned(&samples, &now)?;
    // It showed the time since the host's boot before.
    let truth = offset(&now) - host_offset()?;
    expect(truth.abs() < SECOND.into(), || {
        format!("The clock is {truth:+} ns from the host's: {now:?}")
    })?;
    let (typical, rate) = (servo::typical_offset_ns(&samples, LAST), now.rate_ppb);
    Ok(format!("median offset {typical} ns, in truth {truth:+} ns, {rate} ppb"))
}

/// How far the host's `CLOCK_REALTIME` is ahead of its `CLOCK_MONOTONIC`, which is timer time.
fn host_offset() -> Result<i128, Failure> {
    let read = |clock| {
        let time = clock_gettime(clock).map_err(std::io::Error::from)?;
        Ok::<_, Failure>(
            i128::from(time.tv_sec()) * i128::from(SECOND) + i128::from(time.tv_nsec()),
        )
    };
    Ok(read(ClockId::CLOCK_REALTIME)? - read(ClockId::CLOCK_MONOTONIC)?)
}

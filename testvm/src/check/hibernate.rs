// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of hibernation, image and all: written by one QEMU, read by the next.

use super::shell::{PROMPT, Typist};
use super::suspend::{registered_again, restart};
use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};

const TIMES: usize = 2;
/// The disk, and its number for the kernel.
const DISK: &str = "/dev/nvme0n1";
const NUMBER: &str = "/sys/block/nvme0n1/dev";

/// Check: the machine hibernates under traffic and is resumed by another QEMU, whose kernel loads
/// the image. The device sees a front end that goes and another one that comes; the page is
/// registered again, hardware timestamps are still on, and the connection of the RPCs lives. Then
/// the same with the kernel's own driver, without traffic while it sleeps.
pub fn to_disk(bench: &mut Bench) -> Result<String, Failure> {
    if !bench.read("/sys/power/state").is_ok_and(|states| states.contains("disk")) {
        return Err(Failure::Skip("This kernel does not hibernate".into()));
    }
    let Ok(disk) = bench.read(NUMBER) else {
        return Err(Failure::Skip("This kernel has no driver for NVMe built in".into()));
    };
    let mut typist = Typist::start(bench)?;
    let swap = format!("mkswap {DISK} && swapon {DISK} && echo $((6 * 7))\r");
    typist.say(bench, swap.as_bytes(), &["42", PROMPT])?;
    drop(typist);
    let traffic = bench.start_traffic()?;
    for _ in 0..TIMES {
        let before = bench.status()?;
        resume(bench, &disk, "tsnic")?;
        registered_again(bench, &before)?;
        bench.stamped_rpcs(&traffic)?;
    }
    let rpcs = bench.end_traffic(traffic)?;
    let stock = match bench.use_stock_driver() {
        Ok(_) => {
            resume(bench, &disk, "virtio_net")?;
            let traffic = bench.start_traffic_of_any_driver()?;
            format!("; once with virtio_net, {}", bench.stop_traffic(traffic)?)
        }
        Err(Failure::Skip(_)) => String::new(),
        Err(failure) => return Err(failure),
    };
    restart(bench)?;
    Ok(format!("{TIMES} times, {rpcs}{stock}"))
}

/// Hibernates, and sees by `module` that what runs then is what ran before.
fn resume(bench: &mut Bench, disk: &str, module: &str) -> Result<(), Failure> {
    bench.vm.hibernate(disk)?;
    let resumed = bench.has_module(module)?;
    expect(resumed, || format!("{module} is not loaded: the kernel booted and found no image"))
}

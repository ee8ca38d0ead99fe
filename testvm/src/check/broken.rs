// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of a device that breaks virtio's rules: it gives back what it was not given.

use guest_protocol::Request;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::scenario::guest::NIC;

const CARRIER: &str = "/sys/class/net/eth0/carrier";

/// Check: the receive queue breaks.
pub fn receive(bench: &mut Bench) -> Result<String, Failure> {
    broken(bench, "rx", "The receive queue is broken")
}

/// Check: the transmit queue breaks.
pub fn transmit(bench: &mut Bench) -> Result<String, Failure> {
    broken(bench, "tx", "The transmit queue is broken")
}

/// A module puts the entry into the used ring in place of the device. The driver says so, takes the
/// carrier away, and all goes on with the new queues that come when it is loaded again.
fn broken(bench: &mut Bench, queue: &str, message: &str) -> Result<String, Failure> {
    let link = bench.vm.link();
    let frame = [&link.host_mac[..], &link.guest_mac, &[0x88, 0xb5], &[0; 60]].concat();
    bench.collect_log()?;
    bench.vm.command(&Request::InsertModule {
        path: bench.files().forgeused.clone(),
        params: format!("queue={queue}"),
    })?;
    // The transmit queue is found broken by the next frame.
    bench.vm.command(&Request::SendFrame { name: NIC.into(), frame })?;
    bench.wait_file(CARRIER, |carrier| carrier == 0)?;
    let said = bench.collect_log_but(message)?;
    expect(said.iter().any(|line| line.contains(message)), || {
        format!("The driver has not said: {message}")
    })?;
    bench.unload("tsnic_forgeused")?;
    bench.unload("tsnic")?;
    bench.load_driver()?;
    bench.baseline()?;
    let traffic = bench.start_traffic()?;
    Ok(format!("told of, carrier off; loaded again, {}", bench.end_traffic(traffic)?))
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of a device whose TAP interface goes away.

use guest_protocol::Request;
use tsnic_protocol::PortState;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::scenario::guest::NIC;

const DELETIONS: usize = 3;
/// Frames that the guest sends while there is no interface.
const FRAMES: u64 = 10;
const CARRIER_LOST: &str = "/sys/class/net/eth0/carrier_down_count";

/// Check: the TAP interface is deleted under the running device and made again. Meanwhile the
/// device says so, and counts what the guest sends; the guest keeps its link. Afterwards traffic
/// goes both ways, through the same shared queue page.
pub fn deleted(bench: &mut Bench) -> Result<String, Failure> {
    let link = bench.vm.link().clone();
    let frame = [&link.host_mac[..], &link.guest_mac, &[0x88, 0xb5], &[0; 60]].concat();
    let carrier_lost = bench.number(CARRIER_LOST)?;
    let mut seen = String::new();
    for _ in 0..DELETIONS {
        let before = bench.status()?;
        expect(before.port == PortState::Attached, || format!("The port is {:?}", before.port))?;
        link.delete()?;
        let gone = bench.wait("The device does not say that its interface is gone", |now| {
            matches!(now.port, PortState::Detached { .. })
        })?;
        for _ in 0..FRAMES {
            bench.vm.command(&Request::SendFrame { name: NIC.into(), frame: frame.clone() })?;
        }
        let lost = gone.counters.tx_port_errors + FRAMES;
        let counted = bench.wait("The frames that nobody took are not counted", |now| {
            now.counters.tx_port_errors >= lost
        })?;
        let times = counted.counters.port_detached - before.counters.port_detached;
        expect(times == 1, || format!("The interface is counted as gone {times} times"))?;
        link.recreate()?;
        let back = bench.wait("The device does not attach to the interface again", |now| {
            now.port == PortState::Attached
        })?;
        expect(back.page == before.page, || {
            format!("The page was {:?} and is {:?}", before.page, back.page)
        })?;
        let traffic = bench.start_traffic()?;
        seen = bench.end_traffic(traffic)?;
    }
    let now = bench.number(CARRIER_LOST)?;
    expect(now == carrier_lost, || {
        format!("The guest lost the link {} times", now - carrier_lost)
    })?;
    Ok(format!("{DELETIONS} times, {FRAMES} frames counted each time; the last time {seen}"))
}

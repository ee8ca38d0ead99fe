// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of an interface that is down while frames come, and of one whose device takes none.

use std::net::UdpSocket;

use guest_protocol::Request;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::scenario::guest::NIC;

/// How often the stack found that the transmit queue had been stopped for too long.
const TIMEOUTS: &str = "/sys/class/net/eth0/queues/tx-0/tx_timeout";
/// More than the transmit ring takes, however large it is: QEMU's choice, 256 entries in 10.0.2 and
/// 1024 in 10.0.13, and the driver has no more frames under way than the page has records.
const FRAMES: u16 = tsnic_abi::TX_RECORDS + 44;
/// What the stack says then.
const WATCHDOG: &str = "NETDEV WATCHDOG";

const CYCLES: u64 = 3;
/// UDP ports of the datagrams.
const PORTS: (u16, u16) = (7004, 7005);
/// Datagrams while the interface is down, and after it is up again. The ring has buffers for all of
/// them.
const DOWN: u64 = 40;
const UP: u64 = 20;

/// Check: the device cannot be told that the interface is down, and fills the ring with frames that
/// it stamps then. When the interface goes up they are discarded, and those that come later arrive.
pub fn discarded(bench: &mut Bench) -> Result<String, Failure> {
    let (host, guest) = (bench.vm.link().host_ip, bench.vm.link().guest_ip);
    let socket = UdpSocket::bind((host, PORTS.0))?;
    socket.connect((guest, PORTS.1))?;
    let send = |count: u64| (0..count).try_for_each(|_| socket.send(b"counted").map(drop));
    bench.vm.command(&Request::ReceiverStart {
        local: (guest, PORTS.1),
        peer: (host, PORTS.0),
        busy_poll_us: 0,
        cpu: 1,
    })?;
    for _ in 0..CYCLES {
        bench.link_down()?;
        let before = bench.status()?;
        send(DOWN)?;
        bench.wait(
            "The device has not put the frames into the ring of the interface that is down",
            |now| now.counters.rx_frames >= before.counters.rx_frames + DOWN,
        )?;
        bench.link_up()?;
        send(UP)?;
    }
    // What was sent before these has arrived when they are answered.
    let traffic = bench.start_rpcs()?;
    let rpcs = bench.end_traffic(traffic)?;
    let received = bench.vm.count(&Request::ReceiverStop)?;
    expect(received == UP * CYCLES, || {
        format!(
            "{} datagrams were sent while up and {} while down; {received} arrived",
            UP * CYCLES,
            DOWN * CYCLES
        )
    })?;
    Ok(format!("{} datagrams arrived, {} did not, {rpcs}", UP * CYCLES, DOWN * CYCLES))
}

/// Check: the device hangs with a full transmit ring. The stack's watchdog finds it, the driver
/// says so, and all goes on when the device does.
pub fn transmit_timeout(bench: &mut Bench) -> Result<String, Failure> {
    let before = bench.number(TIMEOUTS)?;
    let link = bench.vm.link();
    let frame = [&link.host_mac[..], &link.guest_mac, &[0x88, 0xb5], &[0; 60]].concat();
    bench.vm.hold_device()?;
    for _ in 0..FRAMES {
        bench.vm.command(&Request::SendFrame { name: NIC.into(), frame: frame.clone() })?;
    }
    bench.wait_file(TIMEOUTS, |found| found > before)?;
    bench.vm.release_device()?;
    let said = bench.collect_log_but(WATCHDOG)?;
    expect(said.iter().any(|line| line.contains("transmit ring is full")), || {
        format!("The driver has not said that its transmit ring is full: {said:?}")
    })?;
    let traffic = bench.start_traffic()?;
    Ok(format!("found and told of, then {}", bench.end_traffic(traffic)?))
}

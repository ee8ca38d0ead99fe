// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of what happens to the machine as a whole: stopped, reset.

use std::net::UdpSocket;
use std::time::Duration;

use guest_protocol::Request;
use serde_json::json;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, unchanged};
use crate::bench::traffic::Flood;

const STOPS: usize = 4;
/// How long the machine stands still.
const STANDSTILL: Duration = Duration::from_millis(150);
/// UDP ports of the datagrams that are counted.
const COUNTED_PORTS: (u16, u16) = (7002, 7003);
/// Datagrams before, during and after each standstill. The wire holds 500 frames that nobody takes.
const DATAGRAMS: [u64; 3] = [20, 40, 20];

/// Check: the machine is stopped and goes on. The device keeps the page, for nobody in the guest
/// would know; nothing is lost, on TCP or UDP.
pub fn stop_cont(bench: &mut Bench) -> Result<String, Failure> {
    let (host, guest) = (bench.vm.link().host_ip, bench.vm.link().guest_ip);
    let socket = UdpSocket::bind((host, COUNTED_PORTS.0))?;
    socket.connect((guest, COUNTED_PORTS.1))?;
    bench.vm.command(&Request::ReceiverStart {
        local: (guest, COUNTED_PORTS.1),
        peer: (host, COUNTED_PORTS.0),
        busy_poll_us: 0,
        cpu: 1,
    })?;
    let send = |count: u64| (0..count).try_for_each(|_| socket.send(b"counted").map(drop));
    // Without the flood, which could fill the wire while nobody reads it.
    let traffic = bench.start_rpcs()?;
    let before = bench.status()?;
    let [first, during, last] = DATAGRAMS;
    for _ in 0..STOPS {
        send(first)?;
        bench.vm.qmp("stop", &json!({}))?;
        bench.wait("The queues run though the machine is stopped", |status| !status.running)?;
        send(during)?;
        std::thread::sleep(STANDSTILL);
        let stopped = bench.status()?;
        expect(stopped.page == before.page, || {
            format!("The page of a stopped machine is {:?}", stopped.page)
        })?;
        bench.vm.qmp("cont", &json!({}))?;
        bench.wait("The queues do not run again", |status| status.running)?;
        send(last)?;
        bench.stamped_rpcs(&traffic)?;
    }
    let after = bench.status()?;
    expect(after.page == before.page, || {
        format!("The page went from {:?} to {:?}", before.page, after.page)
    })?;
    unchanged!(
        before,
        after,
        registrations,
        pages_forgotten,
        connections,
        rx_not_running,
        queues_broken
    );
    let rpcs = bench.end_traffic(traffic)?;
    let received = bench.vm.count(&Request::ReceiverStop)?;
    let expected = (first + during + last) * STOPS as u64;
    expect(received == expected, || format!("{expected} datagrams were sent, {received} arrived"))?;
    Ok(format!(
        "{STOPS} times, page {} kept, {expected} datagrams and none lost, {rpcs}",
        after.page.unwrap_or(0)
    ))
}

/// Check: after a reset of the machine, with frames on the wire all the time, the old page is
/// forgotten and a new one handed over.
pub fn reboot(bench: &mut Bench) -> Result<String, Failure> {
    let flood = Flood::start(bench.vm.link())?;
    let before = bench.status()?;
    bench.collect_log()?;
    bench.vm.reboot()?;
    let down = bench.status()?;
    expect(!down.running, || "The queues run after a reset, without a driver".into())?;
    expect(down.counters.queues_broken == before.counters.queues_broken, || {
        "The device took leftovers for a broken queue".into()
    })?;
    bench.baseline()?;
    let after =
        bench.wait("The old page is not forgotten, or no new one handed over", |after| {
            let (now, then) = (&after.counters, &before.counters);
            after.page.is_some()
                && now.registrations > then.registrations
                && now.pages_forgotten > then.pages_forgotten
        })?;
    expect(after.counters.connections == before.counters.connections, || {
        "QEMU connected to the device anew: that was no reset".into()
    })?;
    let traffic = bench.start_traffic()?;
    let seen = bench.end_traffic(traffic)?;
    Ok(format!("{seen}, {} datagrams meanwhile", flood.sent()))
}

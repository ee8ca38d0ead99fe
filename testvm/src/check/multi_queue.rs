// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of several queue pairs.

use std::net::{Ipv4Addr, UdpSocket};

use guest_protocol::{Channels, Reply, Request};

use super::QUEUE_PAIRS;
use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};
use crate::bench::traffic::Traffic;
use crate::scenario::guest::NIC;

/// Flows, each of one datagram: the host's kernel spreads them over the queues in use by a hash.
const FLOWS: usize = 64;
/// Where nobody listens.
const PORT: u16 = 9;
/// RPCs that go by meanwhile.
const RPCS: u64 = 50;

/// Received frames of each queue pair.
type Received = [u64; QUEUE_PAIRS as usize];

/// Check: with the kernel's own driver flows come in on both queue pairs, on the first alone after
/// `ethtool -L combined 1`, and on both again; then tsnic.ko, which has one, gets all of them on the
/// first. The interface of the host has two queues all the time, and a queue that nobody serves
/// would swallow its flows.
pub fn channels(bench: &mut Bench) -> Result<String, Failure> {
    let stock = bench.use_stock_driver()?;
    expect(stock.pairs == u16::from(QUEUE_PAIRS), || {
        format!("The device has {} pairs", stock.pairs)
    })?;
    let traffic = bench.start_traffic_of_any_driver()?;
    are(bench, QUEUE_PAIRS.into(), "at first")?;
    let spread = flows(bench, &traffic)?;
    on_all(spread, "at first")?;
    set(bench, 1)?;
    only_on_the_first(bench, &traffic, "after ethtool -L combined 1")?;
    set(bench, QUEUE_PAIRS.into())?;
    on_all(flows(bench, &traffic)?, "after ethtool -L combined 2")?;
    let rpcs = bench.stop_traffic(traffic)?;
    bench.unload_stock_driver()?;
    bench.load_driver()?;
    bench.link_up()?;
    let traffic = bench.start_traffic()?;
    only_on_the_first(bench, &traffic, "with tsnic.ko")?;
    let ours = bench.end_traffic(traffic)?;
    Ok(format!("virtio_net received {spread:?} of the pairs, {rpcs}; tsnic.ko: {ours}"))
}

/// The pair goes on receiving all of a round of flows, and the others nothing.
fn only_on_the_first(bench: &mut Bench, traffic: &Traffic, when: &str) -> Result<(), Failure> {
    // What came for the others before the device had seen the change is over with this round.
    flows(bench, traffic)?;
    let [first, others @ ..] = flows(bench, traffic)?;
    expect(others.iter().all(|frames| *frames == 0), || {
        format!("{when} other pairs than the first received {others:?} frames")
    })?;
    expect(first >= FLOWS as u64, || {
        format!("{when} {first} frames were received for a round of {FLOWS} flows")
    })
}

fn on_all(received: Received, when: &str) -> Result<(), Failure> {
    expect(received.iter().all(|frames| *frames != 0), || {
        format!("Frames of {FLOWS} flows {when}, by queue pair: {received:?}")
    })
}

/// Sends a datagram of each flow, and lets some RPCs go by. What was received meanwhile.
fn flows(bench: &mut Bench, traffic: &Traffic) -> Result<Received, Failure> {
    let before = received(bench)?;
    let to = (bench.vm.link().guest_ip, PORT);
    for _ in 0..FLOWS {
        let sent = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.send_to(b"flow", to));
        sent.map_err(|error| Failure::Unmet(format!("Cannot send a datagram: {error}")))?;
    }
    let wanted = traffic.replies().all() + RPCS;
    bench.replies(traffic, |now| now.all() >= wanted)?;
    let after = received(bench)?;
    Ok(std::array::from_fn(|pair| after[pair] - before[pair]))
}

fn received(bench: &mut Bench) -> Result<Received, Failure> {
    let mut received = Received::default();
    for (pair, frames) in (0..).zip(&mut received) {
        *frames = bench.pair_status(pair)?.counters.rx_frames;
    }
    Ok(received)
}

fn set(bench: &mut Bench, combined: u32) -> Result<(), Failure> {
    bench.vm.command(&Request::SetChannels { name: NIC.into(), combined })?;
    are(bench, combined, "after it was set")
}

fn are(bench: &mut Bench, combined: u32, when: &str) -> Result<(), Failure> {
    let expected = Channels { combined, max: QUEUE_PAIRS.into() };
    match bench.vm.ask(&Request::Channels { name: NIC.into() })? {
        Reply::Channels(found) => expect(found == expected, || {
            format!("ethtool -l says {found:?} {when}, not {expected:?}")
        }),
        other => Err(Failure::Unmet(format!("The agent answers {other:?}"))),
    }
}

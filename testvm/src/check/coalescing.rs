// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of what ethtool asks of the device, by the mailbox.

use guest_protocol::{Coalescing, Reply, Request};
use nix::libc::ERANGE;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, expect_refused};
use crate::bench::traffic::Traffic;
use crate::scenario::guest::NIC;

/// Packets that an interrupt stands for at least.
const FRAMES: u32 = 16;
/// Longer than as many packets of the flood take, so that none comes because of the time.
const USECS: u32 = 1_000_000;
/// RPCs over which interrupts are counted.
const RPCS: u64 = 50;

/// Check: `ethtool -C` is in force at once, and `ethtool -c` says so; what cannot be is refused.
pub fn ethtool(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    let off = Coalescing::default();
    is(bench, off, "at first")?;
    let (frames, often) = counted(bench, &traffic)?;
    expect(often * u64::from(FRAMES) > frames, || {
        format!("Not moderated there were {often} interrupts for {frames} packets: too few to tell")
    })?;
    let on = Coalescing { rx_usecs: USECS, rx_frames: FRAMES, tx_usecs: 50, tx_frames: 4, ..off };
    set(bench, on)?;
    is(bench, on, "after it was set")?;
    let (frames, seldom) = counted(bench, &traffic)?;
    // The first one may have been due before, and the last one covers packets counted later.
    expect(seldom.saturating_sub(2) * u64::from(FRAMES) <= frames, || {
        format!("With rx-frames {FRAMES} there were {seldom} interrupts for {frames} packets")
    })?;
    let long = Coalescing { rx_usecs: USECS + 1, ..on };
    let refused = bench.vm.command(&Request::SetCoalescing { name: NIC.into(), coalescing: long });
    expect_refused(refused, "rx-usecs 1000001", ERANGE)?;
    is(bench, on, "after a refusal")?;
    // The device chooses no limits as long as these, and starts from none.
    let adaptive = Coalescing { adaptive_rx: true, adaptive_tx: true, ..on };
    set(bench, adaptive)?;
    is(bench, adaptive, "after adaptive was set")?;
    let told = bench.status()?.moderation;
    expect(told.len() == 2 && told.iter().all(|it| it.adaptive && it.usecs < on.tx_usecs), || {
        format!("The device says {told:?} of adaptive moderation")
    })?;
    let (frames, by_itself) = counted(bench, &traffic)?;
    expect(by_itself * u64::from(FRAMES) > frames, || {
        format!("Adaptive, there were {by_itself} interrupts for {frames} packets: it is not on")
    })?;
    bench.link_down()?;
    set(bench, off)?;
    is(bench, off, "while the link is down")?;
    bench.link_up()?;
    let text = bench.end_traffic(traffic)?;
    Ok(format!(
        "{often} interrupts without, {seldom} with rx-frames {FRAMES}, {by_itself} adaptive, {text}"
    ))
}

/// Packets received over some RPCs, and the interrupts for them.
fn counted(bench: &mut Bench, traffic: &Traffic) -> Result<(u64, u64), Failure> {
    let before = bench.status()?.counters;
    let wanted = traffic.replies().all() + RPCS;
    bench.replies(traffic, |now| now.all() >= wanted)?;
    let after = bench.status()?.counters;
    Ok((after.rx_frames - before.rx_frames, after.rx_interrupts - before.rx_interrupts))
}

fn set(bench: &mut Bench, coalescing: Coalescing) -> Result<(), Failure> {
    Ok(bench.vm.command(&Request::SetCoalescing { name: NIC.into(), coalescing })?)
}

fn is(bench: &mut Bench, expected: Coalescing, when: &str) -> Result<(), Failure> {
    match bench.vm.ask(&Request::Coalescing { name: NIC.into() })? {
        Reply::Coalescing(found) => expect(found == expected, || {
            format!("ethtool -c says {found:?} {when}, not {expected:?}")
        }),
        other => Err(Failure::Unmet(format!("The agent answers {other:?}"))),
    }
}

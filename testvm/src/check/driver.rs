// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of the driver's life: loaded, unloaded, up, down, replaced, imitated.

use std::time::Duration;

use guest_protocol::Request;
use nix::libc::{EBUSY, EINVAL};
use tsnic_abi::{Counter, Registration};
use zerocopy::IntoBytes as _;

use super::listener::Listener;
use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, expect_refused, unchanged};
use crate::scenario::error::state;
use crate::scenario::guest::{IRQ_MODE, NIC};

const RELOADS: usize = 4;
const LINK_CYCLES: usize = 5;
const STOCK_RPCS: u64 = 20;
/// Frames of RPCs that are on their way at one time: more than there are with one at a time.
const IN_FRONT: u64 = 16;
/// Under this traffic a poll, and so an arm, comes every few hundred microseconds.
const NO_ARM: Duration = Duration::from_millis(30);

/// Check: the module goes and comes back under traffic, each time with a new page.
pub fn reload(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    for _ in 0..RELOADS {
        let before = bench.status()?;
        bench.unload("tsnic")?;
        // That the page is gone the device learns when the queues start anew: until then this is
        // also what a stopped machine looks like, which keeps its page.
        bench.wait("The queues are not stopped after rmmod", |status| !status.running)?;
        bench.load_driver()?;
        bench.link_up()?;
        bench.wait("The old page is not forgotten, or no new one handed over", |after| {
            let (now, then) = (&after.counters, &before.counters);
            after.page.is_some()
                && now.registrations > then.registrations
                && now.pages_forgotten > then.pages_forgotten
        })?;
        bench.stamped_rpcs(&traffic)?;
    }
    Ok(format!("{RELOADS} times, {}", bench.end_traffic(traffic)?))
}

/// Check: the interface goes down and up under traffic. While it is down the driver leaves the
/// device alone.
pub fn link(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    for _ in 0..LINK_CYCLES {
        bench.link_down()?;
        let down = bench.status()?;
        std::thread::sleep(NO_ARM);
        let still = bench.status()?;
        let arms = |status: &tsnic_protocol::Status| status.counters.arms;
        expect(arms(&still) == arms(&down), || {
            format!("The driver armed {} times while the link was down", arms(&still) - arms(&down))
        })?;
        bench.link_up()?;
        bench.wait("No page after the link came up", |status| {
            status.page.is_some() && arms(status) > arms(&still)
        })?;
        bench.stamped_rpcs(&traffic)?;
    }
    Ok(format!("{LINK_CYCLES} times, {}", bench.end_traffic(traffic)?))
}

/// Check: the interrupt mode is refused while the link is up, accepted while it is down; nonsense
/// is refused always.
pub fn irq_mode(bench: &mut Bench) -> Result<String, Failure> {
    let write = |bench: &mut Bench, value: &str| {
        bench.vm.command(&Request::WriteFile { path: IRQ_MODE.into(), value: value.into() })
    };
    let is = |bench: &mut Bench, mode: &str, when: &str| {
        let found = bench.read(IRQ_MODE)?;
        expect(found == mode, || format!("The mode {when} is {found:?}, not {mode:?}"))
    };
    is(bench, "v4_11", "at first")?;
    expect_refused(write(bench, "v4_10"), "\"v4_10\" while the link was up", EBUSY)?;
    expect_refused(write(bench, "nonsense"), "\"nonsense\" while the link was up", EINVAL)?;
    is(bench, "v4_11", "after two refusals")?;
    bench.link_down()?;
    write(bench, "v4_10")?;
    is(bench, "v4_10", "after it was set")?;
    for nonsense in ["nonsense", "v4_101", "v4_11\nv4_10"] {
        expect_refused(
            write(bench, nonsense),
            &format!("{nonsense:?} while the link was down"),
            EINVAL,
        )?;
    }
    is(bench, "v4_10", "after nonsense")?;
    bench.link_up()?;
    expect_refused(write(bench, "v4_11"), "\"v4_11\" while the link was up", EBUSY)?;
    bench.link_down()?;
    write(bench, "v4_11")?;
    bench.link_up()?;
    let traffic = bench.start_traffic()?;
    bench.end_traffic(traffic)?;
    Ok("refused while up, accepted while down, nonsense never".into())
}

/// Check: the kernel's own driver takes over and finds a plain virtio-net device; then ours comes
/// back. One TCP connection lives through all.
pub fn stock(bench: &mut Bench) -> Result<String, Failure> {
    // Without the flood, behind which frames would have to be looked for.
    let traffic = bench.start_rpcs()?;
    let before = bench.status()?;
    let stocked = bench.use_stock_driver()?;
    expect(stocked.counters.pages_forgotten > before.counters.pages_forgotten, || {
        "The device did not count the forgotten page".into()
    })?;
    let then = traffic.replies();
    let with_stock = bench.replies(&traffic, |now| now.plain >= then.plain + STOCK_RPCS)?;
    // The reply to a request that our driver received may have gone out with the other: there is
    // one at most.
    let stamped = with_stock.stamped - then.stamped;
    expect(stamped <= 1, || {
        format!("{stamped} RPCs had hardware timestamps, which virtio_net does not give")
    })?;
    send_forged_frames(bench, IN_FRONT)?;
    let still = bench.status()?;
    expect(
        still.page.is_none() && still.counters.registrations == before.counters.registrations,
        || format!("The device has a page with the kernel's driver: {}", state(&still)),
    )?;
    bench.unload_stock_driver()?;
    bench.load_driver()?;
    bench.link_up()?;
    bench.stamped_rpcs(&traffic)?;
    bench.wait("Our driver is back without a page", |status| status.page.is_some())?;
    Ok(format!("there and back, {}", bench.end_traffic(traffic)?))
}

/// Check: a program with a raw socket cannot say what the driver says on its transmit queue.
pub fn forged(bench: &mut Bench) -> Result<String, Failure> {
    let before = bench.status()?;
    let sent = send_forged_frames(bench, 0)?;
    let after = bench.status()?;
    unchanged!(
        before,
        after,
        registrations,
        registrations_refused,
        pages_forgotten,
        tx_malformed,
        queues_broken
    );
    expect(after.page == before.page, || {
        format!("The page went from {:?} to {:?}", before.page, after.page)
    })?;
    let traffic = bench.start_traffic()?;
    bench.end_traffic(traffic)?;
    Ok(format!("{sent} frames came out as they went in"))
}

/// Sends frames with a good registration header: as the frame itself, and as its payload, alone and
/// with much behind it. They all come out of the wire as they are; their number. At most `in_front`
/// frames are on their way when one is sent, and none overtakes another.
fn send_forged_frames(bench: &mut Bench, in_front: u64) -> Result<u64, Failure> {
    let mut listener = Listener::open()?;
    let header = Registration::new(0, 0xF00D, Counter(0), Counter(0), Counter(0));
    let link = bench.vm.link();
    let addressed =
        [&link.host_mac[..], &link.guest_mac, &[0x88, 0xb5], header.as_bytes()].concat();
    let padded = [&addressed[..], &[0; 1400]].concat();
    let frames = [header.as_bytes().to_vec(), addressed, padded];
    for frame in &frames {
        let then = bench.status()?.counters;
        bench.vm.command(&Request::SendFrame { name: NIC.into(), frame: frame.clone() })?;
        if let Err(failure) = listener.hear(frame, |usual| bench.vm.limit(usual)) {
            let Failure::Late(text) = failure else { return Err(failure) };
            let now = bench.status()?.counters;
            // The device has taken something from the ring, which was to be the frame.
            let taken =
                now.tx_frames > then.tx_frames + in_front || now.tx_malformed > then.tx_malformed;
            // It may have done so when the time to hear it was over.
            if taken && listener.hear(frame, |usual| bench.vm.limit(usual)).is_ok() {
                continue;
            }
            let failure = if taken { Failure::Unmet } else { Failure::Late };
            return Err(failure(format!(
                "{text}; the device counted tx_frames {}, tx_malformed {}, tx_port_errors {}",
                now.tx_frames - then.tx_frames,
                now.tx_malformed - then.tx_malformed,
                now.tx_port_errors - then.tx_port_errors
            )));
        }
    }
    Ok(frames.len() as u64)
}

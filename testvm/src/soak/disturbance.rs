// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens to a guest in a soak: nothing that a driver may not survive.

use std::time::Duration;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;
use serde_json::json;
use tsnic_protocol::plan::Driver;

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, expect_answered};
use crate::bench::traffic::{Traffic, ask_in_vain};
use crate::check::suspend;
use crate::scenario::guest;
use crate::stream;
use guest_protocol::{Request, icmp};

/// Bytes of a stream, each way, and the port it goes to.
const STREAM_BYTES: u64 = 20_000_000;
const STREAM_PORT: u16 = 7100;
/// A stream that takes longer comes to no verdict.
const STREAM_LIMIT: Duration = Duration::from_secs(60);
/// Echo requests of a ping flood.
const PINGS: u16 = 2_000;
/// For the guest to refuse a connection.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);
/// How long a link is down at most, ms.
const DOWN_MS: u64 = 300;
/// How long a machine is stopped at most, ms: more than the detector's time.
const STOPPED_MS: u64 = 2_500;
/// RPCs that show that the guest has come through it.
const RPCS: u64 = 50;

/// Something that happens to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// TCP streams at full speed, into the guest and out of it.
    Streams,
    /// Echo requests one after another, as `ping -f` sends them.
    PingFlood,
    /// `ip link set down`, then up.
    Link,
    /// QEMU's `set_link`: the carrier goes and comes back.
    Carrier,
    /// The machine is stopped (QMP `stop`) and goes on.
    Stop,
    /// The machine sleeps (S3) and is woken.
    Suspend,
    /// The driver's module is unloaded and loaded.
    Reload,
    /// No traffic.
    Silence,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Streams,
        Self::PingFlood,
        Self::Link,
        Self::Carrier,
        Self::Stop,
        Self::Suspend,
        Self::Reload,
        Self::Silence,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::PingFlood => "ping-flood",
            Self::Link => "link",
            Self::Carrier => "carrier",
            Self::Stop => "stop",
            Self::Suspend => "suspend",
            Self::Reload => "reload",
            Self::Silence => "silence",
        }
    }

    /// Has it happen to the guest under RPCs and a flood, which go on afterwards; RPCs that were
    /// answered. All RPCs are over one TCP connection.
    ///
    /// The kernel's own driver sleeps without traffic, unless `sleep_under_traffic`: it transmits
    /// on queues that it has freed, and the kernel crashes (docs/findings.md).
    ///
    /// # Errors
    /// What is wrong, or why it could not be done.
    pub fn happen(
        self,
        bench: &mut Bench,
        driver: Driver,
        sleep_under_traffic: bool,
        rng: &mut Pcg64Mcg,
    ) -> Result<u64, Failure> {
        let mut traffic = bench.start_traffic_of_any_driver()?;
        match self {
            Self::Streams => {
                streams(bench)?;
            }
            Self::PingFlood => {
                let patience = bench.vm.limit(icmp::PATIENCE);
                let pings = icmp::ping(bench.vm.link().guest_ip, PINGS, patience)?;
                expect_answered(PINGS, &[("the host's", pings)])?;
            }
            Self::Link => {
                bench.link_down()?;
                pause(rng, DOWN_MS);
                raise(bench, driver)?;
            }
            Self::Carrier => {
                carrier(bench, false)?;
                pause(rng, DOWN_MS);
                carrier(bench, true)?;
            }
            Self::Stop => {
                bench.vm.qmp("stop", &json!({}))?;
                pause(rng, STOPPED_MS);
                bench.vm.qmp("cont", &json!({}))?;
            }
            Self::Suspend => {
                suspend::can_sleep(bench)?;
                if driver == Driver::VirtioNet && !sleep_under_traffic {
                    end(bench, traffic)?;
                    bench.vm.sleep_and_wake()?;
                    traffic = bench.start_traffic_of_any_driver()?;
                } else {
                    bench.vm.sleep_and_wake()?;
                }
            }
            Self::Reload => reload(bench, driver)?,
            Self::Silence => return silence(bench, traffic, rng),
        }
        let then = traffic.replies().all();
        bench.replies(&traffic, |now| now.all() >= then + RPCS)?;
        end(bench, traffic)
    }
}

fn streams(bench: &mut Bench) -> Result<(), Failure> {
    for (way, came) in [
        ("into", stream::inwards(&mut bench.vm, STREAM_PORT, STREAM_BYTES, STREAM_LIMIT, |it| it)?),
        ("out of", stream::outwards(&mut bench.vm, STREAM_PORT, STREAM_BYTES, STREAM_LIMIT)?),
    ] {
        expect(came == STREAM_BYTES, || {
            format!("Of {STREAM_BYTES} bytes {way} the guest {came} came")
        })?;
    }
    Ok(())
}

/// The traffic ends, and nothing is sent for a while, but for a last refusal of the guest, whose
/// transmission nothing follows.
fn silence(bench: &mut Bench, traffic: Traffic, rng: &mut Pcg64Mcg) -> Result<u64, Failure> {
    let rpcs = end(bench, traffic)?;
    ask_in_vain(bench.vm.link(), bench.vm.limit(REFUSAL_LIMIT));
    pause(rng, STOPPED_MS);
    Ok(rpcs)
}

fn end(bench: &mut Bench, traffic: Traffic) -> Result<u64, Failure> {
    let rpcs = traffic.replies().all();
    bench.stop_traffic(traffic)?;
    Ok(rpcs)
}

fn pause(rng: &mut Pcg64Mcg, most_ms: u64) {
    std::thread::sleep(Duration::from_millis(rng.random_range(0..=most_ms)));
}

fn carrier(bench: &mut Bench, up: bool) -> Result<(), Failure> {
    Ok(bench.vm.qmp("set_link", &json!({ "name": "net", "up": up })).map(drop)?)
}

fn reload(bench: &mut Bench, driver: Driver) -> Result<(), Failure> {
    if driver == Driver::VirtioNet {
        bench.unload_stock_driver()?;
        return bench.load_stock_driver();
    }
    bench.unload("tsnic")?;
    bench.load_driver()?;
    bench.set_mode(driver)?;
    raise(bench, driver)
}

fn raise(bench: &mut Bench, driver: Driver) -> Result<(), Failure> {
    if driver == Driver::VirtioNet {
        let up: Request = guest::raise(bench.vm.link());
        return Ok(bench.vm.command(&up)?);
    }
    bench.link_up()
}

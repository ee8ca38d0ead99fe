// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of a backend that dies, hangs or grows.

use std::time::Duration;

use guest_protocol::Request;
use tsnic_protocol::{InjectionSpec, Request as DeviceRequest, Stimulus};

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect, unchanged};
use crate::scenario::guest::{self, insert};
use crate::vm;

const KILLS: usize = 3;
/// How often the rendezvous is arranged at most.
const TRIES: u32 = 30;
/// Longer than it takes to see that a stimulus was sent and to hold the backend.
const LONG_BUSY_POLL_US: u32 = 40_000;
/// Looks for a poll at the rendezvous, and the time between two: longer than the busy polling. The
/// module's bound is 500 ms.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(2);
/// How long the backend hangs: until everything on its way has come, and then some.
const HANG: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];
/// Largest resident private memory of the backend, KiB.
const MEMORY_KIB: u64 = 32 * 1024;
/// More rounds than are ever played.
const ROUNDS: u32 = 10_000;
const STUCK_US: (u32, u32) = (1_000, 2_000);
/// The processors of the poll and of the agent, when they must not be in each other's way.
const POLL_CPU: usize = 1;
const AGENT_CPU: usize = 0;
/// The interrupt of the agent's serial port, as /proc/interrupts has it.
const AGENT_IRQ: &str = "ttyS1";

const CARRIER: &str = "/sys/class/net/eth0/carrier";
const CARRIER_LOST: &str = "/sys/class/net/eth0/carrier_down_count";
const ARRIVED: &str = "/sys/module/tsnic_rendezvous/parameters/arrived";
const RELEASED: &str = "/sys/module/tsnic_rendezvous/parameters/released";
const GAVE_UP: &str = "/sys/module/tsnic_rendezvous/parameters/gave_up";

/// Check: the backend is killed under traffic and started again. The guest sees the link go and
/// come, and hands its page over to the new one; TCP lives through it.
pub fn killed(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    for _ in 0..KILLS {
        let lost_before = bench.number(CARRIER_LOST)?;
        bench.vm.kill_device()?;
        bench.wait_file(CARRIER, |carrier| carrier == 0)?;
        restart(bench)?;
        let lost = bench.number(CARRIER_LOST)?;
        expect(lost == lost_before + 1, || {
            format!("The guest lost the link {} times", lost - lost_before)
        })?;
        bench.stamped_rpcs(&traffic)?;
    }
    Ok(format!("{KILLS} times, {}", bench.end_traffic(traffic)?))
}

/// Starts a killed backend again, and waits for the link and the registration.
fn restart(bench: &mut Bench) -> Result<(), Failure> {
    bench.vm.start_device()?;
    bench.wait_file(CARRIER, |carrier| carrier == 1)?;
    // All counters begin at 0 with the process.
    bench.wait("No page was handed over to the new backend", |status| {
        status.page.is_some() && status.counters.registrations > 0
    })?;
    Ok(())
}

/// Check: the driver is unloaded and loaded while there is no backend, and works when there is one
/// again.
pub fn killed_reload(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    bench.vm.kill_device()?;
    bench.wait_file(CARRIER, |carrier| carrier == 0)?;
    bench.unload("tsnic")?;
    bench.load_driver()?;
    bench.vm.start_device()?;
    bench.link_up()?;
    bench.wait("No page was handed over to the new backend", |status| status.page.is_some())?;
    bench.stamped_rpcs(&traffic)?;
    bench.end_traffic(traffic)
}

/// Check: the backend is killed while it holds a poll at the rendezvous. The guest gives the
/// rendezvous up and recovers.
///
/// The situation is arranged. A receiver that was woken by a stimulus busy-polls for
/// [`LONG_BUSY_POLL_US`] before its last poll comes to the rendezvous, and the backend is held
/// meanwhile: nobody releases that poll. The poll waits with bottom halves off, so nothing else
/// runs on its processor: the interrupts, and so the poll, have one, and the agent, which is asked
/// meanwhile, the other.
pub fn killed_rendezvous(bench: &mut Bench) -> Result<String, Failure> {
    let module = insert(&bench.files().rendezvous);
    bench.vm.command(&module)?;
    let flow = guest::flow(bench.vm.link());
    bench.vm.command(&Request::ReceiverStart {
        local: (flow.guest_ip, flow.guest_port),
        peer: (flow.peer_ip, flow.peer_port),
        busy_poll_us: LONG_BUSY_POLL_US,
        cpu: POLL_CPU,
    })?;
    for (irq, cpu) in [(bench.vm.rx_irq(), POLL_CPU), (AGENT_IRQ, AGENT_CPU)] {
        bench.vm.command(&Request::IrqAffinity { irq: irq.into(), cpu })?;
    }
    bench.vm.device_begin(&DeviceRequest::Injection(InjectionSpec {
        seed: 1,
        rounds: ROUNDS,
        flow,
        stimulus: Stimulus::Udp,
        stuck_us: STUCK_US,
    }))?;
    let mut tries = 0;
    let gave_up = loop {
        tries += 1;
        stimulus_sent(bench).map_err(|failure| match failure {
            // The device gives a run up after some inconclusive rounds, and its report is no answer
            // to a status request.
            Failure::Vm(vm::Error::Unexpected { .. }) => Failure::NoSituation(format!(
                "The device ended its run in try {tries}, before a poll was held"
            )),
            other => other,
        })?;
        bench.vm.hold_device()?;
        if let Some(gave_up) = arrives(bench)? {
            break gave_up;
        }
        bench.vm.release_device()?;
        if tries == TRIES {
            return Err(Failure::NoSituation(format!(
                "In {tries} tries no poll came to the rendezvous"
            )));
        }
    };
    bench.vm.kill_device()?;
    // Not the new device but its own bound ends the poll's wait.
    bench.wait_file(GAVE_UP, |now| now > gave_up)?;
    restart(bench)?;
    bench.vm.count(&Request::ReceiverStop)?;
    let traffic = bench.start_traffic()?;
    let seen = bench.end_traffic(traffic)?;
    bench.unload("tsnic_rendezvous")?;
    Ok(format!("a poll was at the rendezvous in try {tries}, {seen}"))
}

/// Waits until the device's run has sent one more stimulus.
fn stimulus_sent(bench: &mut Bench) -> Result<(), Failure> {
    let sent = bench.status()?.counters.rx_frames;
    bench.wait("No stimulus is sent", |status| status.counters.rx_frames > sent).map(drop)
}

/// Waits until a poll stands at a rendezvous; the number of those given up before. `None` when none
/// comes while the backend, which is held, would have sent several stimuli.
fn arrives(bench: &mut Bench) -> Result<Option<u64>, Failure> {
    for _ in 0..LOOKS {
        let (gave_up, released) = (bench.number(GAVE_UP)?, bench.number(RELEASED)?);
        if bench.number(ARRIVED)? > released + gave_up {
            return Ok(Some(gave_up));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

/// Check: the backend does nothing for a second. The guest goes on, and so does everything else
/// afterwards.
pub fn hung(bench: &mut Bench) -> Result<String, Failure> {
    let traffic = bench.start_traffic()?;
    let before = bench.status()?;
    bench.vm.hold_device()?;
    std::thread::sleep(HANG[0]);
    let held = traffic.replies();
    std::thread::sleep(HANG[1]);
    // The guest itself must not hang with it.
    bench.read("/proc/uptime")?;
    let (carrier, replies) = (bench.number(CARRIER)?, traffic.replies());
    bench.vm.release_device()?;
    expect(carrier == 1, || "The link went down".into())?;
    let during = replies.stamped - held.stamped;
    expect(during == 0, || format!("{during} RPCs were answered while the backend was held"))?;
    bench.stamped_rpcs(&traffic)?;
    let after = bench.status()?;
    unchanged!(before, after, registrations, pages_forgotten, connections, queues_broken);
    bench.end_traffic(traffic)
}

/// Check: the backend's own memory is within its bound.
pub fn memory(bench: &mut Bench) -> Result<String, Failure> {
    let kib = bench.vm.device_memory_kib()?;
    expect(kib > 0, || "The backend claims to use no memory at all".into())?;
    expect(kib <= MEMORY_KIB, || format!("{kib} KiB, more than {MEMORY_KIB}"))?;
    Ok(format!("{kib} KiB of {MEMORY_KIB}"))
}

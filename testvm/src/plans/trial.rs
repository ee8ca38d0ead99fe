// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One plan with one driver.

use std::time::{Duration, Instant};

use tsnic_protocol::plan::{Driver, Expectation, Plan};
use tsnic_protocol::{Packets, Policies, Reply, Request, ScheduleReport, Vector};

use super::judge::{self, Seen};
use super::measured::Measured;
use super::placed;
use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::bench::traffic::ask_in_vain;

/// Without traffic, a stall has its verdict by then, usually.
const QUIET: Duration = Duration::from_millis(1_300);
/// For a control to stall: many times what it takes.
const CONTROL_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

/// The drivers a plan is for: the one it names, or the stock driver and ours.
pub fn drivers(plan: &Plan) -> &'static [Driver] {
    match plan.run.driver {
        None => &[Driver::VirtioNet, Driver::TsnicV411],
        Some(Driver::VirtioNet) => &[Driver::VirtioNet],
        Some(Driver::TsnicV411) => &[Driver::TsnicV411],
        Some(Driver::TsnicV410) => &[Driver::TsnicV410],
        Some(Driver::Livepatch) => &[Driver::Livepatch],
    }
}

/// Runs it. What was measured is given in any case; the other is why it did not go as expected.
pub fn run(bench: &mut Bench, plan: &Plan, driver: Driver) -> (Measured, Result<(), Failure>) {
    let mut measured = Measured::default();
    let ended = measure(bench, plan, driver, &mut measured);
    (measured, ended)
}

fn measure(
    bench: &mut Bench,
    plan: &Plan,
    driver: Driver,
    measured: &mut Measured,
) -> Result<(), Failure> {
    // What came before is nobody's, also if it ends before anything is put to work.
    measured.begin(bench.status()?);
    let ended = if plan.run.traffic.is_placed() {
        placed::run(bench, plan, driver, measured)
    } else {
        bench.use_driver(driver)?;
        measured.begin(bench.status()?);
        put_to_work(bench, plan, measured)
    };
    let calmed = calm(bench, plan);
    let ended = ended.and(calmed).and_then(|()| match plan.run.expect {
        Expectation::Survives => {
            let traffic = bench.start_traffic_of_any_driver()?;
            bench.stop_traffic(traffic).map(drop)
        }
        Expectation::Stalls => Ok(()),
    });
    let ended = match bench.status() {
        Ok(status) => {
            measured.end = status;
            ended
        }
        Err(failure) => ended.and(Err(failure)),
    };
    conclude(plan, &measured.seen(), ended)
}

/// From here on nothing interferes, whatever comes of the rest.
fn calm(bench: &mut Bench, plan: &Plan) -> Result<(), Failure> {
    if plan.run.behaviour.is_some() {
        bench.set_behaviour("right")?;
    }
    done(bench, &Request::Policies(Policies::default()))?;
    done(bench, &Request::Packets(Packets::default()))?;
    for vector in [Vector::Rx, Vector::Tx] {
        let off = tsnic_protocol::Moderation { vector, usecs: 0, frames: 0, adaptive: false };
        done(bench, &Request::Moderation(off))?;
    }
    Ok(())
}

/// What a trial that has `ended` so shows. What the detectors have seen is more than what did not
/// go on. A control that had its time and has not stalled has failed; one that had not, because
/// something was late, has not.
fn conclude(plan: &Plan, seen: &Seen, ended: Result<(), Failure>) -> Result<(), Failure> {
    let judged = judge::judge(plan, seen).map_err(Failure::Unmet);
    match ended {
        Err(failure) if failure.is_late() && !seen.accuses() => Err(failure),
        ended => judged.and(ended),
    }
}

/// Traffic under the plan, then a pause: a driver that reclaims when it sends or receives shows
/// only then that a transmit interrupt was lost.
fn put_to_work(bench: &mut Bench, plan: &Plan, measured: &mut Measured) -> Result<(), Failure> {
    let traffic = bench.start_traffic_of_any_driver()?;
    for moderation in &plan.moderation {
        done(bench, &Request::Moderation(*moderation))?;
    }
    measured.begin(bench.status()?);
    done(bench, &Request::Policies(plan.policies()))?;
    done(bench, &Request::Packets(plan.packets()))?;
    if let Some(behaviour) = plan.run.behaviour {
        bench.set_behaviour(behaviour.name())?;
    }
    let first = traffic.replies().all();
    let wanted = first + u64::from(plan.run.requests);
    let reached = match plan.run.expect {
        Expectation::Survives => bench.replies(&traffic, |now| now.all() >= wanted).map(drop),
        // There may be no more replies.
        Expectation::Stalls => {
            let limit = bench.vm.limit(CONTROL_LIMIT);
            watch(bench, plan, measured, limit, || traffic.replies().all() >= wanted)
        }
    };
    measured.rpcs = traffic.replies().all() - first;
    measured.traffic_ended(bench.status()?);
    measured.rx = schedule(bench, Vector::Rx)?;
    measured.tx = schedule(bench, Vector::Tx)?;
    let quiet = bench.vm.limit(QUIET);
    match plan.run.expect {
        Expectation::Survives => {
            reached?;
            bench.stop_traffic(traffic)?;
            ask_in_vain(bench.vm.link(), quiet);
            watch(bench, plan, measured, quiet, || false)
        }
        Expectation::Stalls => {
            reached?;
            drop(traffic);
            let deadline = Instant::now() + bench.vm.limit(CONTROL_LIMIT);
            while judge::judge(plan, &measured.seen()).is_err() && Instant::now() < deadline {
                ask_in_vain(bench.vm.link(), quiet);
                watch(bench, plan, measured, 2 * quiet, || false)?;
            }
            Ok(())
        }
    }
}

/// Looks at the device for so long, or until it is enough, or a control has stalled.
fn watch(
    bench: &mut Bench,
    plan: &Plan,
    measured: &mut Measured,
    time: Duration,
    enough: impl Fn() -> bool,
) -> Result<(), Failure> {
    let end = Instant::now() + time;
    while Instant::now() < end && !enough() {
        std::thread::sleep(LOOK);
        measured.end = bench.status()?;
        if plan.run.expect == Expectation::Stalls && judge::judge(plan, &measured.seen()).is_ok() {
            break;
        }
    }
    Ok(())
}

fn done(bench: &mut Bench, request: &Request) -> Result<(), Failure> {
    match bench.vm.device(request)? {
        Reply::Done => Ok(()),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}

fn schedule(bench: &mut Bench, vector: Vector) -> Result<ScheduleReport, Failure> {
    match bench.vm.device(&Request::Schedule { vector })? {
        Reply::Schedule(schedule) => Ok(schedule),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::Stalls;
    use tsnic_protocol::plan::parse;
    use tsnic_protocol::stall::VectorStalls;

    use super::*;

    #[test]
    fn a_control_that_did_not_stall_has_failed_unless_its_time_was_cut_short() {
        let concluded = |expect: &str, seen: &Seen, ended| {
            let plan = format!("about = 'x'\nrearm = 'edge'\n[run]\nexpect = '{expect}'\n");
            conclude(&parse(&plan).expect("a plan"), seen, ended)
        };
        let late = || Err(Failure::Late("No RPC".into()));
        let (quiet, lost) = (Seen::default(), VectorStalls { lost: 1, ..Default::default() });
        let stalled = Seen { stalls: Stalls { rx: lost, ..Stalls::default() }, ..Seen::default() };
        let contradicted = Seen { disagreements: 1, ..Seen::default() };
        let failed = |ended| matches!(ended, Err(Failure::Unmet(_)));
        let undecided = |ended| matches!(ended, Err(Failure::Late(_)));

        assert!(failed(concluded("stalls", &quiet, Ok(()))));
        assert!(undecided(concluded("stalls", &quiet, late())));
        assert!(failed(concluded("stalls", &contradicted, late())));
        assert!(concluded("stalls", &stalled, Ok(())).is_ok());

        assert!(concluded("survives", &quiet, Ok(())).is_ok());
        assert!(undecided(concluded("survives", &quiet, late())));
        assert!(failed(concluded("survives", &stalled, late())));
        assert!(failed(concluded("survives", &quiet, Err(Failure::Unmet("No".into())))));
    }
}

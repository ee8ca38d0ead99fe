// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What policies decided, as items that can be taken out, and the plan that decides the same again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tsnic_protocol::plan::{Driver, Expectation, Plan};
use tsnic_protocol::policy::{Entry, Kind};
use tsnic_protocol::{Policy, ScheduleReport, Vector};

/// One decision. An intent that is decided otherwise than to be raised at once, or interrupts that
/// nobody has requested.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    vector: Vector,
    entry: Entry,
}

/// The decisions of both vectors.
pub fn of(rx: &ScheduleReport, tx: &ScheduleReport) -> Vec<Decision> {
    let decisions = |vector, schedule: &ScheduleReport| {
        let decision = move |entry: &Entry| Decision { vector, entry: *entry };
        schedule.entries.iter().map(decision).collect::<Vec<_>>()
    };
    [decisions(Vector::Rx, rx), decisions(Vector::Tx, tx)].concat()
}

fn entries(decisions: &[Decision], vector: Vector) -> Vec<Entry> {
    let its = decisions.iter().filter(|decision| decision.vector == vector);
    its.map(|decision| decision.entry).collect()
}

/// A plan like `plan` that decides so, and nothing else, and under which the driver stalls.
pub fn replay(plan: &Plan, driver: Driver, decisions: &[Decision]) -> Plan {
    let policy = [Vector::Rx, Vector::Tx]
        .into_iter()
        .filter_map(|vector| {
            let schedule = Some(entries(decisions, vector)).filter(|it| !it.is_empty())?;
            Some(Policy { vector, schedule: Some(schedule), ..Policy::of(Kind::Replay) })
        })
        .collect();
    let mut replay = Plan { policy, ..plan.clone() };
    replay.run.driver = Some(driver);
    replay.run.expect = Expectation::Stalls;
    replay
}

/// Writes a replay to `path`, and its schedules beside it. The files written.
///
/// # Errors
/// When one cannot be written.
pub fn write(path: &Path, replay: &Plan, heading: &[String]) -> io::Result<Vec<PathBuf>> {
    let mut plan = replay.clone();
    let mut files = Vec::new();
    for policy in &mut plan.policy {
        let Some(entries) = policy.schedule.take() else { continue };
        let vector = if policy.vector == Vector::Rx { "rx" } else { "tx" };
        let file = path.with_extension(format!("{vector}.json"));
        let schedule = ScheduleReport { entries, left_out: 0 };
        fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&schedule)?))?;
        policy.schedule_file = file.file_name().map(PathBuf::from);
        files.push(file);
    }
    let text = toml::to_string(&plan).map_err(io::Error::other)?;
    fs::write(path, format!("# {}\n\n{text}", heading.join("\n# ")))?;
    files.insert(0, path.to_owned());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::plan;
    use tsnic_protocol::policy::Hold;

    use super::*;

    fn entry(intent: u64) -> Entry {
        Entry { intent, hold: Hold { delay_ns: 7, ..Hold::default() }, ..Entry::default() }
    }

    fn schedule(intents: &[u64]) -> ScheduleReport {
        ScheduleReport { entries: intents.iter().map(|it| entry(*it)).collect(), left_out: 0 }
    }

    const PLAN: &str = "about = 'x'\nseed = 9\n[[moderation]]\nvector = 'rx'\nusecs = 5\n\
                        frames = 2\n[[policy]]\nkind = 'drop'\nper_mille = 1\n[run]\nrequests = 7\n";

    #[test]
    fn a_written_replay_is_read_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("it.toml");
        let plan = plan::parse(PLAN).expect("a plan");
        for (rx, tx, files) in [(&[1, 4][..], &[2][..], 3), (&[], &[3], 2), (&[], &[], 1)] {
            let decisions = of(&schedule(rx), &schedule(tx));
            assert_eq!(decisions.len(), rx.len() + tx.len());
            let replay = replay(&plan, Driver::VirtioNet, &decisions);
            let heading = ["from x".to_owned(), "and y".to_owned()];
            assert_eq!(write(&path, &replay, &heading).expect("it is written").len(), files);
            let (read, text) = plan::load(&path).expect("it is a plan");
            assert_eq!(read, replay);
            assert!(text.starts_with("# from x\n# and y\n\n"), "{text}");
            assert_eq!((read.run.requests, read.moderation.len()), (7, 1));
        }
    }

    #[test]
    fn a_replay_decides_what_is_left_on_each_vector() {
        let plan = plan::parse(PLAN).expect("a plan");
        let decisions = of(&schedule(&[1, 4, 6]), &schedule(&[2]));
        let replay = replay(&plan, Driver::TsnicV410, &decisions[1..]);
        let left = |place: usize| replay.policy[place].schedule.clone().expect("a schedule");
        assert_eq!((left(0), left(1)), (vec![entry(4), entry(6)], vec![entry(2)]));
        assert_eq!(replay.run.driver, Some(Driver::TsnicV410));
    }
}

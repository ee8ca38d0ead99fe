// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plans in files, and the schedules in files that they name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Plan, PlanError, Position, Step, parse, position};
use crate::{Policy, Reply, ScheduleReport};

/// Why a file is no plan.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("Cannot read the plan {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It, or a schedule that it names, can be read, and is wrong.
    #[error("{}:{error}", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where, and what.
        error: PlanError,
    },
}

impl LoadError {
    fn wrong(path: &Path, position: Position, message: String) -> Self {
        Self::Wrong { path: path.to_owned(), error: PlanError { position, message } }
    }
}

/// Reads a plan, and its text for [`position`]. The schedules that it names (`schedule_file`,
/// relative to the plan's directory) are read, too, and take the place of their names. Whether its
/// policies can be, the device says.
///
/// # Errors
/// When one of the files cannot be read, or is not what it has to be.
pub fn load(path: &Path) -> Result<(Plan, String), LoadError> {
    let text = fs::read_to_string(path)
        .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let mut plan =
        parse(&text).map_err(|error| LoadError::Wrong { path: path.to_owned(), error })?;
    read_schedules(&mut plan.policy, &[], path, &text)?;
    for (place, pair) in plan.pair.iter_mut().enumerate() {
        let within = [Step::Field("pair"), Step::Entry(place)];
        read_schedules(&mut pair.policy, &within, path, &text)?;
    }
    Ok((plan, text))
}

/// Reads the schedules that these policies name. They are the list `policy` `within` the plan.
fn read_schedules(
    policies: &mut [Policy],
    within: &[Step<'_>],
    path: &Path,
    text: &str,
) -> Result<(), LoadError> {
    for (place, policy) in policies.iter_mut().enumerate() {
        let Some(name) = policy.schedule_file.take() else { continue };
        let last = [Step::Field("policy"), Step::Entry(place), Step::Field("schedule_file")];
        let at = position(text, &[within, &last].concat());
        if policy.schedule.is_some() {
            let message = "there is a schedule beside schedule_file: one of them".into();
            return Err(LoadError::wrong(path, at, message));
        }
        let file = path.parent().unwrap_or(Path::new("")).join(name);
        let text = fs::read_to_string(&file).map_err(|error| {
            let message = format!("schedule_file: cannot read {}: {error}", file.display());
            LoadError::wrong(path, at, message)
        })?;
        policy.schedule = Some(
            schedule(&text)
                .map_err(|error| {
                    let position =
                        Position { line: error.line().max(1), column: error.column().max(1) };
                    LoadError::wrong(&file, position, format!("it is no schedule: {error}"))
                })?
                .entries,
        );
    }
    Ok(())
}

/// What `tsnic ask` printed: the reply, or the schedule in it.
fn schedule(text: &str) -> Result<ScheduleReport, serde_json::Error> {
    match serde_json::from_str(text) {
        Ok(Reply::Schedule(schedule)) => Ok(schedule),
        _ => serde_json::from_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Entry, Hold};

    const PLAN: &str = "about = 'x'\n[[policy]]\nkind = 'replay'\nschedule_file = 'it.json'\n";

    fn loaded(plan: &str, schedule: Option<&str>) -> Result<Plan, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.toml");
        fs::write(&path, plan).expect("it is written");
        if let Some(text) = schedule {
            fs::write(directory.path().join("it.json"), text).expect("it is written");
        }
        let shown = |error: LoadError| {
            error.to_string().replace(&format!("{}/", directory.path().display()), "")
        };
        load(&path).map(|(plan, _)| plan).map_err(shown)
    }

    #[test]
    fn a_schedule_is_read_as_the_device_tells_it() {
        let hold = Hold { delay_ns: 5, ..Hold::default() };
        let entries = vec![Entry { intent: 3, hold, ..Entry::default() }];
        let report = ScheduleReport { entries: entries.clone(), left_out: 0 };
        let reply = serde_json::to_string(&Reply::Schedule(report.clone())).expect("JSON");
        for text in [reply, serde_json::to_string_pretty(&report).expect("JSON")] {
            let plan = loaded(PLAN, Some(&text)).expect("it is right");
            assert_eq!(plan.policy[0].schedule.as_ref(), Some(&entries));
            assert_eq!(plan.policy[0].schedule_file, None);
        }
    }

    #[test]
    fn what_is_wrong_with_a_schedule_is_found_where_it_stands() {
        for (plan, schedule, expected) in [
            (PLAN, None, "plan.toml:4:17: schedule_file: cannot read it.json: No such file"),
            (PLAN, Some("{\n  \"entries\": 3\n}"), "it.json:2:14: it is no schedule: "),
            (PLAN, Some(""), "it.json:1:1: it is no schedule: "),
            (PLAN, Some("{\"reply\":\"done\"}"), "it.json:1:8: it is no schedule: "),
            (
                &format!("{PLAN}schedule = []\n"),
                Some("{}"),
                "plan.toml:4:17: there is a schedule beside",
            ),
        ] {
            let error = loaded(plan, schedule).expect_err("it is wrong");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm shrink`: the fewest decisions of a failing plan with which it still fails.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tsnic_protocol::plan::{Driver, Expectation, Plan};

use super::ddmin::ddmin;
use super::decisions::{self, Decision};
use super::measured::Measured;
use super::{NamedPlan, boot, report, trial};
use crate::bench::Bench;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;

/// Replays of what is left, in the end.
const CONFIRMATIONS: u32 = 10;
/// So many of them have to fail.
const CONFIRMED: u32 = 9;

/// Seeds that are tried until one has decisions whose replay always fails.
const ATTEMPTS: u64 = 5;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plan.
    pub plan: NamedPlan,
    /// The driver; the plan's, or the stock one, when it is not said.
    pub driver: Option<Driver>,
    /// Trials of each candidate, all of which have to fail.
    pub repeats: u32,
    /// Where the replay goes.
    pub out: PathBuf,
}

/// Shrinks a plan.
///
/// # Errors
/// No guest comes up, the device refuses the plan, the replay cannot be written, or the user
/// stopped it.
pub fn run(machine: &Machine, options: &Options) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let mut plan = options.plan.plan.clone();
    let driver = options.driver.or(plan.run.driver).unwrap_or(Driver::VirtioNet);
    let name = format!("{}, {}", options.plan.name, report::name(driver));
    let mut trials = Trials { lab: &mut lab, progress: &mut progress, bench: None, driver };
    let Some(all) = trials.reliable_failure(&mut plan, options.repeats, &name)? else {
        return Ok(Verdict::Undecided);
    };
    if trials.fails(&plan, &[], options.repeats)? {
        outln!("It also fails without any decision: its policies have no part in it");
        return Ok(Verdict::Undecided);
    }
    let before = all.len();
    let mut failing = vec![all.clone()];
    ddmin(all, |candidate| {
        let fails = trials.fails(&plan, candidate, options.repeats)?;
        if fails {
            failing.push(candidate.to_vec());
        }
        anyhow::Ok(fails)
    })?;
    let (left, again) =
        most_shrunk(&failing, |candidate| trials.count(&plan, candidate, CONFIRMATIONS))?;
    trials.end()?;
    outln!(
        "{} of {before} decisions are left; their replay fails {again} of {CONFIRMATIONS} times",
        left.len()
    );
    let heading = [
        format!(
            "Shrunk by testvm from {}, of whose {before} decisions with seed {} {} are left.",
            options.plan.name,
            plan.seed,
            left.len()
        ),
        format!(
            "Its replay failed {again} of {CONFIRMATIONS} times on Linux {}.",
            lab.kernel.release
        ),
    ];
    write(&options.out, &decisions::replay(&plan, driver, left), &heading)?;
    Ok(if again >= CONFIRMED { Verdict::Pass } else { Verdict::Undecided })
}

/// The last of the candidates that failed, of which each is smaller than the one before, that also
/// fails when it is looked at afresh, and how often it does; the one that fails most often when
/// none does often enough. Of many candidates that fail three times in four, one will have failed
/// in all its trials, and is taken for one that always does.
fn most_shrunk<T>(
    failing: &[Vec<T>],
    mut count: impl FnMut(&[T]) -> anyhow::Result<u32>,
) -> anyhow::Result<(&[T], u32)> {
    let mut most = (&[][..], 0);
    for candidate in failing.iter().rev() {
        let failed = count(candidate)?;
        if failed >= CONFIRMED {
            return Ok((candidate, failed));
        }
        outln!(
            "the replay of {} decisions fails {failed} of {CONFIRMATIONS} times",
            candidate.len()
        );
        if most.0.is_empty() || failed > most.1 {
            most = (candidate, failed);
        }
    }
    Ok(most)
}

fn write(path: &Path, replay: &Plan, heading: &[String]) -> anyhow::Result<()> {
    let files = decisions::write(path, replay, heading)
        .with_context(|| format!("The replay cannot be written to {}", path.display()))?;
    for file in files {
        outln!("written: {}", file.display());
    }
    Ok(())
}

/// Trials in one guest, as long as it is well.
struct Trials<'a> {
    lab: &'a mut Lab,
    progress: &'a mut Progress,
    bench: Option<Bench>,
    driver: Driver,
}

impl Trials<'_> {
    /// Decisions whose replay always fails. A seed decides the same each time, and the part of
    /// chance is then the same, so `plan` gets the next one when this one has none.
    fn reliable_failure(
        &mut self,
        plan: &mut Plan,
        trials: u32,
        name: &str,
    ) -> anyhow::Result<Option<Vec<Decision>>> {
        let first = plan.seed;
        for seed in (0..ATTEMPTS).map(|attempt| first.wrapping_add(attempt)) {
            plan.seed = seed;
            let Some(all) = self.first_failure(plan, trials)? else {
                outln!("{name} did not fail in {trials} trials with seed {seed}");
                if seed == first {
                    break;
                }
                continue;
            };
            outln!("{name} fails with seed {seed}, with {} decisions", all.len());
            if self.fails(plan, &all, trials)? {
                return Ok(Some(all));
            }
            outln!("Its replay does not always: what else happens in the guest has a part in it");
        }
        Ok(None)
    }

    /// The decisions of the first trial of the plan that fails.
    fn first_failure(&mut self, plan: &Plan, trials: u32) -> anyhow::Result<Option<Vec<Decision>>> {
        for _ in 0..trials {
            let (failed, measured) = self.trial(plan, "the plan")?;
            if failed {
                for (vector, left_out) in
                    [("rx", measured.rx.left_out), ("tx", measured.tx.left_out)]
                {
                    if left_out != 0 {
                        outln!("{left_out} decisions of {vector} came too late to be kept");
                    }
                }
                return Ok(Some(decisions::of(&measured.rx, &measured.tx)));
            }
        }
        Ok(None)
    }

    /// Every one of `trials` replays fails: with fewer, chance would choose what is left, and its
    /// replay would show as little. No more are run than it takes to know.
    fn fails(&mut self, plan: &Plan, decisions: &[Decision], trials: u32) -> anyhow::Result<bool> {
        let plan = decisions::replay(plan, self.driver, decisions);
        for _ in 0..trials {
            if !self.trial(&plan, &format!("decisions: {}", decisions.len()))?.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many of so many replays fail.
    fn count(&mut self, plan: &Plan, decisions: &[Decision], trials: u32) -> anyhow::Result<u32> {
        let plan = decisions::replay(plan, self.driver, decisions);
        let mut failed = 0;
        for _ in 0..trials {
            failed += u32::from(self.trial(&plan, "what is left")?.0);
        }
        Ok(failed)
    }

    /// Whether something stalled or was lost, whatever the plan expects.
    fn trial(&mut self, plan: &Plan, name: &str) -> anyhow::Result<(bool, Measured)> {
        let bench = match &mut self.bench {
            Some(bench) => bench,
            none => none.insert(boot(self.lab, plan.rearm, self.progress)?),
        };
        let stage = self.progress.stage(Stage::Run(name.to_owned()));
        // A trial that does not fail is over with its traffic, and is not waited for as a control is.
        let mut plan = plan.clone();
        plan.run.expect = Expectation::Survives;
        let (measured, ended) = trial::run(bench, &plan, self.driver);
        interrupt::check()?;
        let failed = measured.seen().failed();
        if let Err(failure) = ended
            && !failed
            && !failure.is_late()
        {
            bail!("The trial could not be judged: {}", failure.chain());
        }
        stage.done(if failed { "fails" } else { "does not fail" });
        if bench.collect_log().is_err() || bench.baseline().is_err() {
            self.bench = None;
        }
        Ok((failed, measured))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if let Some(bench) = self.bench.take() {
            bench.end()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates of 4, 3, 2 and 1 items that fail so often.
    fn shrunk(failed: [u32; 4]) -> (usize, u32, usize) {
        let failing = [vec![(); 4], vec![(); 3], vec![(); 2], vec![(); 1]];
        let mut looked = 0;
        let (left, again) = most_shrunk(&failing, |candidate| {
            looked += 1;
            Ok(failed[4 - candidate.len()])
        })
        .expect("nothing ends it");
        (left.len(), again, looked)
    }

    #[test]
    fn a_candidate_that_failed_by_luck_gives_way_to_the_one_before() {
        assert_eq!(shrunk([10, 10, 10, 9]), (1, 9, 1));
        assert_eq!(shrunk([10, 9, 8, 7]), (3, 9, 3));
        assert_eq!(shrunk([10, 0, 0, 0]), (4, 10, 4));
    }

    #[test]
    fn without_one_that_fails_often_enough_it_is_the_one_that_fails_most() {
        assert_eq!(shrunk([5, 8, 7, 8]), (1, 8, 4));
        assert_eq!(shrunk([0, 0, 0, 0]), (1, 0, 4));
    }
}

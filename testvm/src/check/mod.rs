// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm check`: what the driver and the device have to live through, in a real guest.
//!
//! One boot for all checks, in a fixed order. Each begins and ends with the same state of affairs
//! (`Bench::baseline`): driver loaded, link up, shared queue page in use. One that fails does not
//! stop the others; when it leaves the guest unusable, they get a new one.

mod backend;
mod broken;
mod clock;
mod coalescing;
mod down;
mod driver;
mod hibernate;
mod kernel_log;
mod listener;
mod machine;
mod multi_queue;
mod phc_tools;
mod ptp;
mod servo;
mod shell;
pub(crate) mod suspend;
mod tap;

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::bench::log::Log;
use crate::bench::losses::Losses;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;
use anyhow::bail;

/// One check.
struct Check {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Bench) -> Result<String, Failure>,
}

/// Checks of a guest whose device has several queue pairs, and whose vCPUs are as many.
const MULTI_QUEUE: &[Check] = &[Check {
    name: "multi-queue",
    about: "virtio_net uses as many queue pairs as ethtool -L says, tsnic.ko the first",
    run: multi_queue::channels,
}];
/// Queue pairs there.
const QUEUE_PAIRS: u8 = 2;

/// Checks with other people's programs in the guest.
const TOOLS: &[Check] = &[
    Check {
        name: "phc-ctl",
        about: "phc_ctl reads, sets, steps, tunes and compares the clock",
        run: phc_tools::phc_ctl,
    },
    Check {
        name: "hwstamp-ctl",
        about: "hwstamp_ctl turns timestamps of both directions on and off",
        run: phc_tools::hwstamp_ctl,
    },
    Check {
        name: "phc2sys",
        about: "phc2sys has the clock follow the system's, and the other way round",
        run: phc_tools::phc2sys,
    },
    Check {
        name: "ptp4l",
        about: "ptp4l is the slave of one on the host, by hardware timestamps",
        run: ptp::slave,
    },
];

/// All other checks, in order. The last two look back on all before.
const CHECKS: &[Check] = &[
    Check {
        name: "reload",
        about: "tsnic.ko is unloaded and loaded under traffic",
        run: driver::reload,
    },
    Check {
        name: "shell",
        about: "the guest's shell carries out what is typed, and Ctrl-C",
        run: shell::answers,
    },
    Check {
        name: "link",
        about: "the interface goes down and up under traffic",
        run: driver::link,
    },
    Check {
        name: "link-discard",
        about: "frames that come while the interface is down stay out",
        run: down::discarded,
    },
    Check {
        name: "tx-timeout",
        about: "the backend hangs with a full transmit ring",
        run: down::transmit_timeout,
    },
    Check {
        name: "irq-mode",
        about: "the interrupt mode changes only while the link is down",
        run: driver::irq_mode,
    },
    Check {
        name: "coalescing",
        about: "ethtool -C is in force at once, and ethtool -c says so",
        run: coalescing::ethtool,
    },
    Check {
        name: "clock",
        about: "/dev/ptp0 is set, stepped and tuned, and timestamps follow it",
        run: clock::hardware,
    },
    Check {
        name: "stock-driver",
        about: "the kernel's virtio_net takes the device over",
        run: driver::stock,
    },
    Check {
        name: "forged-page",
        about: "frames that look like a registration are but frames",
        run: driver::forged,
    },
    Check {
        name: "broken-rx",
        about: "the device gives back a receive buffer that it was not given",
        run: broken::receive,
    },
    Check { name: "broken-tx", about: "the same with a transmit buffer", run: broken::transmit },
    Check {
        name: "tap-deleted",
        about: "the TAP interface is deleted under the device and made again",
        run: tap::deleted,
    },
    Check {
        name: "stop-cont",
        about: "the machine is stopped and goes on under traffic",
        run: machine::stop_cont,
    },
    Check {
        name: "suspend",
        about: "the machine sleeps (S3) and wakes under traffic",
        run: suspend::to_memory,
    },
    Check {
        name: "snapshot",
        about: "an image of the memory is made, as for hibernation, under traffic",
        run: suspend::snapshot,
    },
    Check {
        name: "hibernate",
        about: "the machine hibernates to its disk under traffic, and another QEMU resumes it",
        run: hibernate::to_disk,
    },
    Check {
        name: "killed",
        about: "the backend is killed under traffic and restarted",
        run: backend::killed,
    },
    Check {
        name: "killed-reload",
        about: "the driver is reloaded while there is no backend",
        run: backend::killed_reload,
    },
    Check {
        name: "killed-rendezvous",
        about: "the backend is killed while a poll is at a rendezvous",
        run: backend::killed_rendezvous,
    },
    Check {
        name: "hung",
        about: "the backend hangs for a second under traffic",
        run: backend::hung,
    },
    Check { name: "reboot", about: "the machine is reset under traffic", run: machine::reboot },
    Check { name: "memory", about: "the backend is still small", run: backend::memory },
    Check {
        name: "kernel-log",
        about: "the guest's kernel never complained",
        run: kernel_log::quiet,
    },
];

/// The names of all checks, with what each is about.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    checks().map(|(check, _)| (check.name, check.about))
}

/// All of them, with the queue pairs of their guest.
fn checks() -> impl Iterator<Item = (&'static Check, u8)> {
    let multi_queue = MULTI_QUEUE.iter().map(|check| (check, QUEUE_PAIRS));
    multi_queue.chain(TOOLS.iter().chain(CHECKS).map(|check| (check, 1)))
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// What was seen.
    Passed(String),
    /// Why.
    Failed(String),
    /// Why it could not be judged.
    Undecided(String),
    /// Why.
    Skipped(String),
}

/// How many checks ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    undecided: usize,
    skipped: usize,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed(_) => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Undecided(_) => self.undecided += 1,
            Outcome::Skipped(_) => self.skipped += 1,
        }
    }

    /// A pass needs every check to have passed: one that was skipped or came to no verdict leaves
    /// the run without one.
    fn verdict(self) -> Verdict {
        match self {
            Self { failed: 1.., .. } => Verdict::Fail,
            Self { passed: 1.., undecided: 0, skipped: 0, .. } => Verdict::Pass,
            _ => Verdict::Undecided,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, failed, undecided, skipped } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {undecided} without a verdict, {skipped} skipped"
        )
    }
}

/// Runs the checks whose names are in `only`, or all when it is empty, and prints what came of
/// each.
///
/// # Errors
/// The run could not be judged: no guest comes up, or the user stopped it.
pub fn run(machine: &Machine, only: &[String]) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let chosen = |check: &Check| only.is_empty() || only.iter().any(|name| name == check.name);
    let mut lab = if TOOLS.iter().any(chosen) {
        Lab::prepare_with_tools(machine, &mut progress)?
    } else {
        Lab::prepare(machine, &mut progress)?
    };
    let mut log = Log::default();
    let mut bench: Option<Bench> = None;
    let mut tally = Tally::default();
    for (check, pairs) in checks().filter(|(check, _)| chosen(check)) {
        if let Some(other) = bench.take_if(|bench| bench.queue_pairs() != pairs) {
            log = other.into_log();
        }
        let bench_now = match &mut bench {
            Some(bench) => bench,
            none => {
                let log = std::mem::take(&mut log);
                none.insert(match pairs {
                    1 => Bench::boot(&mut lab, &mut progress, log)?,
                    pairs => Bench::boot_with_pairs(&mut lab, pairs, &mut progress, log)?,
                })
            }
        };
        let stage = progress.stage(Stage::Run(check.name.to_owned()));
        let started = Instant::now();
        let prepared = bench_now.baseline().and_then(|()| bench_now.note_losses());
        let ended = prepared.and_then(|()| (check.run)(bench_now));
        interrupt::check()?;
        let (usable, outcome) = conclude(bench_now, ended);
        match &outcome {
            Outcome::Passed(_) => stage.done("passed"),
            Outcome::Skipped(_) => stage.done("SKIPPED"),
            Outcome::Undecided(_) => stage.done("NO VERDICT"),
            Outcome::Failed(_) => drop(stage),
        }
        show(check, started.elapsed(), &outcome);
        tally.count(&outcome);
        if !usable && let Some(bench) = bench.take() {
            log = bench.into_log();
        }
    }
    if tally == Tally::default() {
        bail!("No check was run");
    }
    // What fails is not hidden by a guest that does not power off.
    if let Some(bench) = bench
        && tally.verdict() != Verdict::Fail
    {
        bench.end()?;
    }
    outln!("{tally}");
    Ok(tally.verdict())
}

/// What a check's end means, and whether its guest can be used for the next one.
fn conclude(bench: &mut Bench, ended: Result<String, Failure>) -> (bool, Outcome) {
    let collected = bench.collect_log();
    let (reuse, outcome) = judge(ended, lost(bench), collected);
    let usable = match reuse {
        Reuse::Yes => true,
        Reuse::IfItCan => bench.baseline().is_ok(),
        Reuse::No => false,
    };
    (usable, outcome)
}

/// Whether the device saw packets lost. One that a check has left held is let go for that.
fn lost(bench: &mut Bench) -> Result<bool, Failure> {
    if !bench.vm.device_off() {
        bench.vm.release_device()?;
    }
    bench.losses().map(Losses::any_lost)
}

/// Whether a guest can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reuse {
    Yes,
    /// When the state that each check begins with can be brought about.
    IfItCan,
    No,
}

/// What it means that a check has `ended` so, whether the device saw packets `lost`, and that the
/// kernel's log could be `collected`.
fn judge(
    ended: Result<String, Failure>,
    lost: Result<bool, Failure>,
    collected: Result<(), Failure>,
) -> (Reuse, Outcome) {
    // A packet that the device knows to be lost is a failure, however the check ended.
    if let Ok(true) = lost {
        let why = ended.map_or_else(|failure| failure.chain(), |_| "Packets were lost".into());
        return (Reuse::No, Outcome::Failed(why));
    }
    match ended {
        Ok(seen) => match (collected, lost) {
            (Ok(()), Ok(_)) => (Reuse::Yes, Outcome::Passed(seen)),
            (Err(error), _) if !error.is_late() => (Reuse::No, Outcome::Failed(error.chain())),
            (Err(error), _) => (Reuse::No, Outcome::Undecided(error.chain())),
            (Ok(()), Err(error)) => {
                let why = format!("Whether packets were lost is not known: {}", error.chain());
                (Reuse::IfItCan, Outcome::Undecided(why))
            }
        },
        Err(Failure::Skip(why)) => {
            let reuse = if collected.is_ok() { Reuse::Yes } else { Reuse::No };
            (reuse, Outcome::Skipped(why))
        }
        // Whatever was arranged is still there.
        Err(Failure::NoSituation(why)) => (Reuse::No, Outcome::Undecided(why)),
        Err(failure) => {
            let (why, late) = (failure.chain(), failure.is_late());
            (Reuse::IfItCan, if late { Outcome::Undecided(why) } else { Outcome::Failed(why) })
        }
    }
}

fn show(check: &Check, took: Duration, outcome: &Outcome) {
    let (word, text) = match outcome {
        Outcome::Passed(text) => ("passed", text),
        Outcome::Failed(text) => ("FAILED", text),
        Outcome::Skipped(text) => ("SKIPPED", text),
        Outcome::Undecided(text) => ("NO VERDICT", text),
    };
    outln!("{word:<7} {:<14} {:>5.1} s  {}: {text}", check.name, took.as_secs_f64(), check.about);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_simple() {
        let mut names: Vec<_> = list().map(|(name, _)| name).collect();
        assert!(
            names.iter().all(|name| name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')),
            "{names:?}"
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), checks().count());
    }

    /// However it ends, otherwise and with packets lost.
    #[test]
    fn a_check_that_lost_packets_fails_however_it_ended() {
        type Ends = fn() -> Result<String, Failure>;
        let kind = |outcome: &Outcome| match outcome {
            Outcome::Passed(_) => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Undecided(_) => "undecided",
            Outcome::Skipped(_) => "skipped",
        };
        let ends: [(Ends, Reuse, &str); 5] = [
            (|| Ok("x".into()), Reuse::Yes, "passed"),
            (|| Err(Failure::Skip("x".into())), Reuse::Yes, "skipped"),
            (|| Err(Failure::NoSituation("x".into())), Reuse::No, "undecided"),
            (|| Err(Failure::Late("x".into())), Reuse::IfItCan, "undecided"),
            (|| Err(Failure::Unmet("x".into())), Reuse::IfItCan, "failed"),
        ];
        for (ended, reuse, word) in ends {
            let (found, outcome) = judge(ended(), Ok(false), Ok(()));
            assert_eq!((found, kind(&outcome)), (reuse, word));
            let (found, outcome) = judge(ended(), Ok(true), Ok(()));
            assert_eq!((found, kind(&outcome)), (Reuse::No, "failed"), "{word}, and packets lost");
        }
        let unread = || Err(Failure::Unmet("no log".into()));
        let passed = judge(Ok("x".into()), Ok(false), unread());
        assert_eq!(passed, (Reuse::No, Outcome::Failed("no log".into())));
        let skipped = judge(Err(Failure::Skip("x".into())), Ok(false), unread());
        assert_eq!(skipped, (Reuse::No, Outcome::Skipped("x".into())));
        let (reuse, late) = judge(Ok("x".into()), Ok(false), Err(Failure::Late("no log".into())));
        assert_eq!((reuse, kind(&late)), (Reuse::No, "undecided"));
    }

    /// It is not taken for none.
    #[test]
    fn a_check_whose_losses_cannot_be_read_is_no_pass() {
        let judged = |ended| judge(ended, Err(Failure::Unmet("no device".into())), Ok(()));
        let why = "Whether packets were lost is not known: no device".to_owned();
        assert_eq!(judged(Ok("x".into())), (Reuse::IfItCan, Outcome::Undecided(why)));
        let failed = judged(Err(Failure::Unmet("x".into())));
        assert_eq!(failed, (Reuse::IfItCan, Outcome::Failed("x".into())));
    }

    #[test]
    fn one_failure_is_a_failed_run_and_a_pass_needs_every_check() {
        let verdict = |passed, failed, undecided, skipped| {
            Tally { passed, failed, undecided, skipped }.verdict()
        };
        assert_eq!(verdict(13, 0, 0, 0), Verdict::Pass);
        assert_eq!(verdict(12, 1, 0, 0), Verdict::Fail);
        assert_eq!(verdict(0, 1, 6, 6), Verdict::Fail);
        assert_eq!(verdict(1, 0, 0, 12), Verdict::Undecided);
        assert_eq!(verdict(12, 0, 1, 0), Verdict::Undecided);
        assert_eq!(verdict(0, 0, 0, 13), Verdict::Undecided);
    }

    #[test]
    fn the_closing_line_counts_all() {
        let mut tally = Tally::default();
        for outcome in [
            Outcome::Passed(String::new()),
            Outcome::Skipped(String::new()),
            Outcome::Passed(String::new()),
        ] {
            tally.count(&outcome);
        }
        assert_eq!(tally.to_string(), "2 passed, 0 failed, 0 without a verdict, 1 skipped");
    }
}

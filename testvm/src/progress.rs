// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stages of a run, streamed while it goes: a bar on a terminal, plain lines elsewhere, always
//! with durations.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt;
use crate::output::errln;

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Find, fetch and unpack the guest's kernel.
    Kernel,
    /// Find, fetch and unpack the guest's tools.
    Tools,
    /// Build the device.
    Device,
    /// Build the guest agent.
    Agent,
    /// Build the driver and test modules for the kernel.
    Driver,
    /// Put the guest's files together.
    Initramfs,
    /// Find QEMU and decide between KVM and TCG.
    Qemu,
    /// Have KVM boot the guest's kernel.
    Kvm,
    /// Make the namespaces of the run.
    Isolate,
    /// Boot a guest until its agent answers.
    Boot {
        /// Its virtual CPUs.
        vcpus: u8,
    },
    /// A part of a scenario.
    Run(String),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.pad("kernel"),
            Self::Tools => f.pad("tools"),
            Self::Device => f.pad("device"),
            Self::Agent => f.pad("agent"),
            Self::Driver => f.pad("driver"),
            Self::Initramfs => f.pad("initramfs"),
            Self::Qemu => f.pad("qemu"),
            Self::Kvm => f.pad("kvm"),
            Self::Isolate => f.pad("isolate"),
            Self::Boot { vcpus: 1 } => f.pad("boot, 1 vCPU"),
            Self::Boot { vcpus } => f.pad(&format!("boot, {vcpus} vCPUs")),
            Self::Run(name) => f.pad(name),
        }
    }
}

/// A finished stage.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded; in a few words.
    Done(String),
    /// It failed.
    Failed,
    /// The user did not want to wait for it.
    Interrupted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(result) => result,
            Self::Failed => "FAILED",
            Self::Interrupted => "interrupted",
        })
    }
}

/// Shows stages, one after another, on standard error.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    quiet: bool,
    finished: Vec<Finished>,
}

/// Without a terminal, a stage that goes on this long says so.
const HEARTBEAT: Duration = Duration::from_secs(15);

impl Progress {
    /// A bar when standard error is a terminal, lines otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal(), quiet: false, finished: Vec::new() }
    }

    /// Shows nothing, for tests.
    #[must_use]
    pub fn quiet() -> Self {
        Self { terminal: false, quiet: true, finished: Vec::new() }
    }

    /// Begin a stage; it lasts until [`Running::done`], and has failed or was interrupted when it
    /// is dropped before that.
    pub fn stage(&mut self, stage: Stage) -> Running<'_> {
        let target =
            if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target)
            .with_prefix(stage.to_string())
            .with_style(spinner());
        bar.tick();
        Running {
            progress: self,
            stage,
            started: Instant::now(),
            spoken: Instant::now(),
            bar,
            result: None,
        }
    }

    /// The stages so far.
    #[must_use]
    pub fn finished(&self) -> &[Finished] {
        &self.finished
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            errln!("{text}");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// A stage that is going on.
#[derive(Debug)]
pub struct Running<'a> {
    progress: &'a mut Progress,
    stage: Stage,
    started: Instant,
    spoken: Instant,
    bar: ProgressBar,
    result: Option<String>,
}

impl Running<'_> {
    /// Say how far the stage has come, in steps of any unit.
    pub fn at(&mut self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(counted());
        }
        self.bar.set_position(done);
        self.heartbeat(&format!("{done}/{total}"));
    }

    /// Say what the stage is at; call it also just to keep the display alive.
    pub fn note(&mut self, text: &str) {
        if !text.is_empty() {
            self.bar.set_message(text.to_owned());
        }
        self.bar.tick();
        self.heartbeat(text);
    }

    /// The stage has succeeded; `result` in a few words.
    pub fn done(mut self, result: impl Into<String>) {
        self.result = Some(result.into());
    }

    fn heartbeat(&mut self, text: &str) {
        if !self.progress.terminal && self.spoken.elapsed() >= HEARTBEAT {
            self.spoken = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            self.progress.line(&format!("{:<14} ... {seconds} s {text}", self.stage));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let took = self.started.elapsed();
        let outcome = match self.result.take() {
            Some(result) => Outcome::Done(result),
            None if interrupt::requested() => Outcome::Interrupted,
            None => Outcome::Failed,
        };
        let finished = Finished { stage: self.stage.clone(), took, outcome };
        self.progress.line(&finished.to_string());
        self.progress.finished.push(finished);
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14} {:>6.1} s  {}", self.stage, self.took.as_secs_f64(), self.outcome)
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:14} {spinner} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:14} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_is_dropped_has_failed() {
        let mut progress = Progress::quiet();
        progress.stage(Stage::Kernel).done("6.1");
        drop(progress.stage(Stage::Boot { vcpus: 2 }));
        let outcomes: Vec<_> = progress.finished().iter().map(|f| f.outcome.clone()).collect();
        assert_eq!(outcomes, [Outcome::Done("6.1".to_owned()), Outcome::Failed]);
    }

    #[test]
    fn a_line_has_stage_duration_and_result() {
        let took = Duration::from_millis(2340);
        let mut finished = Finished {
            stage: Stage::Boot { vcpus: 2 },
            took,
            outcome: Outcome::Done("6.1.0-56".into()),
        };
        assert_eq!(finished.to_string(), "boot, 2 vCPUs     2.3 s  6.1.0-56");
        finished.outcome = Outcome::Failed;
        assert!(finished.to_string().ends_with("FAILED"));
    }

    #[test]
    fn the_templates_are_valid() {
        for template in [
            "{prefix:14} {spinner} {elapsed} {wide_msg}",
            "{prefix:14} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}",
        ] {
            ProgressStyle::with_template(template).expect("a template");
        }
    }
}

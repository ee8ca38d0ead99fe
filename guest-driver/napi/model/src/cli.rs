// SPDX-License-Identifier: GPL-2.0-only
//! The command line.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::protocol::{V4_10, V4_11, V6_1, V6_1PollThenWatchdog, V7_3};
use crate::random::{Explored, explore};
use crate::scenario::{Owner, Scenario, Settings};
use crate::table;

/// Models of NAPI's scheduling protocol.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Explore every interleaving of the protocol and of each change to it, and write the table of
    /// docs/napi-ablation.md
    Table {
        /// File whose generated part is replaced
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/napi-ablation.md"))]
        file: PathBuf,
    },
    /// Run random interleavings of a world of any size
    Explore(Explore),
}

/// The protocols of real kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kernel {
    /// Linux 4.10.0, pre-fix
    #[value(name = "4.10.0")]
    V4_10,
    /// Linux 4.11, fixed
    #[value(name = "4.11")]
    V4_11,
    /// Linux 6.1 and 6.12 before 58e2330bd455: a preferred busy loop starts the watchdog, then polls
    /// for the last time
    #[value(name = "6.1")]
    V6_1,
    /// Linux 6.1 and 6.12 with 58e2330bd455, as stable kernels have it: polls for the last time,
    /// then starts the watchdog
    #[value(name = "6.1-58e2330bd455")]
    V6_1PollThenWatchdog,
    /// Linux 7.3, with 7599c13dbe7a: starts the watchdog, and polls no more
    #[value(name = "7.3")]
    V7_3,
}

/// A random exploration.
#[derive(Debug, clap::Args)]
struct Explore {
    /// Whose protocol
    #[arg(long, default_value = "4.10.0")]
    kernel: Kernel,
    /// Seed of the first execution; the n-th has seed + n
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Executions
    #[arg(long, default_value_t = 10_000)]
    iterations: u64,
    /// Owners of each instance beside the interrupt: busy-poll (or busy-poll:TURNS), watchdog,
    /// driver, down, reopen
    #[arg(long, value_delimiter = ',', default_value = "busy-poll:3,driver,watchdog")]
    owners: Vec<Owner>,
    /// NAPI instances, each with a device
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// Packets that each device publishes
    #[arg(long, default_value_t = 4)]
    packets: u32,
    /// Packets in each ring at the start
    #[arg(long, default_value_t = 2)]
    waiting: u32,
    /// Packets that use up the budget of a poll: 1, 2, 4 or 8
    #[arg(long, default_value_t = 8)]
    budget: u32,
    /// The sockets prefer busy polling, and interrupts are deferred: only so do the three ends of a
    /// busy loop differ. Not with 4.10.0 or 4.11, which have neither
    #[arg(long)]
    prefer_busy_poll: bool,
}

impl FromStr for Owner {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, turns) = text.split_once(':').unzip();
        match (name.unwrap_or(text), turns) {
            ("busy-poll", turns) => {
                let turns =
                    turns.unwrap_or("1").parse().with_context(|| format!("Turns of `{text}`"))?;
                ensure!(turns > 0, "A busy poller has at least one turn: `{text}`");
                Ok(Self::BusyPoll { turns })
            }
            ("watchdog", None) => Ok(Self::Watchdog),
            ("driver", None) => Ok(Self::Driver { times: 1 }),
            ("down", None) => Ok(Self::Disable { reopen: false }),
            ("reopen", None) => Ok(Self::Disable { reopen: true }),
            _ => Err(anyhow!("No such owner: `{text}`")),
        }
    }
}

impl TryFrom<&Explore> for Scenario {
    type Error = anyhow::Error;

    fn try_from(args: &Explore) -> Result<Self> {
        ensure!(
            matches!(args.budget, 1 | 2 | 4 | 8),
            "A budget is 1, 2, 4 or 8 packets, not {}",
            args.budget
        );
        ensure!(args.queues > 0, "There is at least one queue");
        ensure!(
            !(args.prefer_busy_poll && matches!(args.kernel, Kernel::V4_10 | Kernel::V4_11)),
            "--prefer-busy-poll is for kernels from 6.1 on"
        );
        let settings =
            if args.prefer_busy_poll { Settings::PREFER_BUSY_POLL } else { Settings::GRO };
        // As long-lived as the process, which runs one exploration.
        let owners: &'static [Owner] = args.owners.clone().leak();
        let (packets, waiting, weight) =
            (args.packets, args.waiting, napi_state::BUSY_POLL_BUDGET / args.budget);
        Ok(Self { owners, waiting, packets, weight, settings, ..Self::INTERRUPT })
    }
}

impl Explore {
    fn run(&self) -> Result<Explored> {
        let scenario = Scenario::try_from(self)?;
        let explore = match self.kernel {
            Kernel::V4_10 => explore::<V4_10>,
            Kernel::V4_11 => explore::<V4_11>,
            Kernel::V6_1 => explore::<V6_1>,
            Kernel::V6_1PollThenWatchdog => explore::<V6_1PollThenWatchdog>,
            Kernel::V7_3 => explore::<V7_3>,
        };
        println!("First seed {}, {} executions.", self.seed, self.iterations);
        let explored = explore(&scenario, self.queues, self.seed, self.iterations);
        print!("{}", explored.outcome.report());
        if let Some(seed) = explored.broken_seed {
            println!("\nThe first broken one again: the same with --seed {seed} --iterations 1");
        }
        Ok(explored)
    }
}

/// Does what the command line says. Failure when an exploration found something broken.
///
/// # Errors
/// When the command line makes no sense, or the file cannot be read or written.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Table { file } => {
            let before =
                fs::read_to_string(file).with_context(|| format!("Reading {}", file.display()))?;
            let after = table::replace(&before, &table::markdown(&table::parts()))
                .with_context(|| format!("Replacing the generated part of {}", file.display()))?;
            fs::write(file, after).with_context(|| format!("Writing {}", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explore(args) => {
            let explored = args.run()?;
            Ok(if explored.broken_seed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `tsnic ctl`: a running device seen and set from the command line, over its control socket.

mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use thiserror::Error;
use tsnic_protocol::plan::{self as said, LoadError};
use tsnic_protocol::{Adjustment, Moderation, PairRequest, Reply, Request, Status, Vector};

use crate::ask::{AskError, Device};
use crate::plan::Plan;

/// What is seen or set.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Say what the device is doing.
    Status {
        /// As the control socket says it: one JSON object a queue pair.
        #[arg(long)]
        json: bool,
    },
    /// Print every counter (docs/counters.md), a column for each queue pair.
    Counters,
    /// Change a setting of the running device.
    #[command(subcommand)]
    Set(Setting),
    /// Put a plan's moderation, policies and packet policies to work, instead of those before, on
    /// every queue pair. What an arm does (rearm) can only be said at the start: tsnic --plan.
    Plan {
        /// The plan; - for none: interrupts at once, and no policies.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print what happens, one JSON object a line, until the device ends.
    Events,
}

/// A setting.
#[derive(Clone, Debug, Subcommand)]
pub enum Setting {
    /// Moderation of the interrupts of a vector, with the meaning of ethtool -C: at once, when
    /// neither limit is given.
    Moderation(ModerationArgs),
    /// The NIC's clock, which all queue pairs have.
    Clock(ClockArgs),
}

/// Moderation of a vector.
#[derive(Clone, Copy, Debug, Args)]
pub struct ModerationArgs {
    /// The vector.
    #[arg(value_enum)]
    vector: VectorArg,
    /// Microseconds from the first packet.
    #[arg(long, value_name = "N", default_value_t = 0)]
    usecs: u32,
    /// Packets.
    #[arg(long, value_name = "N", default_value_t = 0)]
    frames: u32,
    /// The device chooses both by the traffic.
    #[arg(long, conflicts_with_all = ["usecs", "frames"])]
    adaptive: bool,
}

/// A vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VectorArg {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

/// An adjustment of the clock.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ClockArgs {
    /// It shows so many nanoseconds now.
    #[arg(long, value_name = "NS")]
    set_ns: Option<u64>,
    /// It goes so many nanoseconds on, or back.
    #[arg(long, value_name = "NS", allow_negative_numbers = true)]
    step_ns: Option<i64>,
    /// It runs so much faster than the host's, or slower: parts in a billion.
    #[arg(long, value_name = "PPB", allow_negative_numbers = true)]
    rate_ppb: Option<i64>,
}

impl From<ClockArgs> for Adjustment {
    fn from(args: ClockArgs) -> Self {
        match args {
            ClockArgs { set_ns: Some(ns), .. } => Self::SetNs(ns),
            ClockArgs { step_ns: Some(ns), .. } => Self::StepNs(ns),
            ClockArgs { rate_ppb, .. } => Self::RatePpb(rate_ppb.unwrap_or_default()),
        }
    }
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum CtlError {
    /// The device cannot be talked to.
    #[error(transparent)]
    Device(#[from] AskError),
    /// It refused.
    #[error("Queue pair {pair}: {message}")]
    Refused {
        /// What it was asked of.
        pair: u16,
        /// Why.
        message: String,
    },
    /// It said something else than what belongs to the request.
    #[error("The device's answer belongs to no such request")]
    Answer,
    /// A plan.
    #[error(transparent)]
    Plan(#[from] LoadError),
    /// A plan that is for the start of a device.
    #[error("{}: what an arm does (rearm) can only be said at the start: tsnic --plan", .0.display())]
    Rearm(PathBuf),
    /// The result cannot be written.
    #[error("Cannot write")]
    Write(#[from] io::Error),
}

/// Does it on one queue pair or, without one, on all.
///
/// # Errors
/// See [`CtlError`]. A setting that is refused for one pair was made for those before it.
pub fn run(
    control: &Path,
    pair: Option<u16>,
    action: &Action,
    out: &mut impl Write,
) -> Result<(), CtlError> {
    // Before the device is looked for: what is wrong with a file is wrong without one, too.
    let plan = match action {
        Action::Plan { file } => Some(plan(file)?),
        _ => None,
    };
    let mut device = Device::connect(control)?;
    match action {
        Action::Status { json: true } => {
            for status in statuses(&mut device, pair)? {
                serde_json::to_writer(&mut *out, &status).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Action::Status { json: false } => {
            for status in statuses(&mut device, pair)? {
                write!(out, "{}", text::Told(&status))?;
            }
        }
        Action::Counters => text::counters(&statuses(&mut device, pair)?, out)?,
        Action::Set(Setting::Clock(args)) => {
            order(&mut device, pair.unwrap_or(0), Request::Clock((*args).into()))?;
        }
        Action::Set(Setting::Moderation(args)) => {
            let &ModerationArgs { vector, usecs, frames, adaptive } = args;
            let vector = if vector == VectorArg::Rx { Vector::Rx } else { Vector::Tx };
            let moderation = Moderation { vector, usecs, frames, adaptive };
            for pair in pairs(&mut device, pair)? {
                order(&mut device, pair, Request::Moderation(moderation))?;
            }
        }
        Action::Plan { .. } => {
            for pair in pairs(&mut device, pair)? {
                for request in plan.iter().flat_map(|plan| requests(&plan.of_pair(pair))) {
                    order(&mut device, pair, request)?;
                }
            }
        }
        Action::Events => events(&mut device, pair, out)?,
    }
    Ok(())
}

/// The queue pairs that are meant.
fn pairs(device: &mut Device, pair: Option<u16>) -> Result<Vec<u16>, CtlError> {
    match pair {
        Some(pair) => Ok(vec![pair]),
        None => Ok((0..status(device, 0)?.pairs.max(1)).collect()),
    }
}

fn statuses(device: &mut Device, pair: Option<u16>) -> Result<Vec<Status>, CtlError> {
    pairs(device, pair)?.into_iter().map(|pair| status(device, pair)).collect()
}

fn status(device: &mut Device, pair: u16) -> Result<Status, CtlError> {
    match device.ask(&PairRequest { pair, request: Request::Status })? {
        Reply::Status(status) => Ok(*status),
        reply => Err(not(pair, reply)),
    }
}

fn order(device: &mut Device, pair: u16, request: Request) -> Result<(), CtlError> {
    match device.ask(&PairRequest { pair, request })? {
        Reply::Done => Ok(()),
        reply => Err(not(pair, reply)),
    }
}

fn not(pair: u16, reply: Reply) -> CtlError {
    match reply {
        Reply::Error { message } => CtlError::Refused { pair, message },
        _ => CtlError::Answer,
    }
}

/// Prints events, of one pair or of all, until the device ends.
fn events(device: &mut Device, pair: Option<u16>, out: &mut impl Write) -> Result<(), CtlError> {
    order(device, 0, Request::Events)?;
    loop {
        let event = match device.reply() {
            Ok((Reply::Event(event), _)) => event,
            Ok(_) => return Err(CtlError::Answer),
            Err(AskError::Broken(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if pair.is_none_or(|pair| event.pair == pair) {
            serde_json::to_writer(&mut *out, &event).map_err(io::Error::from)?;
            writeln!(out)?;
            out.flush()?;
        }
    }
}

/// A plan that a running device can carry out; none for `-`.
fn plan(file: &Path) -> Result<said::Plan, CtlError> {
    if file == Path::new("-") {
        return Ok(said::Plan::default());
    }
    Plan::load(file)?;
    let (plan, _) = said::load(file)?;
    if plan.rearm == said::Rearm::default() { Ok(plan) } else { Err(CtlError::Rearm(file.into())) }
}

/// What puts the plan of a queue pair to work, as `--plan` does.
fn requests(plan: &said::Plan) -> Vec<Request> {
    let moderation = [Vector::Rx, Vector::Tx].map(|vector| {
        let asked = plan.moderation.iter().find(|it| it.vector == vector);
        let at_once = Moderation { vector, usecs: 0, frames: 0, adaptive: false };
        Request::Moderation(asked.copied().unwrap_or(at_once))
    });
    let paths = [Request::Policies(plan.policies()), Request::Packets(plan.packets())];
    moderation.into_iter().chain(paths).collect()
}

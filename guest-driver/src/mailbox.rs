// SPDX-License-Identifier: GPL-2.0-only
//! Commands to the device, in the mailbox of the page (docs/interface.md, "Mailbox"): what ethtool
//! asks of a NIC beside its rings. Process context, one at a time: under RTNL.

use tsnic_abi::{COMMAND_WORDS, adaptive, caps, command_status, from_words, op, to_words};

use crate::queue_page::QueuePage;
use crate::shared::Shared;
use crate::stats::Stat;

/// The device has answered by then, microseconds, or never will.
const LIMIT_US: u32 = 1_000_000;
/// The first look, and the longest time between two of them, microseconds.
const LOOK_US: (u32, u32) = (20, 1_000);

/// Arguments of a command, or values of an answer.
type Words = [u32; COMMAND_WORDS];

/// What commands need of the kernel.
pub trait MailboxPort {
    /// Kicks the receive queue, whatever notification suppression says.
    fn kick(&mut self);
    /// Sleeps for so many microseconds, or somewhat longer.
    fn sleep_us(&mut self, us: u32);
}

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The device has no mailbox, or does not know the operation.
    Unsupported,
    /// An argument is out of range.
    Range,
    /// The device has not answered, or has forgotten the page meanwhile.
    Silent,
}

/// Moderation of both vectors, as `ethtool -C` means it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    /// `rx-usecs`.
    pub rx_usecs: u32,
    /// `rx-frames`.
    pub rx_frames: u32,
    /// `tx-usecs`.
    pub tx_usecs: u32,
    /// `tx-frames`.
    pub tx_frames: u32,
    /// `adaptive-rx`.
    pub adaptive_rx: bool,
    /// `adaptive-tx`.
    pub adaptive_tx: bool,
}

impl Moderation {
    fn of(words: Words) -> Self {
        let [rx_usecs, rx_frames, tx_usecs, tx_frames, bits, _] = words;
        let [adaptive_rx, adaptive_tx] = [adaptive::RX, adaptive::TX].map(|bit| bits & bit != 0);
        Self { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx }
    }
}

/// The moderation in force.
///
/// # Errors
/// As [`CommandError`] says.
pub fn moderation<P: MailboxPort>(
    shared: &Shared<'_>,
    port: &mut P,
) -> Result<Moderation, CommandError> {
    command(shared, port, caps::MAILBOX, op::GET_MODERATION, Words::default()).map(Moderation::of)
}

/// Moderates so from now on; what is in force then. A device that cannot choose by the traffic does
/// not answer with that, and takes the rest.
///
/// # Errors
/// As [`CommandError`] says. Without an answer it is not known what is in force.
pub fn set_moderation<P: MailboxPort>(
    shared: &Shared<'_>,
    port: &mut P,
    wanted: Moderation,
) -> Result<Moderation, CommandError> {
    let Moderation { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx } = wanted;
    let bits = [(adaptive_rx, adaptive::RX), (adaptive_tx, adaptive::TX)]
        .into_iter()
        .fold(0, |bits, (on, bit)| if on { bits | bit } else { bits });
    let args = [rx_usecs, rx_frames, tx_usecs, tx_frames, bits, 0];
    let set = command(shared, port, caps::MAILBOX, op::SET_MODERATION, args).map(Moderation::of)?;
    let taken = set.adaptive_rx == adaptive_rx && set.adaptive_tx == adaptive_tx;
    if taken { Ok(set) } else { Err(CommandError::Unsupported) }
}

/// What is to be done with the NIC's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockCommand {
    /// Read it.
    Read,
    /// It shows so many nanoseconds now.
    Set(u64),
    /// It goes so many nanoseconds on or, negative, back.
    Step(i64),
    /// It runs so much faster than without: 2^-16 parts in a million, as `adjfine` has it.
    Rate(i64),
}

/// What the NIC's clock shows, nanoseconds, after this has been done.
///
/// # Errors
/// As [`CommandError`] says. Without an answer it is not known whether it was done.
pub fn clock<P: MailboxPort>(
    shared: &Shared<'_>,
    port: &mut P,
    wanted: ClockCommand,
) -> Result<u64, CommandError> {
    let (op, argument) = match wanted {
        ClockCommand::Read => (op::GET_CLOCK, 0),
        ClockCommand::Set(ns) => (op::SET_CLOCK, ns),
        ClockCommand::Step(ns) => (op::STEP_CLOCK, ns.cast_unsigned()),
        ClockCommand::Rate(rate) => (op::SET_CLOCK_RATE, rate.cast_unsigned()),
    };
    let [low, high] = to_words(argument);
    let [low, high, ..] = command(shared, port, caps::CLOCK, op, [low, high, 0, 0, 0, 0])?;
    Ok(from_words([low, high]))
}

fn command<P: MailboxPort>(
    shared: &Shared<'_>,
    port: &mut P,
    capability: u32,
    op: u32,
    args: Words,
) -> Result<Words, CommandError> {
    let page = shared.page_with(capability).ok_or(CommandError::Unsupported)?;
    let number = shared.stats.add(Stat::Commands, 1) as u32;
    page.command(number, op, args);
    port.kick();
    let answer = wait(shared, page, port, number).ok_or(CommandError::Silent);
    let (status, values) =
        answer.inspect_err(|_| _ = shared.stats.add(Stat::CommandsUnanswered, 1))?;
    match status {
        command_status::DONE => Ok(values),
        command_status::RANGE => Err(CommandError::Range),
        _ => Err(CommandError::Unsupported),
    }
}

fn wait<P: MailboxPort>(
    shared: &Shared<'_>,
    page: QueuePage<'_>,
    port: &mut P,
    number: u32,
) -> Option<(u32, Words)> {
    let (mut waited, mut pause) = (0, LOOK_US.0);
    while waited < LIMIT_US && shared.page_is_in_use() {
        port.sleep_us(pause);
        if let Some(answer) = page.answer(number) {
            return Some(answer);
        }
        waited += pause;
        pause = LOOK_US.1.min(2 * pause);
    }
    None
}

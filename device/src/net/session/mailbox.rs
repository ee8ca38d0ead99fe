// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands of the driver in the mailbox of its page (docs/interface.md, "Mailbox").

use tsnic_abi::{COMMAND_WORDS, adaptive, command_status, from_words, op, to_words};
use tsnic_core::moderation::{FRAMES_MAX, Limits, Setting, USECS_MAX};
use tsnic_core::nic_clock::{Adjustment, OutOfRange};
use tsnic_core::path::Path;
use tsnic_core::time::NicTime;

use super::super::queue_page::Command;
use super::Session;
use crate::clock::Clock;
use crate::net::pair::{RX, TX};
use crate::port::Port;

type Values = [u32; COMMAND_WORDS];

impl<P: Port, C: Clock> Session<'_, '_, P, C> {
    /// Carries out the driver's command, if there is one.
    pub(super) fn serve_mailbox(&mut self) {
        let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page) else { return };
        let Some(command) = cells.command(page.command) else { return };
        page.command = command.number;
        let answer = carry_out(command, &mut self.pair.paths, &self.pair.clock);
        let (status, values) = match answer {
            Ok(values) => (command_status::DONE, values),
            Err(status) => (status, Values::default()),
        };
        cells.answer(command.number, status, values);
        self.pair.counters.commands += 1;
        self.pair.counters.commands_refused += u64::from(answer.is_err());
    }
}

/// The values of the answer, or the status of a command that cannot be.
fn carry_out(
    Command { op, args, .. }: Command,
    paths: &mut [Path; 2],
    clock: &impl Clock,
) -> Result<Values, u32> {
    let number = from_words([args[0], args[1]]);
    match op {
        op::GET_MODERATION => Ok(moderation(paths)),
        op::SET_MODERATION => set_moderation(args, paths),
        op::GET_CLOCK => Ok(time(clock)),
        op::SET_CLOCK => adjust(clock, Adjustment::Set(NicTime::from_ns(number))),
        op::STEP_CLOCK => adjust(clock, Adjustment::Step(number.cast_signed())),
        op::SET_CLOCK_RATE => adjust(clock, Adjustment::Rate(number.cast_signed())),
        _ => Err(command_status::UNKNOWN),
    }
}

fn set_moderation(args: Values, paths: &mut [Path; 2]) -> Result<Values, u32> {
    let [rx_usecs, rx_frames, tx_usecs, tx_frames, bits, _] = args;
    let limits = [(rx_usecs, rx_frames), (tx_usecs, tx_frames)];
    let known = bits & !(adaptive::RX | adaptive::TX) == 0;
    if !known || limits.iter().any(|(usecs, frames)| *usecs > USECS_MAX || *frames > FRAMES_MAX) {
        return Err(command_status::RANGE);
    }
    let settings = limits.into_iter().zip([adaptive::RX, adaptive::TX]);
    for (path, ((usecs, frames), bit)) in paths.iter_mut().zip(settings) {
        let (limits, adaptive) = (Limits { usecs, frames }, bits & bit != 0);
        path.set_moderation(Setting { limits, adaptive });
    }
    Ok(moderation(paths))
}

fn moderation(paths: &[Path; 2]) -> Values {
    let [rx, tx] = [RX, TX].map(|queue| paths[queue].moderation());
    let bits = [(rx, adaptive::RX), (tx, adaptive::TX)]
        .into_iter()
        .fold(0, |bits, (setting, bit)| if setting.adaptive { bits | bit } else { bits });
    let [rx, tx] = [rx.limits, tx.limits];
    [rx.usecs, rx.frames, tx.usecs, tx.frames, bits, 0]
}

fn adjust(clock: &impl Clock, adjustment: Adjustment) -> Result<Values, u32> {
    clock.adjust(adjustment).map_err(|OutOfRange| command_status::RANGE)?;
    Ok(time(clock))
}

fn time(clock: &impl Clock) -> Values {
    let [time, rate] = [clock.now().nic.as_ns(), clock.rate().cast_unsigned()].map(to_words);
    [time[0], time[1], rate[0], rate[1], 0, 0]
}

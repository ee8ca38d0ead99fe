// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands of the driver in the mailbox of its page (docs/interface.md, "Mailbox").

use tsnic_abi::{COMMAND_WORDS, adaptive, command_status, op};
use tsnic_core::moderation::{FRAMES_MAX, Limits, Setting, USECS_MAX};
use tsnic_core::path::Path;

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
        let answer = carry_out(command, &mut self.pair.paths);
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
fn carry_out(command: Command, paths: &mut [Path; 2]) -> Result<Values, u32> {
    match command.op {
        op::GET_MODERATION => {}
        op::SET_MODERATION => {
            let [rx_usecs, rx_frames, tx_usecs, tx_frames, bits, _] = command.args;
            let limits = [(rx_usecs, rx_frames), (tx_usecs, tx_frames)];
            let known = bits & !(adaptive::RX | adaptive::TX) == 0;
            if !known
                || limits.iter().any(|(usecs, frames)| *usecs > USECS_MAX || *frames > FRAMES_MAX)
            {
                return Err(command_status::RANGE);
            }
            let settings = limits.into_iter().zip([adaptive::RX, adaptive::TX]);
            for (path, ((usecs, frames), bit)) in paths.iter_mut().zip(settings) {
                path.set_moderation(Setting {
                    limits: Limits { usecs, frames },
                    adaptive: bits & bit != 0,
                });
            }
        }
        _ => return Err(command_status::UNKNOWN),
    }
    let [rx, tx] = [RX, TX].map(|queue| paths[queue].moderation());
    let bits = [(rx, adaptive::RX), (tx, adaptive::TX)]
        .into_iter()
        .fold(0, |bits, (setting, bit)| if setting.adaptive { bits | bit } else { bits });
    let [rx, tx] = [rx.limits, tx.limits];
    Ok([rx.usecs, rx.frames, tx.usecs, tx.frames, bits, 0])
}

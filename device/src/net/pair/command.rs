// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the control socket asks of the interrupt paths and of the wire.

use tsnic_core::nic_clock::OutOfRange;
use tsnic_core::path::Path;
use tsnic_core::policy::Policies;
use tsnic_core::time::Instant;

use super::{RX, TX};
use crate::clock::Clock;
use crate::control::channel::{Answer, PathCommand};
use crate::net::lateness::Lateness;
use crate::port::Port;
use crate::port::wire::Wire;

/// Carries out what the control socket asks of the interrupt paths and of the wire.
pub(in crate::net) fn path_command<P: Port, C: Clock>(
    clock: &C,
    paths: &mut [Path; 2],
    lateness: &mut [Lateness; 2],
    wire: &mut Wire<P>,
    command: PathCommand,
    now: Instant,
) -> Answer {
    match command {
        PathCommand::Moderation(queue, setting) => paths[queue].set_moderation(setting),
        PathCommand::Policies(seed, stacks) => {
            // A seed of its own for each queue, so that none follows the other.
            let seeds = [seed, !seed];
            let stacks = [RX, TX].map(|queue| Policies::new(&stacks[queue], seeds[queue], now));
            match stacks {
                [Ok(rx), Ok(tx)] => {
                    for (path, policies) in paths.iter_mut().zip([rx, tx]) {
                        path.set_policies(policies, now);
                    }
                    for lateness in lateness {
                        lateness.clear();
                    }
                }
                [Err(error), _] | [_, Err(error)] => return Answer::Refused(error.to_string()),
            }
        }
        PathCommand::Packets(seed, specs) => {
            if let Err(error) = wire.set_policies(seed, &specs) {
                return Answer::Refused(error.to_string());
            }
        }
        PathCommand::Clock(adjustment) => {
            if let Err(OutOfRange) = clock.adjust(adjustment) {
                return Answer::Refused("The clock cannot be adjusted so far".into());
            }
        }
        PathCommand::Schedule(queue) => {
            return Answer::Paths(Some(paths[queue].schedule().clone()));
        }
    }
    Answer::Paths(None)
}

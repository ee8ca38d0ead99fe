// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plans in files: what is asked of the device, checked.

use std::path::Path;

use tsnic_core::arming::Rearm;
use tsnic_core::moderation::Setting;
use tsnic_core::policy::spec::PolicySpec;
use tsnic_core::wire::spec::PacketSpec;
use tsnic_protocol::plan::{self as said, LoadError, PlanError, position};

use crate::control::channel::PathCommand;
use crate::control::{packets, policies};
use crate::net::pair::InterruptConfig;

#[cfg(test)]
mod tests;

/// What a plan asks of the device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What it is for.
    pub about: String,
    /// Moderation, and what an arm does.
    pub interrupts: InterruptConfig,
    /// Seed of the policies, and of the packet policies.
    pub seed: u64,
    /// The policies of each queue.
    pub policies: [Vec<PolicySpec>; 2],
    /// The packet policies of each direction, by queue.
    pub packets: [Vec<PacketSpec>; 2],
}

impl Plan {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no plan.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let (plan, text) = said::load(path)?;
        Self::of(plan, &text).map_err(|error| LoadError::Wrong { path: path.to_owned(), error })
    }

    /// Checks a plan, which was read from `text`.
    ///
    /// # Errors
    /// When it asks for what cannot be.
    pub fn of(plan: said::Plan, text: &str) -> Result<Self, PlanError> {
        let mut moderation = [None; 2];
        for (place, asked) in plan.moderation.iter().enumerate() {
            let fail = |field, message| {
                Err(PlanError { position: position(text, "moderation", place, field), message })
            };
            let (queue, setting) = match policies::moderation(*asked) {
                Ok(setting) => setting,
                Err(error) => return fail(Some(error.field), error.to_string()),
            };
            if moderation[queue].replace(setting).is_some() {
                let message = "moderation of this vector is said twice".into();
                return fail(Some("vector"), message);
            }
        }
        let stacks = policies::policies(&plan.policies()).map_err(|error| PlanError {
            position: position(text, "policy", error.place, error.source.field),
            message: error.source.to_string(),
        })?;
        let packets = packets::packets(&plan.packets).map_err(|error| PlanError {
            position: position(text, "packets", error.place, error.field),
            message: format!("{}: {}", error.kind, error.what),
        })?;
        Ok(Self {
            interrupts: InterruptConfig {
                moderation: moderation.map(Option::<Setting>::unwrap_or_default),
                rearm: rearm(plan.rearm),
            },
            about: plan.about,
            seed: plan.seed,
            policies: stacks,
            packets,
        })
    }

    /// The commands that put its policies and packet policies to work on a queue pair, with a seed of
    /// that pair's own; none when it has none.
    #[must_use]
    pub fn commands(&self, pair: u16) -> Vec<PathCommand> {
        let policies = self.policies.iter().any(|stack| !stack.is_empty());
        let packets = self.packets.iter().any(|specs| !specs.is_empty());
        let seed = self.seed.wrapping_add(pair.into());
        let policies = policies.then(|| PathCommand::Policies(seed, self.policies.clone()));
        let packets = packets.then(|| PathCommand::Packets(seed, self.packets.clone()));
        policies.into_iter().chain(packets).collect()
    }

    /// A right driver must survive it: packets get lost on any wire, but a driver for another kind of
    /// device need not survive an edge.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.interrupts.rearm != Rearm::Edge
            && self.policies.iter().flatten().all(PolicySpec::is_conformant)
    }
}

const fn rearm(kind: said::Rearm) -> Rearm {
    match kind {
        said::Rearm::OneShot => Rearm::OneShot,
        said::Rearm::Level => Rearm::Level,
        said::Rearm::Edge => Rearm::Edge,
        said::Rearm::NoAutomask => Rearm::NoAutomask,
    }
}

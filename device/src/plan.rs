// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plans in files: what is asked of the device, checked.

use std::collections::BTreeMap;
use std::path::Path;

use tsnic_core::arming::Rearm;
use tsnic_core::moderation::Setting;
use tsnic_core::policy::spec::PolicySpec;
use tsnic_core::wire::spec::PacketSpec;
use tsnic_protocol::plan::{self as said, LoadError, PlanError, Step, position};

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
    /// Seed of the policies, and of the packet policies.
    pub seed: u64,
    /// What is asked of queue pairs that are not named.
    pub all: PairPlan,
    /// What is asked of those that are.
    pub pairs: BTreeMap<u16, PairPlan>,
}

/// What a plan asks of a queue pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairPlan {
    /// Moderation, and what an arm does.
    pub interrupts: InterruptConfig,
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
        Self::of(&plan, &text).map_err(|error| LoadError::Wrong { path: path.to_owned(), error })
    }

    /// Checks a plan, which was read from `text`.
    ///
    /// # Errors
    /// When it asks for what cannot be.
    pub fn of(plan: &said::Plan, text: &str) -> Result<Self, PlanError> {
        let pairs = plan.pair.iter().enumerate().map(|(place, pair)| {
            let within = [Step::Field("pair"), Step::Entry(place)];
            Ok((pair.number, PairPlan::of(&plan.of_pair(pair.number), &within, text)?))
        });
        Ok(Self {
            about: plan.about.clone(),
            seed: plan.seed,
            all: PairPlan::of(plan, &[], text)?,
            pairs: pairs.collect::<Result<_, _>>()?,
        })
    }

    /// What is asked of a queue pair.
    #[must_use]
    pub fn of_pair(&self, pair: u16) -> &PairPlan {
        self.pairs.get(&pair).unwrap_or(&self.all)
    }

    /// The commands that put its policies and packet policies to work on a queue pair, with a seed
    /// of that pair's own; none when it has none.
    #[must_use]
    pub fn commands(&self, pair: u16) -> Vec<PathCommand> {
        let seed = self.seed.wrapping_add(pair.into());
        let PairPlan { policies, packets, .. } = self.of_pair(pair);
        let has_policies = policies.iter().any(|stack| !stack.is_empty());
        let has_packets = packets.iter().any(|specs| !specs.is_empty());
        let policies = has_policies.then(|| PathCommand::Policies(seed, policies.clone()));
        let packets = has_packets.then(|| PathCommand::Packets(seed, packets.clone()));
        policies.into_iter().chain(packets).collect()
    }

    /// A right driver must survive it: packets get lost on any wire, but a driver for another kind of
    /// device need not survive an edge.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.pairs.values().chain([&self.all]).all(|plan| {
            plan.interrupts.rearm != Rearm::Edge
                && plan.policies.iter().flatten().all(PolicySpec::is_conformant)
        })
    }
}

impl PairPlan {
    /// Checks what a plan has, whose lists are `within` the plan in `text`.
    fn of(plan: &said::Plan, within: &[Step<'_>], text: &str) -> Result<Self, PlanError> {
        let at = |list, place, field: Option<_>| {
            let entry = [Step::Field(list), Step::Entry(place)];
            position(text, &[within, &entry, field.map(Step::Field).as_slice()].concat())
        };
        let mut moderation = [None; 2];
        for (place, asked) in plan.moderation.iter().enumerate() {
            let fail = |field, message| {
                Err(PlanError { position: at("moderation", place, Some(field)), message })
            };
            let (queue, setting) = match policies::moderation(*asked) {
                Ok(setting) => setting,
                Err(error) => return fail(error.field, error.to_string()),
            };
            if moderation[queue].replace(setting).is_some() {
                return fail("vector", "moderation of this vector is said twice".into());
            }
        }
        let stacks = policies::policies(&plan.policies()).map_err(|error| PlanError {
            position: at("policy", error.place, error.source.field),
            message: error.source.to_string(),
        })?;
        let packets = packets::packets(&plan.packets).map_err(|error| PlanError {
            position: at("packets", error.place, error.field),
            message: format!("{}: {}", error.kind, error.what),
        })?;
        Ok(Self {
            interrupts: InterruptConfig {
                moderation: moderation.map(Option::<Setting>::unwrap_or_default),
                rearm: rearm(plan.rearm),
            },
            policies: stacks,
            packets,
        })
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

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run consists of, decided before anything is started.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// How an interrupt takes the NAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The driver's handler uses the expression of Linux 4.10.
    V4_10,
    /// The driver calls the kernel's `napi_schedule_prep`, which a livepatch has turned into that
    /// of Linux 4.10.
    Livepatch,
    /// The driver calls the kernel's own `napi_schedule_prep`.
    V4_11,
}

impl Mode {
    /// Whether packets injected in this mode should be lost.
    #[must_use]
    pub fn loses(self) -> bool {
        self != Self::V4_11
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::V4_10 => "v4_10",
            Self::Livepatch => "livepatch",
            Self::V4_11 => "v4_11",
        })
    }
}

/// Who owns `NAPI_STATE_SCHED` when the interrupt comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The driver's own `napi_schedule`, from its refill timer.
    Driver,
    /// A receiver with `SO_BUSY_POLL`.
    BusyPoll,
    /// The `gro_flush_timeout` watchdog.
    Watchdog,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Driver => "driver",
            Self::BusyPoll => "busy-poll",
            Self::Watchdog => "watchdog",
        })
    }
}

/// One boot of the guest and what is run in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Virtual CPUs.
    pub vcpus: usize,
    /// Modes, each with what is measured in it, in the order of the report.
    pub modes: Vec<ModePlan>,
}

/// Everything that is measured in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePlan {
    /// The mode.
    pub mode: Mode,
    /// Owners of `NAPI_STATE_SCHED`, one cell each.
    pub owners: Vec<Owner>,
    /// Packets of the unassisted run; 0: none.
    pub unassisted: u32,
    /// RPC runs.
    pub rpc: Vec<RpcPlan>,
}

/// One RPC run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcPlan {
    /// Requests.
    pub requests: u32,
    /// Of a thousand requests, how many the device injects; 0: the run is unassisted.
    pub inject_per_mille: u32,
}

/// One measurement of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// A cell of the matrix.
    Cell(Owner),
    /// An unassisted run of this many packets.
    Unassisted(u32),
    /// An RPC run.
    Rpc(RpcPlan),
}

impl ModePlan {
    fn measurements(&self) -> impl Iterator<Item = Measurement> {
        let cells = self.owners.iter().copied().map(Measurement::Cell);
        let unassisted = (self.unassisted > 0).then_some(Measurement::Unassisted(self.unassisted));
        cells.chain(unassisted).chain(self.rpc.iter().copied().map(Measurement::Rpc))
    }
}

impl Boot {
    /// All measurements in the order in which they are run. The modes of one measurement follow
    /// each other, in an order that the seed decides: what changes in the guest or on the host in
    /// the course of a run is not taken for a difference of modes.
    #[must_use]
    pub fn steps(&self, seed: u64) -> Vec<(Mode, Measurement)> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut groups: Vec<(Measurement, Vec<Mode>)> = Vec::new();
        for plan in &self.modes {
            for measurement in plan.measurements() {
                match groups.iter_mut().find(|(known, _)| *known == measurement) {
                    Some((_, modes)) => modes.push(plan.mode),
                    None => groups.push((measurement, vec![plan.mode])),
                }
            }
        }
        let mut steps = Vec::new();
        for (measurement, mut modes) in groups {
            modes.shuffle(&mut random);
            steps.extend(modes.into_iter().map(|mode| (mode, measurement)));
        }
        steps
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rounds a cell.
    pub rounds: u32,
    /// Packets of the unassisted runs.
    pub unassisted: u32,
    /// Requests of an RPC run.
    pub rpcs: u32,
    /// Also with one vCPU.
    pub single_cpu: bool,
}

impl Size {
    /// The full run.
    pub const FULL: Self = Self { rounds: 100, unassisted: 20_000, rpcs: 1_000, single_cpu: true };
    /// `--quick`.
    pub const QUICK: Self = Self { rounds: 10, unassisted: 1_000, rpcs: 200, single_cpu: false };
}

/// Of a thousand RPCs, how many are injected.
pub const INJECT_PER_MILLE: u32 = 30;

/// The run of `size`: few boots, everything else inside them.
#[must_use]
pub fn plan(size: Size) -> Vec<Boot> {
    let owners = vec![Owner::Driver, Owner::BusyPoll, Owner::Watchdog];
    let injected = RpcPlan { requests: size.rpcs, inject_per_mille: INJECT_PER_MILLE };
    let natural = RpcPlan { requests: size.rpcs, inject_per_mille: 0 };
    let two = [
        (Mode::V4_10, size.unassisted, vec![injected, natural]),
        (Mode::Livepatch, size.unassisted, vec![injected]),
        (Mode::V4_11, size.unassisted, vec![injected]),
    ];
    let mut boots = Vec::new();
    if size.single_cpu {
        let modes = two
            .iter()
            .map(|(mode, ..)| ModePlan {
                mode: *mode,
                owners: owners.clone(),
                unassisted: 0,
                rpc: vec![],
            })
            .collect();
        boots.push(Boot { vcpus: 1, modes });
    }
    let modes = two
        .into_iter()
        .map(|(mode, unassisted, rpc)| ModePlan { mode, owners: owners.clone(), unassisted, rpc })
        .collect();
    boots.push(Boot { vcpus: 2, modes });
    boots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_run_is_the_whole_matrix() {
        let boots = plan(Size::FULL);
        let mut cells: Vec<_> = boots
            .iter()
            .flat_map(|b| {
                b.modes.iter().flat_map(|m| m.owners.iter().map(|o| (b.vcpus, m.mode, *o)))
            })
            .collect();
        assert_eq!(cells.len(), 18);
        cells.sort_by_key(|c| format!("{c:?}"));
        cells.dedup();
        assert_eq!(cells.len(), 18, "a cell is run twice");
        assert!(
            boots
                .iter()
                .flat_map(|b| &b.modes)
                .any(|m| m.mode == Mode::V4_11 && m.unassisted == 20_000)
        );
    }

    #[test]
    fn every_mode_is_in_both_experiments_and_in_the_unassisted_run() {
        for size in [Size::FULL, Size::QUICK] {
            let boots = plan(size);
            for mode in [Mode::V4_10, Mode::Livepatch, Mode::V4_11] {
                let plans =
                    || boots.iter().flat_map(|boot| &boot.modes).filter(|plan| plan.mode == mode);
                assert!(plans().any(|plan| !plan.owners.is_empty()), "{mode}");
                assert!(plans().any(|plan| plan.unassisted > 0), "{mode}");
                assert!(
                    plans().any(|plan| plan.rpc.iter().any(|rpc| rpc.inject_per_mille > 0)),
                    "{mode}"
                );
            }
        }
    }

    #[test]
    fn the_modes_of_a_measurement_follow_each_other_in_an_order_of_the_seed() {
        let boot = &plan(Size::QUICK)[0];
        let steps = boot.steps(1);
        let planned: usize = boot.modes.iter().map(|plan| plan.measurements().count()).sum();
        assert_eq!(steps.len(), planned);
        for plan in &boot.modes {
            for measurement in plan.measurements() {
                assert_eq!(
                    steps.iter().filter(|step| **step == (plan.mode, measurement)).count(),
                    1
                );
            }
        }
        let groups: Vec<_> = steps.chunk_by(|(_, one), (_, other)| one == other).collect();
        assert_eq!(
            groups.len(),
            6,
            "three owners, the unassisted run, the RPCs and the unassisted RPCs"
        );
        assert_eq!(steps, boot.steps(1), "the same seed is the same order");
        for mode in [Mode::V4_10, Mode::Livepatch, Mode::V4_11] {
            assert!((0..32).any(|seed| boot.steps(seed)[0].0 == mode), "{mode} never comes first");
        }
    }

    #[test]
    fn the_quick_run_boots_once() {
        let boots = plan(Size::QUICK);
        assert_eq!(boots.len(), 1);
        assert_eq!(boots[0].vcpus, 2);
    }
}

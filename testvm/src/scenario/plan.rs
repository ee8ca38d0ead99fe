// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run consists of, decided before anything is started.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
pub use tsnic_protocol::plan::Owner;

use super::races;

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
    /// Sweeps for the natural runs.
    pub sweeps: Vec<SweepPlan>,
    /// Natural runs.
    pub natural: Vec<NaturalPlan>,
    /// RPC runs.
    pub rpc: Vec<RpcPlan>,
    /// The protocol with one clause taken away at a time.
    pub ablation: Option<AblationPlan>,
}

/// What `net.core.gro_normal_batch` is when nobody has changed it.
pub const NORMAL_BATCH_DEFAULT: u32 = 8;
/// More frames than a burst has: GRO hands them to the stack in `napi_complete_done()`.
pub const NORMAL_BATCH_LARGE: u32 = 64;

/// Trials all over the offsets of straggler and interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepPlan {
    /// `net.core.gro_normal_batch`.
    pub batch: u32,
    /// Trials.
    pub trials: u32,
}

/// Trials with no rendezvous, where the sweep of the same batch has found most losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NaturalPlan {
    /// `net.core.gro_normal_batch`.
    pub batch: u32,
    /// Trials in the modes that lose packets.
    pub losing: u32,
    /// Trials in the mode that should lose none.
    pub sound: u32,
}

impl NaturalPlan {
    /// Trials in this mode.
    #[must_use]
    pub fn trials(self, mode: Mode) -> u32 {
        if mode.loses() { self.losing } else { self.sound }
    }
}

/// One RPC run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcPlan {
    /// Requests.
    pub requests: u32,
    /// Of a thousand requests, how many the device injects; 0: the run is unassisted.
    pub inject_per_mille: u32,
}

/// Real traffic with one clause of the protocol taken away at a time; beside every owner the rounds
/// of a cell are run, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AblationPlan {
    /// Blocks of traffic for each clause.
    pub blocks: u32,
    /// Bytes of the stream of a block.
    pub bytes: u64,
}

/// One measurement of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// A cell of the matrix.
    Cell(Owner),
    /// A sweep.
    Sweep(SweepPlan),
    /// A natural run.
    Natural(NaturalPlan),
    /// An RPC run.
    Rpc(RpcPlan),
    /// Clauses taken away.
    Ablation(AblationPlan),
}

impl Measurement {
    /// Whether it injects at the rendezvous. What does not is done without the rendezvous module.
    #[must_use]
    pub fn needs_rendezvous(self) -> bool {
        match self {
            Self::Cell(_) | Self::Ablation(_) => true,
            Self::Sweep(_) | Self::Natural(_) => false,
            Self::Rpc(rpc) => rpc.inject_per_mille > 0,
        }
    }
}

impl ModePlan {
    fn measurements(&self) -> impl Iterator<Item = Measurement> {
        let cells = self.owners.iter().copied().map(Measurement::Cell);
        let sweeps = self.sweeps.iter().copied().map(Measurement::Sweep);
        let natural = self.natural.iter().copied().map(Measurement::Natural);
        let rpc = self.rpc.iter().copied().map(Measurement::Rpc);
        let ablation = self.ablation.map(Measurement::Ablation);
        cells.chain(sweeps).chain(natural).chain(rpc).chain(ablation)
    }
}

impl Boot {
    /// All measurements in the order in which they are run. The modes of one measurement follow
    /// each other, in an order that the seed decides: what changes in the guest or on the host in
    /// the course of a run is not taken for a difference of modes. The first mode is that of the
    /// measurement before, if it can be: a change of mode takes up to two seconds for a livepatch.
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
        let mut steps: Vec<(Mode, Measurement)> = Vec::new();
        for (measurement, mut modes) in groups {
            modes.shuffle(&mut random);
            let last = steps.last().map(|(mode, _)| *mode);
            if let Some(same) = modes.iter().position(|mode| Some(*mode) == last) {
                modes.swap(0, same);
            }
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
    /// Trials of a sweep.
    pub sweep: u32,
    /// Trials of a natural run with a large batch, in the modes that lose packets and in the one
    /// that should not.
    pub natural: (u32, u32),
    /// The same with the default batch.
    pub natural_default: (u32, u32),
    /// Requests of an RPC run.
    pub rpcs: u32,
    /// Traffic without clauses.
    pub ablation: AblationPlan,
    /// Also with one vCPU.
    pub single_cpu: bool,
}

impl Size {
    /// The full run: of the races what their plans say.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: races::rounds(),
            sweep: 1_800,
            natural: (2_000, 10_000),
            natural_default: (1_000, 2_000),
            rpcs: races::rpcs().0,
            ablation: AblationPlan { blocks: 10, bytes: 4_000_000 },
            single_cpu: true,
        }
    }

    /// `--quick`.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: races::rounds() / 10,
            sweep: 600,
            natural: (300, 1_000),
            natural_default: (200, 200),
            rpcs: races::rpcs().0 / 5,
            ablation: AblationPlan { blocks: 3, bytes: 2_000_000 },
            single_cpu: false,
        }
    }
}

/// The run of `size`: few boots, everything else inside them.
#[must_use]
pub fn plan(size: Size) -> Vec<Boot> {
    let owners = races::owners();
    let injected = RpcPlan { requests: size.rpcs, inject_per_mille: races::rpcs().1 };
    let unassisted = RpcPlan { requests: size.rpcs, inject_per_mille: 0 };
    let batches =
        [(NORMAL_BATCH_LARGE, size.natural), (NORMAL_BATCH_DEFAULT, size.natural_default)];
    let sweeps = batches.map(|(batch, _)| SweepPlan { batch, trials: size.sweep });
    let natural =
        batches.map(|(batch, (losing, sound))| NaturalPlan { batch, losing, sound }).to_vec();
    let two = [
        (Mode::V4_10, sweeps.to_vec(), vec![injected, unassisted]),
        (Mode::Livepatch, vec![], vec![injected]),
        (Mode::V4_11, vec![], vec![injected]),
    ];
    let mut boots = Vec::new();
    if size.single_cpu {
        let modes = two
            .iter()
            .map(|(mode, ..)| ModePlan {
                mode: *mode,
                owners: owners.clone(),
                sweeps: vec![],
                natural: vec![],
                rpc: vec![],
                ablation: None,
            })
            .collect();
        boots.push(Boot { vcpus: 1, modes });
    }
    let modes = two
        .into_iter()
        .map(|(mode, sweeps, rpc)| ModePlan {
            mode,
            owners: owners.clone(),
            sweeps,
            natural: natural.clone(),
            rpc,
            ablation: (mode == Mode::V4_11).then_some(size.ablation),
        })
        .collect();
    boots.push(Boot { vcpus: 2, modes });
    boots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_run_is_the_whole_matrix() {
        let boots = plan(Size::full());
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
                .filter(|m| m.mode == Mode::V4_11)
                .flat_map(|m| &m.natural)
                .any(|natural| natural.batch == 64 && natural.trials(Mode::V4_11) >= 10_000)
        );
    }

    #[test]
    fn every_mode_is_in_all_experiments_and_every_natural_run_has_its_sweep() {
        for size in [Size::full(), Size::quick()] {
            let boots = plan(size);
            for mode in [Mode::V4_10, Mode::Livepatch, Mode::V4_11] {
                let plans =
                    || boots.iter().flat_map(|boot| &boot.modes).filter(|plan| plan.mode == mode);
                assert!(plans().any(|plan| !plan.owners.is_empty()), "{mode}");
                assert!(plans().any(|plan| plan.natural.len() == 2), "{mode}");
                assert!(
                    plans().any(|plan| plan.rpc.iter().any(|rpc| rpc.inject_per_mille > 0)),
                    "{mode}"
                );
            }
            for boot in &boots {
                let steps = boot.steps(1);
                for (at, (_, measurement)) in steps.iter().enumerate() {
                    let Measurement::Natural(natural) = measurement else { continue };
                    let swept = |(mode, step): &(Mode, Measurement)| {
                        matches!(step, Measurement::Sweep(sweep) if sweep.batch == natural.batch)
                            && mode.loses()
                    };
                    assert!(steps[..at].iter().any(swept), "{natural:?}");
                }
            }
        }
    }

    #[test]
    fn the_modes_of_a_measurement_follow_each_other_in_an_order_of_the_seed() {
        let boot = &plan(Size::quick())[0];
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
            10,
            "three owners, two sweeps, two natural runs, two of RPCs, and the clauses"
        );
        for (one, next) in groups.iter().zip(&groups[1..]) {
            let last = one[one.len() - 1].0;
            assert!(next[0].0 == last || next.iter().all(|(mode, _)| *mode != last));
        }
        assert_eq!(steps, boot.steps(1), "the same seed is the same order");
        for mode in [Mode::V4_10, Mode::Livepatch, Mode::V4_11] {
            assert!((0..32).any(|seed| boot.steps(seed)[0].0 == mode), "{mode} never comes first");
        }
    }

    #[test]
    fn only_what_injects_has_the_rendezvous_module() {
        for (_, measurement) in plan(Size::quick()).iter().flat_map(|boot| boot.steps(1)) {
            let injects = match measurement {
                Measurement::Cell(_) | Measurement::Ablation(_) => true,
                Measurement::Rpc(rpc) => rpc.inject_per_mille > 0,
                Measurement::Sweep(_) | Measurement::Natural(_) => false,
            };
            assert_eq!(measurement.needs_rendezvous(), injects, "{measurement:?}");
        }
    }

    #[test]
    fn the_quick_run_boots_once() {
        let boots = plan(Size::quick());
        assert_eq!(boots.len(), 1);
        assert_eq!(boots[0].vcpus, 2);
    }
}

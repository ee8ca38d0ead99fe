// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run was to measure.

use std::cmp::Reverse;

use crate::scenario::plan::{AblationPlan, Boot, Mode, NaturalPlan, Owner, RpcPlan, SweepPlan};

/// Everything a plan asks for, in the order in which it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Cells of the matrix.
    pub(super) cells: Vec<CellKey>,
    /// Rounds a cell.
    pub(super) rounds: u32,
    /// Sweeps: mode, virtual CPUs, what.
    pub(super) sweeps: Vec<(Mode, usize, SweepPlan)>,
    /// Natural runs: mode, virtual CPUs, what.
    pub(super) natural: Vec<(Mode, usize, NaturalPlan)>,
    /// RPC runs: mode, virtual CPUs, what.
    pub(super) rpc: Vec<(Mode, usize, RpcPlan)>,
    /// The protocol with one clause taken away: virtual CPUs, what.
    pub(super) ablation: Option<(usize, AblationPlan)>,
}

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CellKey {
    pub owner: Owner,
    pub vcpus: usize,
    pub mode: Mode,
}

impl std::fmt::Display for CellKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { owner, vcpus, mode } = self;
        write!(f, "{owner}, {vcpus} vCPU{}, {mode}", if *vcpus == 1 { "" } else { "s" })
    }
}

impl Expected {
    /// What these boots ask for, with this many rounds a cell.
    #[must_use]
    pub fn of(boots: &[Boot], rounds: u32) -> Self {
        let mut expected = Self { rounds, ..Self::default() };
        for boot in boots {
            let vcpus = boot.vcpus;
            for plan in &boot.modes {
                let mode = plan.mode;
                expected.cells.extend(plan.owners.iter().map(|&owner| CellKey {
                    owner,
                    vcpus,
                    mode,
                }));
                expected.sweeps.extend(plan.sweeps.iter().map(|&sweep| (mode, vcpus, sweep)));
                expected.natural.extend(plan.natural.iter().map(|&it| (mode, vcpus, it)));
                expected.rpc.extend(plan.rpc.iter().map(|&rpc| (mode, vcpus, rpc)));
                expected.ablation = plan.ablation.map(|plan| (vcpus, plan)).or(expected.ablation);
            }
        }
        // Boot by boot is how it is run; owner by owner is how it is read. The sort is stable:
        // modes stay in their order.
        expected.cells.sort_by_key(|key| (key.owner as u8, key.vcpus));
        // Large batches first: they have the wider window.
        expected.natural.sort_by_key(|(_, vcpus, plan)| (*vcpus, Reverse(plan.batch)));
        expected
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that a run measured.

use super::ablation::Ablation;
use super::cell::Cell;
use super::natural::Natural;
use super::rpc::RpcRun;
use super::sweep::Sweep;

/// Everything a run measured. What was planned and is not here counts as missing.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Cells of the matrix.
    pub cells: Vec<Cell>,
    /// Sweeps.
    pub sweeps: Vec<Sweep>,
    /// Natural runs.
    pub natural: Vec<Natural>,
    /// RPC runs.
    pub rpc: Vec<RpcRun>,
    /// The protocol with one clause taken away.
    pub ablation: Ablation,
    /// What went wrong on the way, one sentence each: a guest that hung, a module that did not
    /// load. Each one makes the run at best undecided.
    pub problems: Vec<String>,
}

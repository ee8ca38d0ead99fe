// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments.

pub mod plan;

use crate::config::Config;
use crate::lab::Lab;
use crate::progress::Progress;
use crate::verdict::Verdict;
use crate::vm::VmConfig;

/// Run the experiments of `testvm repro`.
///
/// # Errors
/// The run could not be judged.
pub fn repro(config: &Config) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(&config.machine, &mut progress)?;
    let vm = lab.boot(&VmConfig::default(), &mut progress)?;
    vm.power_off()?;
    Ok(Verdict::Undecided)
}

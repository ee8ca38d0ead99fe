// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a command's arguments become: the validated options of its engine.

use std::time::Duration;

use tsnic_protocol::plan::Driver;

use super::machine::{MachineArgs, places};
use super::usage::{UsageError, absolute};
use super::{ReproArgs, ShrinkArgs, SoakArgs, UmlArgs};
use crate::config::{Config, LimitScale, UmlConfig};
use crate::plans::{NamedPlan, shrink};
use crate::{preflight, soak};

impl TryFrom<ReproArgs> for Config {
    type Error = UsageError;

    fn try_from(args: ReproArgs) -> Result<Self, UsageError> {
        Ok(Self {
            quick: args.quick,
            rounds: args.rounds,
            json: args.json.as_deref().map(absolute).transpose()?,
            seed: args.seed,
            machine: args.machine.try_into()?,
        })
    }
}

impl TryFrom<UmlArgs> for UmlConfig {
    type Error = UsageError;

    fn try_from(args: UmlArgs) -> Result<Self, UsageError> {
        Ok(Self {
            program: args.uml,
            json: args.json.as_deref().map(absolute).transpose()?,
            scale: LimitScale(args.limits.slow),
            places: places()?,
        })
    }
}

impl TryFrom<ShrinkArgs> for (MachineArgs, shrink::Options) {
    type Error = UsageError;

    fn try_from(args: ShrinkArgs) -> Result<Self, UsageError> {
        let ShrinkArgs { plan, driver, repeats, out, machine } = args;
        let plan = NamedPlan::load(&plan)?;
        let out = out.unwrap_or_else(|| format!("{}.shrunk.toml", plan.name).into());
        preflight::output(&out, "--out")?;
        Ok((machine, shrink::Options { plan, driver, repeats, out }))
    }
}

impl TryFrom<SoakArgs> for (MachineArgs, soak::Options) {
    type Error = UsageError;

    fn try_from(args: SoakArgs) -> Result<Self, UsageError> {
        let SoakArgs { minutes, driver, stall_ms, sleep_under_traffic, seed, json, machine } = args;
        json.as_deref().map(|path| preflight::output(path, "--json")).transpose()?;
        let time = Duration::from_secs(60 * u64::from(minutes));
        let drivers =
            if driver.is_empty() { vec![Driver::VirtioNet, Driver::TsnicV411] } else { driver };
        Ok((machine, soak::Options { time, drivers, stall_ms, sleep_under_traffic, seed, json }))
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm`: arguments, configuration, engine, exit code.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use testvm::cli::{Cli, Command, MachineArgs, UsageError};
use testvm::config::{Config, KernelChoice, Machine, UmlConfig};
use testvm::lab::{Built, ToolsFound};
use testvm::output::{write_err, write_out};
use testvm::plans::NamedPlan;
use testvm::progress::Progress;
use testvm::verdict::{EXIT_INTERRUPTED, EXIT_NO_VERDICT, Verdict};
use testvm::{boot, check, interrupt, napi, plans, preflight, scenario, soak, uml};

const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match configure(cli) {
        Ok(engine) => conclude(
            interrupt::install().context("Signals cannot be handled").and_then(|()| engine()),
        ),
        Err(error) => {
            write_err(format_args!("error: {:#}", anyhow::Error::from(error)));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

type Engine = Box<dyn FnOnce() -> anyhow::Result<Verdict>>;

fn configure(cli: Cli) -> Result<Engine, UsageError> {
    Ok(match cli.command {
        Command::Repro(args) => {
            let config = Config::try_from(args)?;
            look_at_kernel(&config.machine)?;
            config.json.as_deref().map(|path| preflight::output(path, "--json")).transpose()?;
            Box::new(move || scenario::repro(&config))
        }
        Command::Check(args) if args.list => Box::new(|| {
            for (name, about) in check::list() {
                write_out(format_args!("{name:<14} {about}"));
            }
            Ok(Verdict::Pass)
        }),
        Command::Check(args) => {
            let machine = machine(args.machine)?;
            Box::new(move || check::run(&machine, &args.only))
        }
        Command::Plan(args) => {
            let plans: Vec<_> =
                args.plans.iter().map(|path| NamedPlan::load(path)).collect::<Result<_, _>>()?;
            let json = args.json;
            json.as_deref().map(|path| preflight::output(path, "--json")).transpose()?;
            let machine = machine(args.machine)?;
            Box::new(move || plans::run(&machine, &plans, json.as_deref()))
        }
        Command::Shrink(args) => {
            let (args, options) = args.try_into()?;
            let machine = machine(args)?;
            Box::new(move || plans::shrink::run(&machine, &options))
        }
        Command::Soak(args) => {
            let (args, options) = args.try_into()?;
            let machine = machine(args)?;
            Box::new(move || soak::run(&machine, &options))
        }
        Command::Napi(args) => {
            let (steps, seed) = (args.steps, args.seed);
            let machine = machine(args.machine)?;
            Box::new(move || napi::run(&machine, steps, seed))
        }
        Command::Boot(args) => {
            let (vcpus, hold) = (args.vcpus, args.hold);
            let machine = machine(args.machine)?;
            Box::new(move || boot::run(&machine, vcpus, hold))
        }
        Command::Uml(args) => {
            let config = UmlConfig::try_from(args)?;
            config.json.as_deref().map(|path| preflight::output(path, "--json")).transpose()?;
            Box::new(move || uml::run(&config))
        }
        Command::Fetch(args) => {
            let machine = machine(args)?;
            Box::new(move || {
                let built = Built::prepare(&machine, &mut Progress::new())?;
                // Elsewhere than on Debian there are none, and the kernel is the user's own.
                if let ToolsFound::Missing(why) = &built.tools
                    && let KernelChoice::Debian(_) = machine.kernel
                {
                    bail!("The tools of `testvm check` cannot be had: {why}");
                }
                Ok(Verdict::Pass)
            })
        }
    })
}

fn machine(args: MachineArgs) -> Result<Machine, UsageError> {
    let machine = Machine::try_from(args)?;
    look_at_kernel(&machine)?;
    Ok(machine)
}

fn look_at_kernel(machine: &Machine) -> Result<(), UsageError> {
    if let KernelChoice::Own { image, .. } = &machine.kernel {
        preflight::kernel(image)?;
    }
    Ok(())
}

/// The one place where an error is shown, with all its causes.
fn conclude(outcome: anyhow::Result<Verdict>) -> ExitCode {
    match outcome {
        Ok(verdict) => verdict.into(),
        Err(_) if interrupt::requested() => {
            write_err(format_args!("Interrupted; everything that was started is gone"));
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            write_err(format_args!("error: {error}"));
            for cause in error.chain().skip(1) {
                write_err(format_args!("  because: {cause}"));
            }
            write_err(format_args!("No verdict: the run could not be judged"));
            ExitCode::from(EXIT_NO_VERDICT)
        }
    }
}

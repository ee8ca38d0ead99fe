// SPDX-License-Identifier: GPL-2.0-only
//! `napi-model`: writes the ablation table, and explores at random.

use std::process::ExitCode;

use clap::Parser as _;
use napi_model::cli;

fn main() -> anyhow::Result<ExitCode> {
    cli::run(&cli::Args::parse())
}

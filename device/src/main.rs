// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `tsnic` binary: arguments, validated configuration, engine.

use std::process::ExitCode;

fn main() -> ExitCode {
    tsnic::engine::main()
}

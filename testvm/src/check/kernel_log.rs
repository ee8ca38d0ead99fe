// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest's kernel said during all checks.

use crate::bench::Bench;
use crate::bench::failure::{Failure, expect};

/// Complaints shown with a failure.
const SHOWN: usize = 10;

/// Check: nothing in the kernel's log is a complaint.
pub fn quiet(bench: &mut Bench) -> Result<String, Failure> {
    bench.collect_log()?;
    let log = bench.log();
    expect(log.says("Linux version"), || {
        "The kernel's log does not begin with its version: it was not read".into()
    })?;
    expect(log.says("tsnic: loading out-of-tree module"), || {
        "The kernel's log does not mention tsnic: it was not read to its end".into()
    })?;
    let complaints = log.complaints();
    expect(complaints.is_empty(), || {
        let first: Vec<_> = complaints.iter().take(SHOWN).copied().collect();
        format!("{} complaints, first\n    | {}", complaints.len(), first.join("\n    | "))
    })?;
    Ok(format!("{} lines, no complaint", log.lines()))
}

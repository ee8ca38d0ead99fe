// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files that the process can open and remove: landlock (`Documentation/userspace-api/landlock`
//! of the kernel).

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::Files;

/// Everything that this version knows is forbidden; an older kernel forbids less, by its lights.
const KNOWN: ABI = ABI::V6;

/// Leaves this thread, and those that it starts, no more than these files. False when the kernel
/// has no landlock.
pub(super) fn confine(files: &Files) -> Result<bool, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    // Who the front end is, for the log: /proc/PID/comm.
    let mut ruleset = allow(ruleset, "/proc", AccessFs::ReadFile.into())?;
    if files.tun {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        ruleset = allow(ruleset, "/dev/net/tun", access)?;
    }
    for directory in &files.removes_in {
        ruleset = allow(ruleset, directory, AccessFs::RemoveFile.into())?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// One that is not there needs no rule.
fn allow(
    ruleset: RulesetCreated,
    path: impl AsRef<std::path::Path>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(path) => ruleset.add_rule(PathBeneath::new(path, access)),
        Err(_) => Ok(ruleset),
    }
}

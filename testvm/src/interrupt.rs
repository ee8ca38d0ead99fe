// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ctrl-C and SIGTERM: a flag that every wait of this program looks at.
//!
//! No thread takes part, because a process must be single-threaded to make a user namespace. The
//! first signal asks the run to end in order; the second ends the process at once, and its children
//! with it ([`crate::process`]).

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;

use crate::verdict::EXIT_INTERRUPTED;

/// The user asked the run to end.
#[derive(Debug, Error)]
#[error("Interrupted")]
pub struct Interrupted;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

fn flag() -> &'static Arc<AtomicBool> {
    FLAG.get_or_init(Arc::default)
}

/// Take the two signals over. Call it once, first thing in `main`.
///
/// # Errors
/// The operating system refused the handlers.
pub fn install() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the shutdown looks at the flag before the second handler sets it.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(EXIT_INTERRUPTED),
            Arc::clone(flag()),
        )?;
        signal_hook::flag::register(signal, Arc::clone(flag()))?;
    }
    Ok(())
}

/// Whether a signal has come.
#[must_use]
pub fn requested() -> bool {
    flag().load(Ordering::Relaxed)
}

/// Whether a signal has come; it is answered by this, and the next one counts as the first. For a
/// wait that a signal ends in order.
#[must_use]
pub fn take() -> bool {
    flag().swap(false, Ordering::Relaxed)
}

/// `requested()` as an error, for `?` in loops that wait.
///
/// # Errors
/// [`Interrupted`] when a signal has come.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One fuzz target a file, each a test of the same name. `scripts/fuzz` runs them for as long as it
//! is told to; as ordinary tests they run for a moment.
//!
//! Inputs are random and structured: most of what they say is nearly right, so that they get past
//! the first check. A target that fails prints the smallest input it has found and the seed that
//! leads to it.

mod control_lines;
mod generator_settings;
mod messages;
mod registration;
mod rings;
mod support;

use std::time::Duration;

/// How long a target runs as an ordinary test. `BOLERO_RANDOM_TEST_TIME_MS` overrides it.
const MOMENT: Duration = Duration::from_millis(300);

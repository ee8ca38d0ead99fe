// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fake front end, its guest, and the host's end of the cable.

mod device;
mod guest;
mod port;
mod queue;

pub use device::Device;
pub use guest::{AREA, BUFFERS, EVENT_IDX, Guest, Options};
pub use port::{Host, cable, frame};
pub use queue::DriverQueue;

use std::time::{Duration, Instant};

/// More than the device ever needs; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Long enough for something unwanted to happen.
pub const A_WHILE: Duration = Duration::from_millis(30);

/// Waits until `done` returns something.
///
/// # Panics
/// When it does not in time.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

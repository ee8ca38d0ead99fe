// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the device counts against the driver: each check answers for its own.

use tsnic_protocol::Status;

use super::failure::{Failure, expect};

/// Counted by one process of the device so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Its process; 0: none yet.
    device: u32,
    lost: u64,
    ci_errors: u64,
}

impl Losses {
    /// By the device in this process.
    pub fn of(device: u32, status: &Status) -> Self {
        let (lost, ci_errors) = (status.counters.lost, status.counters.ci_errors);
        Self { device, lost, ci_errors }
    }

    /// Those that came after `before`. A device that was started meanwhile has counted from 0.
    pub fn since(self, before: Self) -> Self {
        if self.device != before.device {
            return self;
        }
        let (lost, ci_errors) = (self.lost - before.lost, self.ci_errors - before.ci_errors);
        Self { lost, ci_errors, ..self }
    }

    /// Packets were lost.
    pub const fn any_lost(self) -> bool {
        self.lost != 0
    }

    /// There are none.
    ///
    /// # Errors
    /// There are.
    pub fn expect_none(self) -> Result<(), Failure> {
        let Self { lost, ci_errors, .. } = self;
        expect(lost == 0, || {
            format!("The device saw {lost} packets lost, with the interrupt mode v4_11")
        })?;
        expect(ci_errors == 0, || {
            format!("Driver and device disagreed {ci_errors} times on what was received")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn losses(device: u32, lost: u64, ci_errors: u64) -> Losses {
        Losses { device, lost, ci_errors }
    }

    #[test]
    fn what_was_counted_before_is_nobodys() {
        let before = losses(7, 3, 1);
        assert_eq!(losses(7, 3, 1).since(before), losses(7, 0, 0));
        assert_eq!(losses(7, 5, 2).since(before), losses(7, 2, 1));
        losses(7, 3, 1).since(before).expect_none().expect("none of its own");
        losses(7, 4, 1).since(before).expect_none().expect_err("a loss");
        losses(7, 3, 2).since(before).expect_none().expect_err("a disagreement");
    }

    #[test]
    fn a_device_that_was_started_meanwhile_counts_from_0() {
        for before in [losses(7, 3, 1), Losses::default()] {
            assert!(losses(8, 1, 0).since(before).any_lost());
            assert!(!losses(8, 0, 0).since(before).any_lost());
        }
    }
}

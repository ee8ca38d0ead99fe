// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A port where nothing comes from and everything goes to.

use std::io;
use std::os::fd::BorrowedFd;

use tsnic_core::time::Instant;

use super::Port;
use crate::frame::{Frame, NetHeader};

/// The port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Port for Null {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, _now: Instant, _frame: &mut Frame) -> bool {
        false
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        false
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, _frame: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

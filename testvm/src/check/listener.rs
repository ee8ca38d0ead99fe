// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end of the wire, frame by frame.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};

use super::failure::{Failure, expect};
use crate::process::{TICK, readable};

const LIMIT: Duration = Duration::from_secs(5);

/// Hears every frame that passes any interface of the run's network.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens from now on.
    pub fn open() -> Result<Self, Failure> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            .map_err(std::io::Error::from)?;
        Ok(Self { socket })
    }

    /// Waits until each of `frames` has passed, byte for byte, in whatever company.
    pub fn hear(&mut self, frames: &[Vec<u8>]) -> Result<(), Failure> {
        let mut missing: Vec<_> = frames.iter().collect();
        let deadline = Instant::now() + LIMIT;
        let mut frame = [0; 4096];
        while !missing.is_empty() {
            expect(Instant::now() < deadline, || {
                format!("{} of {} frames did not come out of the wire", missing.len(), frames.len())
            })?;
            if readable(&self.socket, TICK)? {
                let (length, _) =
                    recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame).map_err(std::io::Error::from)?;
                missing.retain(|wanted| wanted[..] != frame[..length]);
            }
        }
        Ok(())
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end of the wire, frame by frame.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

use super::failure::Failure;
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
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .map_err(std::io::Error::from)?;
        Ok(Self { socket })
    }

    /// Waits until `wanted` has passed, byte for byte, in whatever company. What comes between two
    /// calls waits, up to a few hundred frames.
    pub fn hear(
        &mut self,
        wanted: &[u8],
        scale: impl Fn(Duration) -> Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + scale(LIMIT);
        let mut frame = [0; 4096];
        loop {
            if readable(&self.socket, TICK)? {
                let (length, _) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame)
                    .map_err(std::io::Error::from)?;
                if wanted == &frame[..length] {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                let length = wanted.len();
                return Err(Failure::Late(format!(
                    "A frame of {length} bytes did not come out of the wire"
                )));
            }
        }
    }
}

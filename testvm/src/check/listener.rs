// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end of the wire, frame by frame.

use std::io::Read as _;
use std::time::{Duration, Instant};

use nix::libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, ETH_P_ALL, ETH_P_IP};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::bench::failure::Failure;
use crate::process::{TICK, readable};

const LIMIT: Duration = Duration::from_secs(5);
/// Where an Ethernet header has the type.
const ETHER_TYPE_AT: u32 = 12;

/// Hears every frame that passes any interface of the run's network, but for IPv4: the socket holds
/// a few hundred frames, and traffic that goes on would soon fill it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Listens from now on.
    pub fn open() -> Result<Self, Failure> {
        let all = i32::from((ETH_P_ALL as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all)))?;
        socket.attach_filter(&[
            SockFilter::new((BPF_LD | BPF_H | BPF_ABS) as u16, 0, 0, ETHER_TYPE_AT),
            SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 0, 1, ETH_P_IP as u32),
            SockFilter::new((BPF_RET | BPF_K) as u16, 0, 0, 0),
            SockFilter::new((BPF_RET | BPF_K) as u16, 0, 0, u32::MAX),
        ])?;
        Ok(Self { socket })
    }

    /// Waits until `wanted`, which is not IPv4, has passed, byte for byte, in whatever company.
    pub fn hear(
        &mut self,
        wanted: &[u8],
        scale: impl Fn(Duration) -> Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + scale(LIMIT);
        let mut frame = [0; 4096];
        loop {
            if readable(&self.socket, TICK)? {
                let length = self.socket.read(&mut frame)?;
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

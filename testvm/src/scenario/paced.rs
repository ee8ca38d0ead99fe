// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A TCP stream in small pieces, of full segments that GRO holds.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rustix::net::{SendFlags, send};

/// Bytes of a piece: two segments and a little.
const PIECE: usize = 3_000;
/// Time between two pieces, microseconds.
const PAUSE_US: (u32, u32) = (0, 200);

/// Writes a piece at a time, and says each time that more will come: TCP then sends what fills a
/// segment at once, and without PSH, which would end what GRO holds.
#[derive(Debug)]
pub(super) struct Paced {
    stream: TcpStream,
    random: Pcg64Mcg,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, seed: u64) -> Self {
        Self { stream, random: Pcg64Mcg::seed_from_u64(seed) }
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (from, to) = PAUSE_US;
        thread::sleep(Duration::from_micros(self.random.random_range(from..=to).into()));
        let piece = &bytes[..bytes.len().min(PIECE)];
        Ok(send(&self.stream, piece, SendFlags::MORE)?)
    }

    /// The rest is sent when the connection is closed.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

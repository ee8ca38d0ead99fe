// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shell of a guest: the other end of its terminal.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use guest_protocol as agent;

use super::Vm;
use super::error::Error;
use super::parts::SHELL_SOCKET;
use crate::process::{TICK, readable};

impl Vm {
    /// Starts the guest's shell, if it does not run, and connects to its terminal: what is written
    /// is typed.
    ///
    /// # Errors
    /// The guest has no busybox or no third serial port, or is not there.
    pub fn shell(&mut self, rows: u16, columns: u16) -> Result<UnixStream, Error> {
        let path = self.sockets.socket(SHELL_SOCKET);
        // First: what the shell says to nobody is lost.
        let stream = UnixStream::connect(&path).map_err(|source| Error::Io { path, source })?;
        self.command(&agent::Request::Shell { rows, columns })?;
        Ok(stream)
    }

    /// Reads what a shell says until `enough` of it has come, at most `limit`: all of it.
    ///
    /// # Errors
    /// It is gone, or something has died.
    pub fn hear_shell(
        &mut self,
        stream: &mut UnixStream,
        limit: Duration,
        enough: impl Fn(&str) -> bool,
    ) -> Result<String, Error> {
        let io = |source| Error::Io { path: SHELL_SOCKET.into(), source };
        let deadline = Instant::now() + limit;
        let mut said = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&said);
            if enough(&text) || Instant::now() >= deadline {
                return Ok(text.into_owned());
            }
            self.check("the shell is heard")?;
            if readable(stream, TICK).map_err(io)? {
                let mut chunk = [0; 1024];
                let count = stream.read(&mut chunk).map_err(io)?;
                if count == 0 {
                    return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
                }
                said.extend_from_slice(&chunk[..count]);
            }
        }
    }
}

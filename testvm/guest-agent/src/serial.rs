// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The serial port: one JSON object a line, either way.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use guest_protocol::{Reply, Request};
use rustix::termios::{self, ControlModes, OptionalActions};

use crate::error::Error;

/// A longer request is a mistake: it is refused, so that a line that never ends cannot take all
/// memory.
pub const LINE_MAX: usize = 64 * 1024;

/// Opens a serial port for raw lines: no echo, no editing, no line length of the terminal, no flow
/// control, no hang-up when the other side goes away.
///
/// # Errors
/// The kernel's.
pub fn open(path: &str) -> Result<File, Error> {
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map_err(Error::file("open", path))?;
    let mut settings =
        termios::tcgetattr(&port).map_err(Error::file("read the settings of", path))?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    // The fastest an 8250 knows. An emulated one sends at once whatever it is told, but delays the
    // receive interrupt of a half-filled FIFO by four characters of the set speed: 4 ms at the
    // default 9600.
    settings.set_speed(115_200).map_err(Error::file("set the speed of", path))?;
    termios::tcsetattr(&port, OptionalActions::Now, &settings)
        .map_err(Error::file("set up", path))?;
    Ok(port)
}

/// Requests in, replies out, over any pair of streams.
#[derive(Debug)]
pub struct Channel<R, W> {
    input: BufReader<R>,
    output: W,
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// A line that is none. The channel goes on with the next line.
    Bad(Error),
    /// The other side closed the stream.
    End,
}

impl<R: Read, W: Write> Channel<R, W> {
    /// A channel on these streams.
    pub fn new(input: R, output: W) -> Self {
        Self { input: BufReader::new(input), output }
    }

    /// Waits for the next line; empty ones are skipped.
    ///
    /// # Errors
    /// The stream's.
    pub fn receive(&mut self) -> std::io::Result<Incoming> {
        loop {
            let mut line = Vec::new();
            let limit = LINE_MAX as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(Incoming::End);
            }
            if line.last() != Some(&b'\n') && line.len() > LINE_MAX {
                self.skip_line()?;
                return Ok(Incoming::Bad(Error::TooLong { limit: LINE_MAX }));
            }
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            return Ok(match serde_json::from_slice(line) {
                Ok(request) => Incoming::Request(request),
                Err(source) => {
                    let line = String::from_utf8_lossy(line).chars().take(200).collect();
                    Incoming::Bad(Error::Malformed { line, source })
                }
            });
        }
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// The stream's.
    pub fn send(&mut self, reply: &Reply) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.output.write_all(&line)?;
        self.output.flush()
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let available = self.input.fill_buf()?;
            let end = available.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            if used == 0 || end.is_some() {
                self.input.consume(used);
                return Ok(());
            }
            self.input.consume(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_all(input: &[u8]) -> std::io::Result<Vec<Incoming>> {
        let mut channel = Channel::new(input, Vec::new());
        let mut all = Vec::new();
        loop {
            match channel.receive()? {
                Incoming::End => return Ok(all),
                other => all.push(other),
            }
        }
    }

    #[test]
    fn lines_are_requests() -> std::io::Result<()> {
        let all =
            receive_all(b"{\"request\":\"kernel-log\"}\r\n\n{\"request\":\"read-file\",\"path\":\"/proc/version\"}\n")?;
        assert!(matches!(all[0], Incoming::Request(Request::KernelLog)), "{all:?}");
        assert!(
            matches!(&all[1], Incoming::Request(Request::ReadFile { path }) if path == "/proc/version"),
            "{all:?}"
        );
        assert_eq!(all.len(), 2);
        Ok(())
    }

    #[test]
    fn a_bad_line_does_not_spoil_the_next() -> std::io::Result<()> {
        let all =
            receive_all(b"garbage \xff\n{\"request\":\"fly\"}\n{\"request\":\"power-off\"}\n")?;
        assert!(matches!(all[0], Incoming::Bad(Error::Malformed { .. })));
        assert!(matches!(all[1], Incoming::Bad(Error::Malformed { .. })));
        assert!(matches!(all[2], Incoming::Request(Request::PowerOff)));
        Ok(())
    }

    #[test]
    fn an_endless_line_is_refused_and_skipped() -> std::io::Result<()> {
        let mut input = vec![b'x'; 3 * LINE_MAX];
        input.extend_from_slice(b"\n{\"request\":\"kernel-log\"}\n");
        let all = receive_all(&input)?;
        assert!(matches!(all[0], Incoming::Bad(Error::TooLong { limit: LINE_MAX })));
        assert!(matches!(all[1], Incoming::Request(Request::KernelLog)));
        Ok(())
    }

    #[test]
    fn a_reply_is_one_line_whatever_is_in_it() -> std::io::Result<()> {
        let mut channel = Channel::new(&b""[..], Vec::new());
        channel.send(&Reply::Text { text: "two\nlines \u{fc}".into() })?;
        let line = String::from_utf8_lossy(&channel.output).into_owned();
        assert_eq!(line, "{\"reply\":\"text\",\"text\":\"two\\nlines \u{fc}\"}\n");
        Ok(())
    }
}

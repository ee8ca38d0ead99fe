// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON objects, one a line, over a Unix socket: how testvm talks to the agent and to the device.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tsnic_protocol::line::{Framed, LineFramer};

use crate::process::{TICK, readable};

/// What can go wrong on such a connection.
#[derive(Debug, Error)]
pub enum LineError {
    /// The other side has closed it.
    #[error("The connection was closed")]
    Closed,
    /// Nothing came in time.
    #[error("No answer within {0:?}")]
    Silent(Duration),
    /// A line is not what it should be.
    #[error("Unintelligible line {line:?}")]
    Nonsense {
        /// The line.
        line: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system's error.
    #[error("The connection failed")]
    Io(#[from] io::Error),
}

/// A line longer than this is no message of ours: a report of 100,000 rounds has some 10 MB.
const LONGEST: usize = 256 << 20;

/// One side of a connection.
#[derive(Debug)]
pub struct JsonLines {
    stream: UnixStream,
    framer: LineFramer,
    /// Lines that have come and were not asked for.
    ready: VecDeque<Vec<u8>>,
}

impl JsonLines {
    /// Speak over `stream`.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, framer: LineFramer::new(LONGEST), ready: VecDeque::new() }
    }

    /// Send one message.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LineError> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::from)?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(LineError::Io)
    }

    /// Receive one message within `limit`. While waiting, `look` is called every [`TICK`]; its
    /// error ends the wait.
    ///
    /// # Errors
    /// What `look` says, or a [`LineError`].
    pub fn receive<T: DeserializeOwned, E: From<LineError>>(
        &mut self,
        limit: Duration,
        look: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<T, E> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(line) = self.ready.pop_front() {
                let line = String::from_utf8_lossy(&line);
                let line = line.trim();
                if !line.is_empty() {
                    return serde_json::from_str(line).map_err(|source| {
                        LineError::Nonsense { line: line.to_owned(), source }.into()
                    });
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(LineError::Silent(limit).into());
            }
            if !readable(&self.stream, TICK.min(deadline - now)).map_err(LineError::Io)? {
                look()?;
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(LineError::Closed.into()),
                Ok(n) => self.take(&chunk[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(LineError::Closed.into());
                }
                Err(error) => return Err(LineError::Io(error).into()),
            }
        }
    }

    /// Keeps the lines that end in these bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<(), LineError> {
        let mut too_long = false;
        self.framer.feed(bytes, |framed| match framed {
            Framed::Line { bytes, .. } => self.ready.push_back(bytes.to_vec()),
            Framed::TooLong { .. } => too_long = true,
        });
        if too_long { Err(io::Error::other("a line has no end").into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::Reply;

    fn receive(lines: &mut JsonLines, limit: Duration) -> Result<Reply, LineError> {
        lines.receive(limit, &mut || Ok(()))
    }

    #[test]
    fn messages_that_come_in_pieces_and_together_are_told_apart() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut lines = JsonLines::new(near);
        far.write_all(b"\r\n{\"reply\":\"count\",\"count\":7}\r\n{\"reply\":\"do")
            .expect("writing");
        assert_eq!(
            receive(&mut lines, Duration::from_secs(1)).expect("a message"),
            Reply::Count { count: 7 }
        );
        assert!(matches!(
            receive(&mut lines, Duration::from_millis(20)),
            Err(LineError::Silent(_))
        ));
        far.write_all(b"ne\"}\n").expect("writing");
        assert_eq!(receive(&mut lines, Duration::from_secs(1)).expect("a message"), Reply::Done);
    }

    #[test]
    fn the_end_of_the_connection_and_nonsense_are_errors_of_their_own() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut lines = JsonLines::new(near);
        far.write_all(b"Segmentation fault\n").expect("writing");
        let error = receive(&mut lines, Duration::from_secs(1)).expect_err("nonsense");
        assert!(error.to_string().contains("Segmentation fault"), "{error}");
        drop(far);
        assert!(matches!(receive(&mut lines, Duration::from_secs(1)), Err(LineError::Closed)));
    }

    #[test]
    fn what_is_seen_while_waiting_ends_the_wait() {
        #[derive(Debug)]
        enum Seen {
            Line(LineError),
            Dead,
        }
        impl From<LineError> for Seen {
            fn from(error: LineError) -> Self {
                Self::Line(error)
            }
        }
        let (near, _far) = UnixStream::pair().expect("a pair");
        let waited: Result<Reply, Seen> =
            JsonLines::new(near).receive(Duration::from_secs(60), &mut || Err(Seen::Dead));
        match waited {
            Err(Seen::Dead) => {}
            Err(Seen::Line(error)) => panic!("{error}"),
            Ok(reply) => panic!("{reply:?}"),
        }
    }
}

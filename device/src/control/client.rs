// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection of the control socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use tsnic_protocol::line::RequestReader;
use tsnic_protocol::{Event, PairRequest, Reply};
use vmm_sys_util::epoll::EventSet;

/// No more requests are read from a client while this many bytes of replies wait for it to read
/// them.
const BACKLOG_MAX: usize = 64 * 1024;

/// A connection: requests come in, replies go out, and neither ever blocks.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    reader: RequestReader,
    out: VecDeque<u8>,
    /// The client will send no more.
    at_end: bool,
    /// It wants to be told of events.
    watches: bool,
    /// Events since the latest one it was told of that it was not.
    missed: u64,
}

impl Client {
    /// Takes a connection over.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            reader: RequestReader::default(),
            out: VecDeque::new(),
            at_end: false,
            watches: false,
            missed: 0,
        })
    }

    /// What to wait for. A client that has closed its end is always reported.
    pub(super) fn interest(&self) -> EventSet {
        let mut interest = EventSet::empty();
        if !self.at_end && self.out.len() < BACKLOG_MAX {
            interest |= EventSet::IN;
        }
        if !self.out.is_empty() {
            interest |= EventSet::OUT;
        }
        interest
    }

    /// Reads once. The lines that have come to their end are in the answer.
    pub(super) fn read(&mut self) -> io::Result<Vec<Result<PairRequest, String>>> {
        let mut requests = Vec::new();
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => {
                self.at_end = true;
                self.reader.finish(|line| requests.push(line));
            }
            Ok(count) => self.reader.feed(&bytes[..count], |line| requests.push(line)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(requests)
    }

    /// Queues a reply. A progress report is left out for a client that does not read them.
    pub(super) fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        if matches!(reply, Reply::Progress { .. }) && !self.out.is_empty() {
            return Ok(());
        }
        serde_json::to_writer(&mut self.out, reply)?;
        self.out.push_back(b'\n');
        self.flush()
    }

    /// It wants to be told of events from now on.
    pub(super) const fn watch(&mut self) {
        self.watches = true;
    }

    /// It wants to be told of events.
    pub(super) const fn watches(&self) -> bool {
        self.watches
    }

    /// Queues an event, unless this client does not keep up with them; it is told how many it has
    /// missed.
    pub(super) fn event(&mut self, event: &Event, missed: u64) -> io::Result<()> {
        self.missed += missed;
        if self.out.len() >= BACKLOG_MAX {
            self.missed += 1;
            return Ok(());
        }
        let missed = std::mem::take(&mut self.missed);
        self.reply(&Reply::Event(Event { missed, ..event.clone() }))
    }

    /// Writes as much as the client takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The client will send no more, has been sent everything, and wants to be told of nothing more.
    pub(super) fn is_done(&self) -> bool {
        self.at_end && self.out.is_empty() && !self.watches
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

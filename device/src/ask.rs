// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The other end of a control socket: what `tsnic ask` and `tsnic ctl` talk to.

use std::io::{self, BufRead as _, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tsnic_protocol::{PairRequest, Reply};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The request is none.
    #[error("The request is none")]
    Request(#[source] serde_json::Error),
    /// Nobody listens.
    #[error("Cannot connect to the control socket {}", .path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("The device has hung up")]
    Broken(#[from] io::Error),
    /// It answered something else than a reply.
    #[error("The device's answer is none")]
    Reply(#[source] serde_json::Error),
}

/// A running device, at the other end of its control socket.
#[derive(Debug)]
pub struct Device {
    socket: BufReader<UnixStream>,
}

impl Device {
    /// Connects to a device's control socket.
    ///
    /// # Errors
    /// [`AskError::Connect`].
    pub fn connect(control: &Path) -> Result<Self, AskError> {
        UnixStream::connect(control)
            .map(Self::from)
            .map_err(|source| AskError::Connect { path: control.to_owned(), source })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`AskError::Broken`].
    pub fn send(&mut self, request: &PairRequest) -> Result<(), AskError> {
        // One line, however it was laid out on a command line.
        let line = serde_json::to_string(request).map_err(AskError::Request)?;
        Ok(self.socket.get_mut().write_all(format!("{line}\n").as_bytes())?)
    }

    /// Waits for the next reply: with its text, which has no line end.
    ///
    /// # Errors
    /// [`AskError::Broken`], [`AskError::Reply`].
    pub fn reply(&mut self) -> Result<(Reply, String), AskError> {
        let mut line = String::new();
        if self.socket.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        line.truncate(line.trim_end().len());
        Ok((serde_json::from_str(&line).map_err(AskError::Reply)?, line))
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// As the two do.
    pub fn ask(&mut self, request: &PairRequest) -> Result<Reply, AskError> {
        self.send(request)?;
        self.reply().map(|(reply, _)| reply)
    }
}

impl From<UnixStream> for Device {
    fn from(socket: UnixStream) -> Self {
        Self { socket: BufReader::new(socket) }
    }
}

/// Sends a request, and writes each line of the answer to `out`. True when the request was carried
/// out.
///
/// # Errors
/// See [`AskError`].
pub fn ask(control: &Path, request: &str, out: &mut impl Write) -> Result<bool, AskError> {
    let request: PairRequest = serde_json::from_str(request).map_err(AskError::Request)?;
    let mut device = Device::connect(control)?;
    device.send(&request)?;
    loop {
        let (reply, line) = device.reply()?;
        // Nobody may be reading; the request has been made all the same.
        let _ = writeln!(out, "{line}");
        match reply {
            Reply::Progress { .. } => {}
            Reply::Error { .. } => return Ok(false),
            _ => return Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A device that answers one request with these lines, and what `ask` makes of it.
    fn answered(request: &str, answer: &'static str) -> (Result<bool, AskError>, String, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).expect("a socket");
        let device = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut asked = String::new();
            BufReader::new(&socket).read_line(&mut asked).expect("a line");
            socket.write_all(answer.as_bytes()).expect("it is there");
            asked
        });
        let mut out = Vec::new();
        let result = ask(&path, request, &mut out);
        (result, device.join().expect("it ends"), String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_request_is_sent_in_one_line_and_answered() {
        let progress = "{\"reply\":\"progress\",\"done\":1,\"total\":2}\n{\"reply\":\"done\"}\n";
        let (result, asked, out) = answered("{\"request\":\n \"status\"}", progress);
        assert!(result.expect("it is answered"));
        assert_eq!((asked.as_str(), out.as_str()), ("{\"request\":\"status\"}\n", progress));
    }

    #[test]
    fn what_is_refused_or_broken_is_told_apart() {
        let refused = "{\"reply\":\"error\",\"message\":\"no\"}\n";
        assert!(matches!(answered("{\"request\":\"status\"}", refused).0, Ok(false)));
        let status = "{\"request\":\"status\"}";
        assert!(matches!(answered(status, "").0, Err(AskError::Broken(_))));
        assert!(matches!(answered(status, "nonsense\n").0, Err(AskError::Reply(_))));
        let nowhere = Path::new("/nonexistent/control");
        assert!(matches!(ask(nowhere, status, &mut Vec::new()), Err(AskError::Connect { .. })));
        assert!(matches!(
            ask(nowhere, "{\"request\":\"statu\"}", &mut Vec::new()),
            Err(AskError::Request(_))
        ));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of HTTP/1.1 as a reader of metrics needs: one `GET /metrics` a connection.

use std::error::Error;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Request, Status};

/// Longest request head, bytes.
const HEAD_MAX: usize = 8 * 1024;
/// Most header fields of a request.
const FIELDS_MAX: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reads one request, answers it with `metrics` or an error, and leaves the connection to be
/// closed.
///
/// # Errors
/// When the reader is gone, or has not sent a whole request within `patience`.
pub(super) fn answer<E: Error>(
    stream: &mut (impl Read + Write),
    patience: Duration,
    metrics: impl FnOnce() -> Result<String, E>,
) -> io::Result<()> {
    let (status, kind, body) = match request(stream, patience)? {
        Asked::Metrics => match metrics() {
            Ok(text) => ("200 OK", METRICS, text),
            Err(error) => ("503 Service Unavailable", TEXT, format!("{error}\n")),
        },
        Asked::Other => ("404 Not Found", TEXT, "There is /metrics\n".into()),
        Asked::Method => ("405 Method Not Allowed", TEXT, "GET only\n".into()),
        Asked::Malformed => ("400 Bad Request", TEXT, "This is no HTTP request\n".into()),
        Asked::TooLong => {
            ("431 Request Header Fields Too Large", TEXT, "The request is too long\n".into())
        }
    };
    let length = body.len();
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Other,
    Method,
    Malformed,
    TooLong,
}

fn request(stream: &mut impl Read, patience: Duration) -> io::Result<Asked> {
    let deadline = Instant::now() + patience;
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&bytes[..count]);
        if let Some(asked) = parse(&head) {
            return Ok(asked);
        }
        // One that sends a byte now and then.
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// `None` when there has to be more.
fn parse(head: &[u8]) -> Option<Asked> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(_)) => Some(match (request.method, request.path) {
            (Some("GET"), Some(path)) => {
                let path = path.split('?').next().unwrap_or_default();
                if path == "/metrics" { Asked::Metrics } else { Asked::Other }
            }
            _ => Asked::Method,
        }),
        Ok(Status::Partial) => (head.len() >= HEAD_MAX).then_some(Asked::TooLong),
        Err(httparse::Error::TooManyHeaders) => Some(Asked::TooLong),
        Err(_) => Some(Asked::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that sends these parts.
    struct Reader {
        parts: Vec<Vec<u8>>,
        answer: Vec<u8>,
    }

    impl Read for Reader {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            if self.parts.is_empty() {
                return Ok(0);
            }
            let part = self.parts.remove(0);
            bytes[..part.len()].copy_from_slice(&part);
            Ok(part.len())
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.answer.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(request: &[u8], part: usize, metrics: io::Result<String>) -> io::Result<String> {
        let parts = request.chunks(part).map(<[u8]>::to_vec).collect();
        let mut reader = Reader { parts, answer: Vec::new() };
        answer(&mut reader, Duration::from_secs(60), || metrics)?;
        Ok(String::from_utf8(reader.answer).expect("text"))
    }

    #[test]
    fn metrics_are_given_to_whoever_gets_them() {
        for part in [1, 7, 1000] {
            let answer =
                answered(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", part, Ok("m 1\n".into()));
            let answer = answer.expect("it is answered");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("Content-Length: 4\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nm 1\n"), "{answer}");
        }
    }

    #[test]
    fn what_is_no_such_request_is_told_so() {
        let long = [b"GET /metrics HTTP/1.1\r\nx: ".as_slice(), &[b'a'; HEAD_MAX]].concat();
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        for (request, status) in [
            (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x00\x00", "400"),
            (&long, "431"),
            (many.as_bytes(), "431"),
        ] {
            let answer = answered(request, 512, Ok(String::new())).expect("it is answered");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        let broken = Err(io::Error::other("gone"));
        let answer = answered(b"GET /metrics HTTP/1.1\r\n\r\n", 512, broken).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("gone\n"), "{answer}");
        let cut = answered(b"GET /metrics HTT", 512, Ok(String::new())).expect_err("it is cut off");
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_takes_too_long_is_left() {
        let mut reader = Reader { parts: vec![b"G".to_vec(), b"E".to_vec()], answer: Vec::new() };
        let error = answer(&mut reader, Duration::ZERO, || io::Result::Ok(String::new()));
        assert_eq!(error.expect_err("it is late").kind(), io::ErrorKind::TimedOut);
    }
}

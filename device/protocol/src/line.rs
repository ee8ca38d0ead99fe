// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of bounded length out of a stream of bytes, and requests out of lines.

use super::PairRequest;

#[cfg(test)]
mod tests;

/// Longest line of a client of the control socket, in bytes, its end not counted: room for the
/// replay of a whole schedule on each vector.
pub const LINE_MAX: usize = 3 << 20;

/// What a [`LineFramer`] has found. Lines are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A line, without its end.
    Line {
        /// Its number.
        number: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A line that is longer than allowed; the rest of it will be skipped.
    TooLong {
        /// Its number.
        number: u64,
    },
}

/// Takes a stream of bytes apart into lines. Keeps no more than one line of the longest permitted
/// length.
#[derive(Debug)]
pub struct LineFramer {
    max: usize,
    buffer: Vec<u8>,
    /// The rest of a line that was too long is being skipped.
    skipping: bool,
    /// Lines that have come to their end.
    ended: u64,
}

impl LineFramer {
    /// For lines of at most `max` bytes, their end not counted.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new(), skipping: false, ended: 0 }
    }

    /// Takes in bytes and calls `each` for each line that ends in them.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Framed<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.take(&bytes[..end], &mut each);
            bytes = &bytes[end + 1..];
            self.finish(&mut each);
        }
        self.take(bytes, &mut each);
    }

    /// Ends the current line: a stream's last one may lack its end.
    pub fn finish(&mut self, mut each: impl FnMut(Framed<'_>)) {
        self.ended += 1;
        if !self.skipping {
            each(Framed::Line { number: self.ended, bytes: &self.buffer });
        }
        self.buffer.clear();
        self.skipping = false;
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(Framed<'_>)) {
        if self.skipping {
            return;
        }
        if self.buffer.len() + bytes.len() > self.max {
            self.skipping = true;
            self.buffer.clear();
            each(Framed::TooLong { number: self.ended + 1 });
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

/// Takes a client's stream of bytes apart into requests, one a line.
#[derive(Debug)]
pub struct RequestReader {
    framer: LineFramer,
}

impl Default for RequestReader {
    fn default() -> Self {
        Self { framer: LineFramer::new(LINE_MAX) }
    }
}

impl RequestReader {
    /// Takes in bytes and calls `each` for each line that ends in them and is not empty: the
    /// request, or what is wrong with the line and where.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Result<PairRequest, String>)) {
        self.framer.feed(bytes, |framed| request(framed).map_or((), &mut each));
    }

    /// The stream has ended: a last line may lack its end.
    pub fn finish(&mut self, mut each: impl FnMut(Result<PairRequest, String>)) {
        self.framer.finish(|framed| request(framed).map_or((), &mut each));
    }
}

/// The request in a line; `None` in an empty one.
fn request(framed: Framed<'_>) -> Option<Result<PairRequest, String>> {
    match framed {
        Framed::TooLong { number } => {
            Some(Err(format!("Line {number} is longer than {LINE_MAX} bytes")))
        }
        Framed::Line { bytes, .. } if bytes.trim_ascii().is_empty() => None,
        Framed::Line { number, bytes } => Some(
            serde_json::from_slice(bytes)
                .map_err(|error| format!("Line {number} is not a request: {}", place(&error))),
        ),
    }
}

/// The error with its column; the line it names is always the first, of one.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    if error.column() == 0 { what.to_owned() } else { format!("{what}, column {}", error.column()) }
}

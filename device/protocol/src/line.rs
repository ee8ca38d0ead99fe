// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests out of a stream of bytes: lines, of bounded length, numbered for the messages.

use super::Request;

#[cfg(test)]
mod tests;

/// Longest line, in bytes, its end not counted. The longest sensible request is a few hundred bytes
/// long.
pub const LINE_MAX: usize = 16 * 1024;

/// Takes lines apart.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// The rest of a line that was too long is being skipped.
    skipping: bool,
    number: u64,
}

impl Lines {
    /// Takes in bytes, calls `each` for each line that ends in them: the request, or what is wrong
    /// with the line and where.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Result<Request, String>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.take(&bytes[..end], &mut each);
            bytes = &bytes[end + 1..];
            self.end(&mut each);
        }
        self.take(bytes, &mut each);
    }

    /// The stream has ended: a last line may lack its end.
    pub fn finish(&mut self, mut each: impl FnMut(Result<Request, String>)) {
        self.end(&mut each);
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(Result<Request, String>)) {
        if self.skipping {
            return;
        }
        if self.buffer.len() + bytes.len() > LINE_MAX {
            self.skipping = true;
            self.buffer.clear();
            each(Err(format!("Line {} is longer than {LINE_MAX} bytes", self.number + 1)));
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Result<Request, String>)) {
        self.number += 1;
        if !self.skipping && !self.buffer.trim_ascii().is_empty() {
            let request = serde_json::from_slice(&self.buffer);
            each(request.map_err(|error| format!("Line {} is not a request: {}", self.number, place(&error))));
        }
        self.buffer.clear();
        self.skipping = false;
    }
}

/// The error with its column; the line it names is always the first, of one.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    if error.column() == 0 { what.to_owned() } else { format!("{what}, column {}", error.column()) }
}

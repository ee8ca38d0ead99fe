// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A long TCP stream whose content both sides know: every byte is compared, so nothing that is
//! lost, repeated or changed on the way passes.

use std::io::{self, Read, Write};

/// Bytes of one read or write.
const CHUNK: usize = 64 * 1024;

/// The byte at `position` of the stream. Neighbouring words differ, and so do the same words of
/// neighbouring chunks.
const fn byte_at(position: u64) -> u8 {
    let word = (position / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> (8 * (position % 8))) as u8
}

fn fill(chunk: &mut [u8], start: u64) {
    for (byte, position) in chunk.iter_mut().zip(start..) {
        *byte = byte_at(position);
    }
}

/// Writes the first `bytes` of the stream.
///
/// # Errors
/// The connection's.
pub fn send(to: &mut impl Write, bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    while sent < bytes {
        let len = CHUNK.min(usize::try_from(bytes - sent).unwrap_or(CHUNK));
        fill(&mut chunk[..len], sent);
        to.write_all(&chunk[..len])?;
        sent += len as u64;
    }
    to.flush()
}

/// Reads the stream to its end; the number of bytes, all of which were right.
///
/// # Errors
/// The connection's; `InvalidData`, with the position, when a byte is wrong.
pub fn receive(from: &mut impl Read) -> io::Result<u64> {
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut received = 0;
    loop {
        let len = from.read(&mut chunk)?;
        if len == 0 {
            return Ok(received);
        }
        fill(&mut expected[..len], received);
        if let Some(at) = (0..len).find(|&at| chunk[at] != expected[at]) {
            let position = received + at as u64;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("Byte {position} of the stream is wrong"),
            ));
        }
        received += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_recognised() {
        let mut stream = Vec::new();
        send(&mut stream, 200_001).unwrap();
        assert_eq!(receive(&mut &stream[..]).unwrap(), 200_001);
    }

    #[test]
    fn a_byte_that_is_lost_repeated_or_changed_is_found() {
        let mut stream = Vec::new();
        send(&mut stream, 200_000).unwrap();
        let mut lost = stream.clone();
        lost.remove(70_000);
        let mut repeated = stream.clone();
        repeated.insert(70_000, stream[69_999]);
        let mut changed = stream;
        changed[70_000] ^= 1;
        for stream in [lost, repeated, changed] {
            let error = receive(&mut &stream[..]).unwrap_err().to_string();
            assert!(error.contains("Byte 7000"), "{error}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::Error;

const DEVICE: &str = "/dev/kmsg";
/// The kernel never gives a longer record (`CONSOLE_EXT_LOG_MAX`).
const RECORD_MAX: usize = 8192;

/// A reader that remembers how far it has read.
#[derive(Debug)]
pub struct KernelLog {
    device: File,
}

impl KernelLog {
    /// Opens the log at its beginning.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Error> {
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(Error::file("open", DEVICE))?;
        Ok(Self { device })
    }

    /// Lines since the last call, each as `[seconds.microseconds] text`; never waits.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_new(&mut self) -> Result<String, Error> {
        let mut lines = Vec::new();
        let mut record = [0; RECORD_MAX];
        loop {
            // Each read gives one record.
            match self.device.read(&mut record) {
                Ok(0) => break,
                Ok(len) => lines.push(format_record(&String::from_utf8_lossy(&record[..len]))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The log is a ring: records not yet read were overwritten.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    lines.push("[lines lost]".to_owned());
                }
                Err(error) => return Err(Error::file("read", DEVICE)(error)),
            }
        }
        Ok(lines.join("\n"))
    }
}

/// `prefix;text`, with a prefix of `priority,sequence,microseconds,flags`, then ` KEY=value` lines
/// that are left out.
fn format_record(record: &str) -> String {
    let (prefix, text) = record.split_once(';').unwrap_or(("", record));
    let text = text.lines().next().unwrap_or("");
    match prefix.split(',').nth(2).and_then(|micros| micros.parse::<u64>().ok()) {
        Some(micros) => format!("[{:5}.{:06}] {text}", micros / 1_000_000, micros % 1_000_000),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_look_as_dmesg_shows_them() {
        let record = "6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n";
        assert_eq!(format_record(record), "[    5.140900] NET: Registered protocol family 10");
        assert_eq!(format_record("4,1,0,-;a;b\n"), "[    0.000000] a;b");
        assert_eq!(format_record("nonsense"), "nonsense");
    }
}

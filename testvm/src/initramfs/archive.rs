// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The archive format the kernel unpacks at boot: cpio "newc" (the kernel's
//! `driver-api/early-userspace/buffer-format`).

use std::io::{self, Write};

use cpio::NewcBuilder;
use cpio::newc::{ModeFileType, trailer};

/// Writes an archive. Directories come before what is in them.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Write to `out`.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// A directory, mode 0755.
    ///
    /// # Errors
    /// `out` fails.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        let entry = NewcBuilder::new(name).mode(0o755);
        self.entry(entry.set_mode_file_type(ModeFileType::Directory), &[])
    }

    /// A regular file with permission bits `mode`.
    ///
    /// # Errors
    /// `out` fails, or the file is too large for the format (4 GiB).
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let entry = NewcBuilder::new(name).mode(mode);
        self.entry(entry.set_mode_file_type(ModeFileType::Regular), content)
    }

    /// A character device, mode 0600.
    ///
    /// # Errors
    /// `out` fails.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        let entry = NewcBuilder::new(name).mode(0o600).rdev_major(major).rdev_minor(minor);
        self.entry(entry.set_mode_file_type(ModeFileType::Char), &[])
    }

    /// End the archive and give `out` back.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(self) -> io::Result<W> {
        let mut out = trailer(self.out)?;
        out.flush()?;
        Ok(out)
    }

    fn entry(&mut self, entry: NewcBuilder, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.inode += 1;
        let mut writer = entry.ino(self.inode).write(&mut self.out, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    /// Reads an archive by the book, independently of the writer.
    fn read(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701", "magic at {at}");
            let field = |n: usize| {
                let start = at + 6 + 8 * n;
                u32::from_str_radix(
                    std::str::from_utf8(&archive[start..start + 8]).expect("digits"),
                    16,
                )
                .expect("a number")
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let device = (field(9), field(10));
            let name_at = at + 110;
            assert_eq!(archive[name_at + name_size - 1], 0);
            let name = String::from_utf8(archive[name_at..name_at + name_size - 1].to_vec())
                .expect("a name");
            let content_at = (name_at + name_size).next_multiple_of(4);
            at = (content_at + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(at, archive.len());
                return entries;
            }
            entries.push(Entry {
                name,
                mode,
                device,
                content: archive[content_at..content_at + size].to_vec(),
            });
        }
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").expect("memory");
        archive.character_device("dev/console", 5, 1).expect("memory");
        for length in 0..9 {
            archive.file(&"n".repeat(length + 1), 0o644, &vec![0xa5; length]).expect("memory");
        }
        archive.finish().expect("memory")
    }

    #[test]
    fn what_is_written_can_be_read_back_at_every_alignment() {
        let entries = read(&sample());
        assert_eq!(entries.len(), 11);
        assert_eq!((entries[0].name.as_str(), entries[0].mode), ("dev", 0o040_755));
        assert_eq!((entries[1].mode, entries[1].device), (0o020_600, (5, 1)));
        for (length, entry) in entries[2..].iter().enumerate() {
            assert_eq!((entry.name.len(), entry.mode), (length + 1, 0o100_644));
            assert_eq!(entry.content, vec![0xa5; length]);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's console: a file that QEMU writes, of which only the end is ever read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::process::Tail;

/// How much of the end is looked at, bytes.
const WINDOW: u64 = 64 * 1024;

/// A guest's console.
#[derive(Debug)]
pub(super) struct Console {
    path: PathBuf,
}

impl Console {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last `lines` lines.
    pub fn tail(&self, lines: usize) -> Tail {
        match self.end() {
            Ok(text) => Tail::of(&text, lines),
            Err(error) => Tail(vec![format!("(the console cannot be read: {error})")]),
        }
    }

    /// Whether the kernel has said that it gives up.
    pub fn panicked(&self) -> bool {
        self.end().is_ok_and(|text| text.contains("Kernel panic - not syncing"))
    }

    fn end(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> (tempfile::TempDir, Console) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("console");
        std::fs::write(&path, text).expect("a console");
        (dir, Console::new(path))
    }

    #[test]
    fn the_last_lines_are_shown() {
        let lines: Vec<_> = (0..10_000).map(|n| format!("[    0.0] line {n}\r\n")).collect();
        let (_dir, console) = console(&lines.concat());
        assert_eq!(console.tail(2).0, ["[    0.0] line 9998", "[    0.0] line 9999"]);
        assert!(!console.panicked());
    }

    #[test]
    fn a_panic_is_recognised() {
        let (_dir, console) = console(
            "[    1.2] Kernel panic - not syncing: Attempted to kill init!\r\n[ 1.2] CPU: 0\r\n",
        );
        assert!(console.panicked());
    }

    #[test]
    fn a_console_that_is_not_there_is_said_so() {
        let console = Console::new("/nonexistent/console".into());
        assert!(console.tail(3).to_string().contains("cannot be read"));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Standard output and standard error, either of which may have nobody who reads it (`| head -1`),
//! or no room (`> /dev/full`). What cannot be written is lost; the run goes on, and its exit code
//! says what came of it.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// [`println`] to standard output, by [`write_out`].
macro_rules! outln {
    ($($text:tt)*) => { $crate::output::write_out(format_args!($($text)*)) };
}

/// [`eprintln`] to standard error, by [`write_err`].
macro_rules! errln {
    ($($text:tt)*) => { $crate::output::write_err(format_args!($($text)*)) };
}

pub(crate) use {errln, outln};

/// It has been said that standard output cannot be written.
static SAID: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. That it cannot be written is said once, on standard error,
/// unless it is because nobody reads it.
pub fn write_out(text: fmt::Arguments<'_>) {
    if let Err(error) = write(&mut io::stdout(), text)
        && error.kind() != ErrorKind::BrokenPipe
        && !SAID.swap(true, Ordering::Relaxed)
    {
        write_err(format_args!("warning: standard output cannot be written: {error}"));
    }
}

/// Writes a line to standard error, if that can be written.
pub fn write_err(text: fmt::Arguments<'_>) {
    // There is nowhere left to say it.
    let _ = write(&mut io::stderr(), text);
}

fn write(to: &mut impl Write, text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut line = String::new();
    if writeln!(line, "{text}").is_err() {
        return Err(io::Error::other("a value cannot be shown"));
    }
    to.write_all(line.as_bytes())?;
    to.flush()
}

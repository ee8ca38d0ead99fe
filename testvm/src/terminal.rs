// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The user's terminal, connected to the shell of a guest.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{getpgrp, read, tcgetpgrp};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

use crate::process::TICK;

/// Ctrl-], the key that is not passed on but leaves, as in telnet.
const LEAVE: u8 = 0x1d;

/// Rows and columns of this terminal; `None` when it is none, or not this program's to read from:
/// in the background reading would stop it.
#[must_use]
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    if tcgetpgrp(&terminal).ok()? != getpgrp() {
        return None;
    }
    let Winsize { ws_row, ws_col, .. } = tcgetwinsize(&terminal).ok()?;
    // A serial line has neither.
    Some(if ws_row == 0 || ws_col == 0 { (24, 80) } else { (ws_row, ws_col) })
}

/// A terminal that passes every key on, Ctrl-C included. Dropping it restores its settings.
#[derive(Debug)]
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn set(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut settings = before.clone();
        settings.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &settings)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // It may have gone with its window.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Passes keys from `terminal` to `shell` and what that says to `screen`, until Ctrl-] or until one
/// of them ends. `look` is called at least every [`TICK`]; its error ends it as well.
///
/// # Errors
/// What `look` says, or what becomes of reading and writing.
pub fn attach<E: From<io::Error>>(
    terminal: &impl AsFd,
    screen: &mut impl Write,
    shell: &mut UnixStream,
    look: &mut dyn FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let raw = Raw::set(terminal.as_fd())?;
    let mut chunk = [0; 4096];
    loop {
        look()?;
        let mut ends = [raw.terminal, shell.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
        match poll(&mut ends, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let [keys, said] = ends.map(|end| end.any().unwrap_or(true));
        if keys {
            let count = read(raw.terminal, &mut chunk).map_err(io::Error::from)?;
            let typed = &chunk[..count];
            let end = typed.iter().position(|&key| key == LEAVE);
            shell.write_all(&typed[..end.unwrap_or(count)])?;
            if end.is_some() || count == 0 {
                return Ok(());
            }
        }
        if said {
            let count = shell.read(&mut chunk)?;
            screen.write_all(&chunk[..count])?;
            screen.flush()?;
            if count == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;
    use std::time::Duration;

    use nix::pty::openpty;
    use rustix::termios::LocalModes;

    use super::*;

    /// Whether the terminal answers Ctrl-C itself.
    fn is_cooked(terminal: &impl AsFd) -> bool {
        tcgetattr(terminal).expect("settings").local_modes.contains(LocalModes::ISIG)
    }

    #[test]
    fn every_key_goes_to_the_shell_but_the_one_that_leaves() {
        let pty = openpty(None, None).expect("a terminal");
        let (mut shell, mut guest) = UnixStream::pair().expect("sockets");
        guest.write_all(b"guest# ").expect("the shell's first word");
        let watched = pty.slave.try_clone().expect("a terminal");
        let user = thread::spawn(move || {
            while is_cooked(&watched) {
                thread::sleep(Duration::from_millis(1));
            }
            let mut keyboard = File::from(pty.master);
            keyboard.write_all(b"ls\r\x03\x04\x1drm").expect("a keyboard");
            keyboard
        });
        let mut screen = Vec::new();
        let left: io::Result<()> = attach(&pty.slave, &mut screen, &mut shell, &mut || Ok(()));
        left.expect("an end by Ctrl-]");
        let _keyboard = user.join().expect("a user");
        assert!(is_cooked(&pty.slave), "the settings are restored");
        assert_eq!(screen, b"guest# ");
        drop(shell);
        let mut typed = Vec::new();
        guest.read_to_end(&mut typed).expect("keys");
        assert_eq!(typed, b"ls\r\x03\x04");
    }

    #[test]
    fn a_shell_that_ends_and_a_run_that_is_stopped_give_the_terminal_back() {
        let pty = openpty(None, None).expect("a terminal");
        let (mut shell, mut guest) = UnixStream::pair().expect("sockets");
        let mut screen = Vec::new();
        let mut stop = || Err(io::Error::other("stopped"));
        let error = attach(&pty.slave, &mut screen, &mut shell, &mut stop);
        assert_eq!(error.expect_err("stopped").to_string(), "stopped");
        assert!(is_cooked(&pty.slave));
        guest.write_all(b"bye").expect("a last word");
        drop(guest);
        let ended: io::Result<()> = attach(&pty.slave, &mut screen, &mut shell, &mut || Ok(()));
        ended.expect("an end");
        assert!(is_cooked(&pty.slave));
        assert_eq!(screen, b"bye");
    }

    #[test]
    fn what_is_no_terminal_of_this_program_is_not_read() {
        assert_eq!(size(File::open("/dev/null").expect("a file")), None);
        let pty = openpty(None, None).expect("a terminal");
        assert_eq!(size(&pty.slave), None, "it is nobody's controlling terminal");
    }
}

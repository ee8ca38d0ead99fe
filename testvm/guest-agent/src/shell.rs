// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An interactive shell on the third serial port, by the busybox of the initramfs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use rustix::termios::{self, ControlModes, OptionalActions, Winsize};

use crate::error::Error;

const TERMINAL: &str = "/dev/ttyS2";
const BUSYBOX: &str = "/bin/busybox";

/// Each shell leads a session with the terminal, so that Ctrl-C reaches what it runs. Its end hangs
/// the terminal up, which is then opened anew. One that cannot start is not tried again at once.
const SHELLS: &str = "/bin/busybox --install -s /bin
    while :; do setsid -c sh -l <>$TERMINAL >&0 2>&0 || sleep 1; done";

/// Starts the first shell.
///
/// # Errors
/// There is no third serial port, or no busybox that needs no other file.
pub fn start() -> Result<(), Error> {
    let terminal = open()?;
    let mut settings =
        termios::tcgetattr(&terminal).map_err(Error::file("read the settings of", TERMINAL))?;
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    // As fast as it goes: see `serial::open`.
    settings.set_speed(115_200).map_err(Error::file("set the speed of", TERMINAL))?;
    termios::tcsetattr(&terminal, OptionalActions::Now, &settings)
        .map_err(Error::file("set up", TERMINAL))?;
    run(&terminal).map_err(Error::file("run (is it linked statically?)", BUSYBOX))
}

/// Leaves the shells to themselves: who ends in this machine is reaped by its init, which this is.
fn run(terminal: &File) -> io::Result<()> {
    let mut command = Command::new(BUSYBOX);
    command.args(["sh", "-c", SHELLS]).env_clear().current_dir("/");
    command.envs([("PATH", "/bin"), ("HOME", "/"), ("TERM", "vt100"), ("PS1", "guest# ")]);
    let stream = || terminal.try_clone().map(Stdio::from);
    command.env("TERMINAL", TERMINAL).stdin(stream()?).stdout(stream()?).stderr(stream()?);
    command.spawn().map(drop)
}

/// Tells the terminal's size to whoever asks there.
///
/// # Errors
/// The kernel's.
pub fn resize(rows: u16, columns: u16) -> Result<(), Error> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(open()?, size).map_err(Error::file("set the size of", TERMINAL))
}

fn open() -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(TERMINAL)
        .map_err(Error::file("open", TERMINAL))
}

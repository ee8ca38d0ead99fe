// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The start of the device, and the connections to it and to QEMU.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::Error;
use super::family::{Family, Logs};
use super::parts::{CONTROL_SOCKET, DEVICE, NIC_SOCKET, QEMU, TAIL};
use crate::interrupt;
use crate::isolate::{Link, SocketDir};
use crate::process::{Child, TICK, readable};

/// For a program to make its sockets.
pub(super) const START_LIMIT: Duration = Duration::from_secs(10);

/// How the device is started.
#[derive(Debug)]
pub(super) struct DeviceProgram {
    pub path: PathBuf,
    pub args: Vec<String>,
}

pub(super) fn start_device(
    program: &DeviceProgram,
    link: &Link,
    sockets: &SocketDir,
    logs: &Logs,
) -> Result<Child, Error> {
    let mut command = Command::new(&program.path);
    command
        .args([
            "--socket",
            NIC_SOCKET,
            "--control",
            CONTROL_SOCKET,
            "--port",
            &format!("tap:{}", link.tap),
        ])
        .args(&program.args)
        .current_dir(sockets.path());
    logs.redirect(&mut command, "device")?;
    Ok(Child::spawn(DEVICE, &mut command)?)
}

/// Connect to the device's control socket, which it makes some time after its start.
pub(super) fn connect_control(
    sockets: &SocketDir,
    backend: &mut Child,
    logs: &Logs,
    limit: Duration,
    tick: &mut dyn FnMut(),
) -> Result<UnixStream, Error> {
    let doing = || "starting".to_owned();
    let path = sockets.socket(CONTROL_SOCKET);
    let deadline = Instant::now() + limit;
    loop {
        let error = match UnixStream::connect(&path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if let Some(status) = backend.ended()? {
            return Err(Error::Ended {
                who: DEVICE,
                doing: doing(),
                status,
                tail: logs.tail("device"),
            });
        }
        interrupt::check().map_err(|source| Error::Interrupted { doing: doing(), source })?;
        if Instant::now() >= deadline {
            let message = format!("its control socket within {limit:?}: {error}");
            return Err(Error::Late { who: DEVICE, doing: doing(), message });
        }
        tick();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Wait until QEMU has connected the agent's serial port.
pub(super) fn accept(
    listener: &UnixListener,
    path: &Path,
    family: &mut Family,
    tick: &mut dyn FnMut(),
) -> Result<UnixStream, Error> {
    let doing = "starting QEMU";
    let io = |source| Error::Io { path: path.to_owned(), source };
    let limit = family.scale.limit(START_LIMIT);
    let deadline = Instant::now() + limit;
    while !readable(listener, TICK).map_err(io)? {
        family.check(doing)?;
        if Instant::now() >= deadline {
            let console = family.console.tail(TAIL);
            return Err(Error::Silent { who: QEMU, doing: doing.to_owned(), limit, console });
        }
        tick();
    }
    let (stream, _) = listener.accept().map_err(io)?;
    Ok(stream)
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts the parts together and waits: for front ends, for signals, for the control socket.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::panic;
use std::process::{self, ExitCode};
use std::sync::Arc;

use clap::Parser as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::clock::{HostClock, monotonic};
use crate::config::{Args, Config};
use crate::control::channel::control_channel;
use crate::control::server::{ControlError, ControlServer};
use crate::log_limit::LogLimit;
use crate::net::pair::Pair;
use crate::port::tap;
use crate::socket::{ListeningSocket, SocketError};
use crate::vhost::{Backend, Connection, ConnectionError};

/// Exit status for a command line that is wrong; the one clap uses.
const USAGE: u8 = 2;

/// What the engine waits for while no front end is connected, the control socket's commands and the workers' timers besides; a signal
/// while one is.
const SIGNAL: u64 = 0;
const LISTENER: u64 = 1;

/// Why the engine could not start or go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A socket path.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port.
    #[error("Cannot open the port")]
    Port(#[from] tap::OpenError),
    /// A front end.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The host refused something else.
    #[error("Cannot {what}")]
    Host {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn host<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> EngineError {
    move |source| EngineError::Host { what, source: source.into() }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.verbose);
    abort_on_panic();
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(error) => return fail(&error, USAGE),
    };
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Ends the process when any of its threads panics, after the message: a worker that is gone would leave a device that accepts
/// everything and serves nothing. The next process takes the sockets over.
fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::abort();
    }));
}

/// Prints an error with its causes, once.
fn fail(error: &dyn Error, status: u8) -> ExitCode {
    eprint!("tsnic: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::from(status)
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("TSNIC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Serves front ends until a signal comes or, with `once`, the first of them has left.
///
/// # Errors
/// When it cannot start, or not go on.
pub fn run(config: &Config) -> Result<(), EngineError> {
    // Before any thread is started, so that every one of them leaves the signals to this one.
    let signals = block_signals().map_err(host("watch for signals"))?;
    let port = config.port.open(config.seed)?;
    let (control_end, worker_end) = control_channel().map_err(host("make the control channel"))?;
    // A clone that stays readable here while no worker is there to serve it.
    let commands = worker_end.event().try_clone().map_err(host("make the control channel"))?;
    let backend =
        Backend::new(vec![Pair::new(0, port, HostClock, worker_end, config.limits)]).map_err(host("make a timer"))?;
    let backend = Arc::new(backend);
    let _control = match &config.control {
        Some(path) => Some(ControlServer::start(path, control_end)?),
        None => None,
    };
    let socket = ListeningSocket::bind(&config.socket)?;
    info!(socket = %config.socket.display(), port = %config.port, seed = config.seed, "Ready");
    let (signal_fd, listener_fd) = (signals.as_fd().as_raw_fd(), socket.listener().as_raw_fd());
    let timers = backend.timers().map(|timer| timer.as_raw_fd());
    let idle = [signal_fd, listener_fd, commands.as_raw_fd()].into_iter().chain(timers).collect::<Vec<_>>();
    let idle = Watch::new(&idle).map_err(host("watch for events"))?;
    // A VMM connects again as often as it is hung up on, and what it says may be its guest's fault.
    let mut failed = LogLimit::default();
    loop {
        match idle.wait()? {
            SIGNAL => break,
            LISTENER => {}
            _ => {
                backend.serve_alone();
                continue;
            }
        }
        let front = match socket.listener().accept() {
            Ok((front, _)) => front,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {
                continue;
            }
            Err(error) => return Err(host("accept a front end")(error)),
        };
        let connection = Connection::start(&backend, front)?;
        let busy = Watch::new(&[signal_fd, connection.ended().as_raw_fd()]).map_err(host("watch for events"))?;
        let woken_by = busy.wait()?;
        let result = connection.finish();
        if woken_by == SIGNAL {
            break;
        }
        match result {
            Err(error) if config.once => return Err(error.into()),
            Err(error) => {
                if let Some(line) = failed.line(monotonic()) {
                    warn!(left_out = line.left_out, "{error}");
                }
            }
            Ok(()) => {}
        }
        if config.once {
            break;
        }
    }
    info!("Ended");
    Ok(())
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Waits for any of a few descriptors.
struct Watch {
    epoll: Epoll,
}

impl Watch {
    fn new(fds: &[RawFd]) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        for (number, fd) in fds.iter().enumerate() {
            epoll.ctl(ControlOperation::Add, *fd, EpollEvent::new(EventSet::IN, number as u64))?;
        }
        Ok(Self { epoll })
    }

    /// The number of one that is readable or hung up: the lowest.
    fn wait(&self) -> Result<u64, EngineError> {
        let mut events = [EpollEvent::default(); 4];
        loop {
            match self.epoll.wait(-1, &mut events) {
                Ok(ready) => {
                    if let Some(lowest) = events[..ready].iter().map(EpollEvent::data).min() {
                        return Ok(lowest);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(host("wait for events")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        const PANIC: &str = "TSNIC_TEST_PANIC";
        if env::var_os(PANIC).is_some() {
            abort_on_panic();
            let _ = thread::spawn(|| panic!("on purpose")).join();
            return;
        }
        let name = "engine::tests::a_thread_that_panics_ends_the_process";
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--nocapture"]).env(PANIC, "1").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("on purpose"), "{output:?}");
    }
}

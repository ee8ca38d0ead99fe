// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts the parts together and waits: for front ends, for signals, for the control socket.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::panic;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser as _;
use event_manager::{EventManager, MutEventSubscriber, SubscriberOps as _};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::ask::{AskError, ask};
use crate::clock::HostClock;
use crate::config::{Command, CommandLine, Config, PlanCommand, Sandbox, Source};
use crate::control::channel::{WorkerEnd, control_channel};
use crate::control::server::{ControlError, ControlServer};
use crate::ctl::{self, CtlError};
use crate::front_ends::{Arrivals, End, FrontEnds};
use crate::metrics::{Metrics, MetricsError};
use crate::net::pair::Pair;
use crate::plan::Plan;
use crate::port::{OpenError, Port};
use crate::sandbox::{self, Confined, Files, SandboxError};
use crate::socket::{self, ListeningSocket, SocketError};
use crate::vhost::{Backend, ConnectionError, HostPair};

/// Exit status for a command line that is wrong; the one clap uses.
const USAGE: u8 = 2;

/// What `--print-capabilities` says (`docs/interop/vhost-user.json` of QEMU): a network backend has
/// none to choose among.
const CAPABILITIES: &str = r#"{"type": "net"}"#;

/// Why the engine could not start or go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A socket path.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port.
    #[error("Cannot open the port")]
    Port(#[from] OpenError),
    /// A front end.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The event loop.
    #[error("Cannot watch for events")]
    Events(#[from] event_manager::Error),
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
    // Before anything else on the command line is looked at, as the vhost-user specification says.
    if env::args_os().any(|argument| argument == "--print-capabilities") {
        let _ = writeln!(io::stdout(), "{CAPABILITIES}");
        return ExitCode::SUCCESS;
    }
    let line = CommandLine::parse();
    let args = match (line.command, line.args) {
        (Some(Command::Plan(PlanCommand::Check { files })), _) => return check_plans(&files),
        (Some(Command::Ctl { control, pair, action }), _) => {
            return match ctl::run(&control, pair, &action, &mut io::stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                // Nobody reads on.
                Err(CtlError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    ExitCode::SUCCESS
                }
                Err(error @ (CtlError::Plan(_) | CtlError::Rearm(_))) => fail(&error, USAGE),
                Err(error) => fail(&error, 1),
            };
        }
        (Some(Command::Ask { control, request }), _) => {
            return match ask(&control, &request, &mut io::stdout()) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error @ AskError::Request(_)) => fail(&error, USAGE),
                Err(error) => fail(&error, 1),
            };
        }
        (None, Some(args)) => args,
        // Clap asks for --port before.
        (None, None) => return ExitCode::from(USAGE),
    };
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

/// Says of each plan what it is for, or what is wrong with it.
fn check_plans(files: &[PathBuf]) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for file in files {
        match Plan::load(file) {
            Ok(plan) => {
                let kind = if plan.is_conformant() { "conformant" } else { "not conformant" };
                let _ = writeln!(io::stdout(), "{}: {} ({kind})", file.display(), plan.about);
            }
            Err(error) => status = fail(&error, USAGE),
        }
    }
    status
}

/// Ends the process when any of its threads panics, after the message: a worker that is gone would
/// leave a device that accepts everything and serves nothing. The next process takes the sockets
/// over.
fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::abort();
    }));
}

/// Prints an error with its causes, once.
fn fail(error: &dyn Error, status: u8) -> ExitCode {
    let mut text = format!("tsnic: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    say(&text);
    ExitCode::from(status)
}

/// Writes a line to standard error. When nobody reads it any more the line is lost, and nothing
/// else.
fn say(line: &str) {
    let _ = Log.write_all(format!("{line}\n").as_bytes());
}

/// Standard error, for the log: what cannot be written is lost. (An error would make the log's own
/// complaint, which panics.)
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        .with_writer(|| Log)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Serves front ends until a signal comes or, with `once`, the first of them has left.
///
/// # Errors
/// When it cannot start, or not go on.
pub fn run(config: &Config) -> Result<(), EngineError> {
    // Before any other descriptor is opened, which could get its number.
    let given = match config.source {
        Source::Descriptor(fd) => Some(socket::inherited(fd)?),
        Source::Socket(_) => None,
    };
    // Before any thread is started, so that every one of them leaves the signals to this one.
    let signals = block_signals().map_err(host("watch for signals"))?;
    let (mut pairs, mut control_ends, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let clock = HostClock::default();
    for (number, port) in (0..).zip(config.port.open(config.seed, config.pairs)?) {
        let (control, worker) = control_channel().map_err(host("make the control channel"))?;
        control_ends.push(control);
        // A clone that stays readable here while no worker is there to serve it.
        commands.push(worker.event().try_clone().map_err(host("make the control channel"))?);
        pairs.push(pair(number, port, clock.clone(), worker, config));
    }
    let backend = Arc::new(Backend::new(pairs, config.poll).map_err(host("make a timer"))?);
    let mut manager = EventManager::<Subscriber>::new()?;
    let socket = match &config.source {
        Source::Socket(path) => Some(ListeningSocket::bind(path)?),
        Source::Descriptor(_) => None,
    };
    let metrics = config.metrics.as_ref().map(Metrics::listen).transpose()?;
    let mut clients = Vec::new();
    let metrics = match metrics {
        Some(metrics) => {
            let (client, end) = UnixStream::pair().map_err(host("make a socket pair"))?;
            clients.push(client);
            Some((metrics, end))
        }
        None => None,
    };
    if config.control.is_some() || !clients.is_empty() {
        let server = ControlServer::new(config.control.as_deref(), clients, control_ends)?;
        manager.add_subscriber(Box::new(server));
    }
    let confined = match config.sandbox {
        Sandbox::On => Some(sandbox::confine(&Files::of(config))?),
        Sandbox::Off => None,
    };
    let (mut metrics_address, mut metrics_socket) = (None, None);
    if let Some((metrics, end)) = metrics {
        metrics_address = Some(metrics.address().to_string());
        metrics_socket = metrics.serve(end, config.pairs)?;
    }
    let arrivals = Arrivals { socket, given, once: config.once };
    let front_ends =
        FrontEnds::new(backend, arrivals, signals, commands).map_err(host("make a timer"))?;
    let front_ends = Arc::new(Mutex::new(front_ends));
    manager.add_subscriber(Box::new(Arc::clone(&front_ends)));
    say(&ready(config, metrics_address.as_deref(), confined));
    loop {
        let end = front_ends.lock().unwrap_or_else(PoisonError::into_inner).end();
        match end {
            None => {}
            Some(End::Asked) => break,
            Some(End::Connection(error)) => return Err(error.into()),
            Some(End::Events(error)) => return Err(error.into()),
        }
        manager.run()?;
    }
    drop(metrics_socket);
    info!("Ended");
    Ok(())
}

/// A queue pair that does what the plan says from the start.
fn pair(
    number: u16,
    port: Box<dyn Port>,
    clock: HostClock,
    control: WorkerEnd,
    config: &Config,
) -> HostPair {
    let mut pair = Pair::new(number, port, clock, control, &config.plan.of_pair(number).interrupts);
    if let Some(after) = config.stall_after {
        pair.watch_for_stalls(after);
    }
    for command in config.plan.commands(number) {
        // Checked when it was read.
        pair.path_command(command);
    }
    pair
}

type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// The line that says what this process is.
fn ready(config: &Config, metrics: Option<&str>, confined: Option<Confined>) -> String {
    let Config { source, control, port, pairs, plan, .. } = config;
    let mut line = format!("tsnic: {source}, port {port}");
    if *pairs > 1 {
        let _ = write!(line, ", {pairs} queue pairs");
    }
    if let Some(control) = control {
        let _ = write!(line, ", control socket {}", control.display());
    }
    if let Some(metrics) = metrics {
        let _ = write!(line, ", metrics {metrics}");
    }
    line.push_str(match confined {
        Some(Confined { files: true }) => "",
        Some(Confined { files: false }) => "; files are not confined: this kernel has no landlock",
        None => "; no sandbox",
    });
    if !plan.about.is_empty() {
        let kind = if plan.is_conformant() { "" } else { ", not conformant" };
        let _ = write!(line, "; plan: {}{kind}", plan.about);
    }
    for (name, setting) in ["rx", "tx"].into_iter().zip(plan.all.interrupts.moderation) {
        let limits = setting.limits;
        let bound = limits.bound_usecs();
        if limits.usecs != bound {
            let _ = write!(
                line,
                "; --{name}-frames without --{name}-usecs waits for {bound} us at most"
            );
        }
    }
    line
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
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

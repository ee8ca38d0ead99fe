// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line, and what is made of it.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use thiserror::Error;
use tsnic_core::arming::Rearm;
use tsnic_core::moderation::{FRAMES_MAX, Limits, Setting, USECS_MAX};
use tsnic_protocol::plan::LoadError;

use crate::ctl;
use crate::metrics;
use crate::net::pair::InterruptConfig;
use crate::plan::{PairPlan, Plan};
use crate::port::{PortConfig, PortParseError};

/// A virtual NIC that timestamps every packet and places its interrupts: the vhost-user backend.
///
/// Start it, then QEMU (10.0 or later), which needs its memory shared:
///
///   tsnic --socket /tmp/nic --port tap:tap0
///
///   qemu-system-x86_64 -object memory-backend-memfd,id=mem,size=256M,share=on \
///     -machine q35,memory-backend=mem ... \
///     -chardev socket,id=c0,path=/tmp/nic,reconnect-ms=200 \
///     -netdev vhost-user,id=n0,chardev=c0 \
///     -device virtio-net-pci,netdev=n0,disable-legacy=on
///
/// Any virtio-net driver works. The tsnic driver also gets hardware timestamps, and the interrupts
/// of a NIC whose driver arms them one at a time.
#[derive(Clone, Debug, Parser)]
#[command(name = "tsnic", version, verbatim_doc_comment, max_term_width = 100)]
#[command(subcommand_negates_reqs = true)]
#[command(args_conflicts_with_subcommands = true, after_long_help = AFTER_HELP)]
pub struct CommandLine {
    /// What is done instead of serving front ends.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How they are served.
    #[command(flatten)]
    pub args: Option<Args>,

    /// Print what this backend can do, as the vhost-user specification has it, and do nothing else,
    /// whatever is on the command line.
    #[arg(long)]
    pub print_capabilities: bool,
}

/// What is done instead of serving front ends.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Look at plans.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// See and set a running device, over its control socket (docs/control.md).
    Ctl {
        /// The control socket.
        #[arg(value_name = "SOCKET")]
        control: PathBuf,
        /// This queue pair only.
        #[arg(long, value_name = "N", global = true)]
        pair: Option<u16>,
        /// What is seen or set.
        #[command(subcommand)]
        action: ctl::Action,
    },
    /// Send a request to the control socket of a running device, and print the answer.
    Ask {
        /// The control socket.
        #[arg(value_name = "SOCKET")]
        control: PathBuf,
        /// The request, for example '{"request":"status"}'.
        request: String,
    },
}

/// What is done with plans.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// Check plans and say what they are for; what is wrong is said with file, line and column.
    Check {
        /// The plans.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// How front ends are served.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the text of --help")]
pub struct Args {
    /// vhost-user socket to listen on. Made at the start, removed at the end.
    #[arg(long, alias = "socket-path", value_name = "PATH", required_unless_present = "fd")]
    pub socket: Option<PathBuf>,

    /// Serve the front end at the other end of this open descriptor, a connected Unix stream socket,
    /// instead of listening, and end when it has left.
    #[arg(long, value_name = "FDNUM", conflicts_with = "socket")]
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    pub fd: Option<RawFd>,

    /// Control socket to listen on: one JSON request a line, for example {"request":"status"}.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Serve the state and all counters to Prometheus: PORT (of 127.0.0.1), ADDRESS:PORT, or the path
    /// of a Unix socket, with a slash in it. The page is /metrics; everybody who can connect can
    /// read it.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<metrics::Address>,

    /// Other end of the cable: tap:NAME, link:PATH, pcap:FILE, generator:KEY=VALUE,..., reflect or
    /// null.
    ///
    /// tap:NAME is a TAP interface of this host, made when it does not exist (which takes
    /// CAP_NET_ADMIN). Setting it up is left to you: ip link set NAME up.
    ///
    /// generator: sends UDP datagrams and counts what comes back. Its settings:
    /// rate=FRAMES_A_SECOND or gap-us=MICROSECONDS or gap-us=FROM..TO (nothing is sent without one
    /// of these), count=FRAMES (1 or more; no end without it), size=BYTES of payload, guest-mac,
    /// guest-ip, guest-port, peer-mac, peer-ip, peer-port. It starts when QEMU has connected:
    /// frames sent before the guest has a driver are lost, and count.
    ///
    /// reflect: each frame of the guest comes back to it, with its MAC addresses exchanged.
    ///
    /// pcap:FILE[,SETTING...] replays a capture (pcap or pcapng, Ethernet), each frame at its time;
    /// the first one waits for the guest's first buffer. speed=TIMES: so many times as fast;
    /// speed=max: as fast as the guest takes them; repeat=TIMES or repeat=forever. With several
    /// queue pairs all come to the first one.
    ///
    /// link:PATH is a cable to another tsnic device, which names the same path: two guests back to
    /// back. With several queue pairs, the others have .1, .2, ... behind the path.
    ///
    /// null: nothing comes, and what is sent is gone.
    #[arg(long, alias = "wire", value_name = "PORT", verbatim_doc_comment)]
    pub port: String,

    /// Queue pairs, each with a thread of its own: 1 to 8. QEMU's guest uses as many of them as it
    /// is given (queues=N of -netdev vhost-user; mq=on and vectors=2N+2 of -device). A TAP interface
    /// that exists needs multi_queue then.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=PAIRS_MAX))]
    pub queue_pairs: u16,

    /// What is done to the guest's interrupts: a TOML file (docs/policies.md, plans/). It is checked
    /// by tsnic plan check FILE.
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["rx_usecs", "rx_frames", "adaptive_rx", "tx_usecs", "tx_frames", "adaptive_tx", "rearm"])]
    pub plan: Option<PathBuf>,

    /// Hold a receive interrupt back until this many microseconds after the first packet it is for.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rx_usecs: u32,

    /// Hold a receive interrupt back until there are this many packets.
    ///
    /// With --rx-usecs as well, whichever comes first; without, 1000 microseconds after the first
    /// packet at the latest. With neither, interrupts are raised at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rx_frames: u32,

    /// The same for transmit interrupts: microseconds after the first packet that was sent.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tx_usecs: u32,

    /// The same for transmit interrupts: packets that were sent.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tx_frames: u32,

    /// Choose --rx-usecs and --rx-frames by the traffic: longer delays for streams, none for requests
    /// that wait for their answers.
    #[arg(long, conflicts_with_all = ["rx_usecs", "rx_frames"])]
    pub adaptive_rx: bool,

    /// The same for transmit interrupts.
    #[arg(long, conflicts_with_all = ["tx_usecs", "tx_frames"])]
    pub adaptive_tx: bool,

    /// What an arm of the tsnic driver does, to study drivers with.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub rearm: RearmArg,

    /// Find out why a queue does not go on, of any driver: look closer when the guest shows no
    /// progress for this many milliseconds, and raise one interrupt too many to see whether it
    /// helps. 0: do not. Verdicts are logged and counted; see docs/stalls.md.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub stall_ms: u32,

    /// Once woken, go on looking at the port and at the guest's memory for this many microseconds
    /// without waiting for an event: a policy sees what the guest does sooner than every 20. It
    /// takes a processor; with few of them it starves the guest.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub poll_us: u32,

    /// Seed of the random choices of the port. Runs started over the control socket bring their
    /// own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// End when the first front end disconnects, instead of waiting for the next.
    #[arg(long)]
    pub once: bool,

    /// Whether this process, once it serves, can do no more than serving takes (docs/sandbox.md).
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t)]
    pub sandbox: Sandbox,

    /// Log more to standard error: -v what happens, -vv every step. TSNIC_LOG, if set, decides
    /// instead.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Whether the process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// A system call that serving does not take ends it, and files are out of reach.
    #[default]
    On,
    /// It can do what its user can.
    Off,
}

/// A device kind; see [`Rearm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RearmArg {
    /// One interrupt for each arm, none for a packet that one was raised for.
    #[default]
    OneShot,
    /// One for each arm, also for packets that one was raised for and that the driver left.
    Level,
    /// One for each arm, and only for packets that come after it.
    Edge,
    /// Interrupts go on after the first one without waiting for the next arm.
    NoAutomask,
}

impl From<RearmArg> for Rearm {
    fn from(kind: RearmArg) -> Self {
        match kind {
            RearmArg::OneShot => Self::OneShot,
            RearmArg::Level => Self::Level,
            RearmArg::Edge => Self::Edge,
            RearmArg::NoAutomask => Self::NoAutomask,
        }
    }
}

const AFTER_HELP: &str = "\
Exit status: 0 ended as asked, 1 something failed, 2 the command line is wrong.
SIGINT and SIGTERM end it in good order; no socket file is left behind.";

/// A command line that cannot be.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `--port`.
    #[error("--port")]
    Port(#[from] PortParseError),
    /// `--plan`.
    #[error(transparent)]
    Plan(#[from] LoadError),
    /// `--plan` and `--queue-pairs`.
    #[error("The plan {} has something for queue pair {pair}, and --queue-pairs is {pairs}", .plan.display())]
    NoPair {
        /// The plan.
        plan: PathBuf,
        /// The pair that there is not.
        pair: u16,
        /// How many there are.
        pairs: u16,
    },
    /// Neither `--socket` nor `--fd`.
    #[error("Neither --socket nor --fd says where the front end is")]
    NoSource,
    /// Both sockets at the same place.
    #[error("--socket and --control are both {}", .0.display())]
    SameSocket(PathBuf),
    /// `--rx-usecs` and its like.
    #[error("{option} is {value}, more than {max}")]
    TooLarge {
        /// Which.
        option: &'static str,
        /// Given.
        value: u32,
        /// Allowed.
        max: u32,
    },
}

/// Longest that the stall detector may wait before it looks closer: one minute.
pub const STALL_MS_MAX: u32 = 60_000;

/// Longest that a worker may go on looking: whoever wakes it otherwise waits for so long.
pub const POLL_US_MAX: u32 = 10_000;

/// Most queue pairs.
pub const PAIRS_MAX: i64 = 8;

/// Where front ends come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They connect to this socket, one after another.
    Socket(PathBuf),
    /// The only one is at the other end of this descriptor.
    Descriptor(RawFd),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "listening on {}", path.display()),
            Self::Descriptor(fd) => write!(f, "serving descriptor {fd}"),
        }
    }
}

/// Everything the engine needs to know, checked as far as it can be without touching the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where front ends come from.
    pub source: Source,
    /// Control socket.
    pub control: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<metrics::Address>,
    /// The port.
    pub port: PortConfig,
    /// What is done to the guest's interrupts.
    pub plan: Plan,
    /// The stall detector looks closer when a guest shows no progress for so long. `None`: there is
    /// none.
    pub stall_after: Option<Duration>,
    /// How long a worker goes on looking once it has been woken.
    pub poll: Duration,
    /// Queue pairs.
    pub pairs: u16,
    /// Seed of the port's random choices.
    pub seed: u64,
    /// End with the first front end.
    pub once: bool,
    /// Whether the process is confined.
    pub sandbox: Sandbox,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let source = match (args.socket, args.fd) {
            (Some(path), _) if args.control.as_ref() == Some(&path) => {
                return Err(ConfigError::SameSocket(path));
            }
            (Some(path), _) => Source::Socket(path),
            (None, Some(fd)) => Source::Descriptor(fd),
            (None, None) => return Err(ConfigError::NoSource),
        };
        for (option, value, max) in [
            ("--rx-usecs", args.rx_usecs, USECS_MAX),
            ("--rx-frames", args.rx_frames, FRAMES_MAX),
            ("--tx-usecs", args.tx_usecs, USECS_MAX),
            ("--tx-frames", args.tx_frames, FRAMES_MAX),
            ("--stall-ms", args.stall_ms, STALL_MS_MAX),
            ("--poll-us", args.poll_us, POLL_US_MAX),
        ] {
            if value > max {
                return Err(ConfigError::TooLarge { option, value, max });
            }
        }
        let plan = match &args.plan {
            Some(path) => Plan::load(path)?,
            None => Plan {
                all: PairPlan {
                    interrupts: InterruptConfig {
                        moderation: [
                            Setting {
                                limits: Limits { usecs: args.rx_usecs, frames: args.rx_frames },
                                adaptive: args.adaptive_rx,
                            },
                            Setting {
                                limits: Limits { usecs: args.tx_usecs, frames: args.tx_frames },
                                adaptive: args.adaptive_tx,
                            },
                        ],
                        rearm: args.rearm.into(),
                    },
                    ..PairPlan::default()
                },
                ..Plan::default()
            },
        };
        if let (Some(path), Some((&pair, _))) = (&args.plan, plan.pairs.last_key_value())
            && pair >= args.queue_pairs
        {
            let (plan, pairs) = (path.clone(), args.queue_pairs);
            return Err(ConfigError::NoPair { plan, pair, pairs });
        }
        Ok(Self {
            port: args.port.parse()?,
            source,
            control: args.control,
            metrics: args.metrics,
            plan,
            stall_after: (args.stall_ms != 0).then(|| Duration::from_millis(args.stall_ms.into())),
            poll: Duration::from_micros(args.poll_us.into()),
            pairs: args.queue_pairs,
            seed: args.seed,
            once: args.once,
            sandbox: args.sandbox,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn config(line: &str) -> Result<Config, ConfigError> {
        let line = CommandLine::try_parse_from(line.split(' ')).unwrap();
        Config::try_from(line.args.unwrap())
    }

    #[test]
    fn the_command_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let config =
            config("tsnic --socket s --control c --port tap:t0 --rx-usecs 50 --rx-frames 8 --tx-usecs 9 --tx-frames 3 --rearm edge --stall-ms 200 --poll-us 30 --once")
                .unwrap();
        let limits = [Limits { usecs: 50, frames: 8 }, Limits { usecs: 9, frames: 3 }];
        let moderation = limits.map(Setting::from);
        assert_eq!(config.plan.all.interrupts, InterruptConfig { moderation, rearm: Rearm::Edge });
        assert_eq!(config.stall_after, Some(Duration::from_millis(200)));
        assert_eq!(config.poll, Duration::from_micros(30));
        assert_eq!(config.port.to_string(), "tap:t0");
        assert!(config.once && config.control.is_some());
        assert_eq!(config.source, Source::Socket("s".into()));
    }

    #[test]
    fn a_front_end_is_at_a_socket_or_a_descriptor() {
        let given = config("tsnic --fd 5 --port null").unwrap();
        assert_eq!(given.source, Source::Descriptor(5));
        let path = config("tsnic --socket-path s --port null").unwrap();
        assert_eq!(path.source, Source::Socket("s".into()));
        for line in ["tsnic --port null", "tsnic --port null --fd 5 --socket s", "tsnic --fd -1"] {
            assert!(CommandLine::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn adaptive_moderation_excludes_limits_of_the_same_vector() {
        let config = config("tsnic --socket s --port tap:t0 --adaptive-rx --tx-usecs 9").unwrap();
        let tx = Limits { usecs: 9, frames: 0 };
        let rx = Setting { adaptive: true, ..Setting::default() };
        assert_eq!(config.plan.all.interrupts.moderation, [rx, tx.into()]);
        let line = "tsnic --socket s --port tap:t0 --adaptive-rx --rx-frames 9";
        let error = CommandLine::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn impossible_settings_are_named() {
        let same = config("tsnic --socket s --control s --port tap:t0");
        assert!(matches!(same, Err(ConfigError::SameSocket(_))));
        let port = config("tsnic --socket s --port loop");
        assert!(matches!(port, Err(ConfigError::Port(PortParseError::Kind(_)))));
        let usecs = config("tsnic --socket s --port tap:t0 --rx-usecs 1000001");
        assert!(matches!(usecs, Err(ConfigError::TooLarge { option: "--rx-usecs", .. })));
        let poll = config("tsnic --socket s --port tap:t0 --poll-us 10001");
        assert!(matches!(poll, Err(ConfigError::TooLarge { option: "--poll-us", .. })));
        let stall = config("tsnic --socket s --port tap:t0 --stall-ms 60001");
        assert!(matches!(stall, Err(ConfigError::TooLarge { option: "--stall-ms", .. })));
    }
}

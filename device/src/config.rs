// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line, and what is made of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use thiserror::Error;
use tsnic_core::arming::Rearm;
use tsnic_core::moderation::Limits;

use crate::net::pair::InterruptConfig;
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
#[expect(clippy::doc_markdown, reason = "these comments are the text of --help")]
#[command(name = "tsnic", version, verbatim_doc_comment, max_term_width = 100, after_long_help = AFTER_HELP)]
pub struct Args {
    /// vhost-user socket to listen on. Made at the start, removed at the end.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,

    /// Control socket to listen on: one JSON request a line, for example {"request":"status"}.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Other end of the cable: tap:NAME or generator:KEY=VALUE,...
    ///
    /// tap:NAME is a TAP interface of this host, made when it does not exist (which takes
    /// CAP_NET_ADMIN). Setting it up is left to you: ip link set NAME up.
    ///
    /// generator: sends UDP datagrams and counts what comes back. Its settings:
    /// rate=FRAMES_A_SECOND or gap-us=MICROSECONDS or gap-us=FROM..TO (nothing is sent without one
    /// of these), count=FRAMES (1 or more; no end without it), size=BYTES of payload, guest-mac,
    /// guest-ip, guest-port, peer-mac, peer-ip, peer-port. It starts when QEMU has connected:
    /// frames sent before the guest has a driver are lost, and count.
    #[arg(long, alias = "wire", value_name = "PORT", verbatim_doc_comment)]
    pub port: String,

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

    /// What an arm of the tsnic driver does, to study drivers with.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub rearm: RearmArg,

    /// Seed of the random choices of the port. Runs started over the control socket bring their
    /// own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// End when the first front end disconnects, instead of waiting for the next.
    #[arg(long)]
    pub once: bool,

    /// Log more to standard error: -v what happens, -vv every step. TSNIC_LOG, if set, decides
    /// instead.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
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
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// `--port`.
    #[error("--port")]
    Port(#[from] PortParseError),
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

/// Longest that an interrupt may be held back: one second.
pub const USECS_MAX: u32 = 1_000_000;

/// Most packets that an interrupt may be held back for: a ring of the usual size.
pub const FRAMES_MAX: u32 = 256;

/// Everything the engine needs to know, checked as far as it can be without touching the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// vhost-user socket.
    pub socket: PathBuf,
    /// Control socket.
    pub control: Option<PathBuf>,
    /// The port.
    pub port: PortConfig,
    /// Moderation, and what an arm does.
    pub interrupts: InterruptConfig,
    /// Seed of the port's random choices.
    pub seed: u64,
    /// End with the first front end.
    pub once: bool,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        if args.control.as_ref() == Some(&args.socket) {
            return Err(ConfigError::SameSocket(args.socket));
        }
        for (option, value, max) in [
            ("--rx-usecs", args.rx_usecs, USECS_MAX),
            ("--rx-frames", args.rx_frames, FRAMES_MAX),
            ("--tx-usecs", args.tx_usecs, USECS_MAX),
            ("--tx-frames", args.tx_frames, FRAMES_MAX),
        ] {
            if value > max {
                return Err(ConfigError::TooLarge { option, value, max });
            }
        }
        Ok(Self {
            port: args.port.parse()?,
            socket: args.socket,
            control: args.control,
            interrupts: InterruptConfig {
                limits: [
                    Limits { usecs: args.rx_usecs, frames: args.rx_frames },
                    Limits { usecs: args.tx_usecs, frames: args.tx_frames },
                ],
                rearm: args.rearm.into(),
            },
            seed: args.seed,
            once: args.once,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn config(line: &str) -> Result<Config, ConfigError> {
        Config::try_from(Args::try_parse_from(line.split(' ')).unwrap())
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let config =
            config("tsnic --socket s --control c --port tap:t0 --rx-usecs 50 --rx-frames 8 --tx-usecs 9 --tx-frames 3 --rearm edge --once")
                .unwrap();
        let limits = [Limits { usecs: 50, frames: 8 }, Limits { usecs: 9, frames: 3 }];
        assert_eq!(config.interrupts, InterruptConfig { limits, rearm: Rearm::Edge });
        assert_eq!(config.port.to_string(), "tap:t0");
        assert!(config.once && config.control.is_some());
    }

    #[test]
    fn impossible_settings_are_named() {
        let same = config("tsnic --socket s --control s --port tap:t0");
        assert_eq!(same, Err(ConfigError::SameSocket("s".into())));
        let port = config("tsnic --socket s --port loop");
        assert_eq!(port, Err(ConfigError::Port(PortParseError::Kind("loop".into()))));
        let usecs = config("tsnic --socket s --port tap:t0 --rx-usecs 1000001");
        assert!(matches!(usecs, Err(ConfigError::TooLarge { option: "--rx-usecs", .. })));
    }
}

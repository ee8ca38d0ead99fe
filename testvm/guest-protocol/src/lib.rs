// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What testvm and the agent say to each other over the second serial port: one JSON object a line;
//! and what both send over the network.
//!
//! testvm asks, the agent answers, one at a time; the agent speaks first, once, with
//! [`Reply::Ready`].

pub mod clock;
pub mod frame;
pub mod icmp;
pub mod transfer;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Environment variable of the agent, which the kernel gives it from its command line: the factor on
/// its limits of time (`--slow`).
pub const SLOW: &str = "TSNIC_SLOW";

/// A request to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Load a module from the initramfs.
    InsertModule {
        /// Path of the `.ko` in the initramfs.
        path: String,
        /// Parameters, as insmod takes them.
        params: String,
    },
    /// Unload a module.
    RemoveModule {
        /// Module name.
        name: String,
    },
    /// Write a file of /proc or /sys.
    WriteFile {
        /// Path.
        path: String,
        /// What to write.
        value: String,
    },
    /// Read a file of /proc or /sys; answered by [`Reply::Text`], trailing white space removed.
    ReadFile {
        /// Path.
        path: String,
    },
    /// Configure and raise a link; waits until the carrier is there.
    LinkUp {
        /// Interface.
        name: String,
        /// Its address.
        ip: Ipv4Addr,
        /// Prefix length.
        prefix_len: u8,
        /// Neighbours that need no ARP.
        neighbours: Vec<(Ipv4Addr, [u8; 6])>,
    },
    /// Take a link down.
    LinkDown {
        /// Interface.
        name: String,
    },
    /// Bind the interrupt whose name in /proc/interrupts is this to one CPU.
    IrqAffinity {
        /// For example `virtio0-rx`.
        irq: String,
        /// CPU number.
        cpu: usize,
    },
    /// Bind the kernel thread whose name begins so to one CPU.
    PinThread {
        /// For example `napi/eth0-`.
        comm_prefix: String,
        /// CPU number.
        cpu: usize,
    },
    /// Turn hardware receive timestamps of an interface on (`SIOCSHWTSTAMP`, all packets).
    HwTimestamps {
        /// Interface.
        name: String,
    },
    /// `ethtool -c`; answered by [`Reply::Coalescing`].
    Coalescing {
        /// Interface.
        name: String,
    },
    /// `ethtool -C`.
    SetCoalescing {
        /// Interface.
        name: String,
        /// All of it.
        coalescing: Coalescing,
    },
    /// Do something with a PTP hardware clock; answered by [`Reply::Time`], what it shows then.
    Clock {
        /// For example `/dev/ptp0`.
        path: String,
        /// What.
        action: ClockAction,
    },
    /// `ethtool -l`; answered by [`Reply::Channels`].
    Channels {
        /// Interface.
        name: String,
    },
    /// `ethtool -L combined`.
    SetChannels {
        /// Interface.
        name: String,
        /// How many.
        combined: u32,
    },
    /// Start a UDP receiver on a connected socket: blocking `recv`, nothing between two calls.
    ReceiverStart {
        /// Own address.
        local: (Ipv4Addr, u16),
        /// Peer's address.
        peer: (Ipv4Addr, u16),
        /// `SO_BUSY_POLL`, microseconds; 0: none.
        busy_poll_us: u32,
        /// CPU to run on.
        cpu: usize,
    },
    /// Stop it; answered by [`Reply::Count`] of datagrams received.
    ReceiverStop,
    /// Start the RPC server (one TCP connection after another).
    RpcStart {
        /// Own address.
        local: (Ipv4Addr, u16),
        /// `SO_BUSY_POLL` of the connection, microseconds; 0: none.
        busy_poll_us: u32,
        /// CPU to run on.
        cpu: usize,
    },
    /// Stop it; answered by [`Reply::Count`] of requests served.
    RpcStop,
    /// Send ICMP echo requests; answered by [`Reply::Pings`].
    Ping {
        /// Whom.
        to: Ipv4Addr,
        /// How many.
        count: u16,
    },
    /// Accept one TCP connection and read [`transfer`]'s stream to its end; answered by
    /// [`Reply::Count`] of bytes.
    TransferReceive {
        /// Own address.
        local: (Ipv4Addr, u16),
    },
    /// Connect and send [`transfer`]'s stream.
    TransferSend {
        /// Peer's address.
        peer: (Ipv4Addr, u16),
        /// How many bytes.
        bytes: u64,
    },
    /// Kernel log lines since the last call; answered by [`Reply::Text`].
    KernelLog,
    /// Run a program of the initramfs to its end; answered by [`Reply::Ran`].
    Run {
        /// Its path.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Ask it to end (SIGTERM) when its output has this text so many times.
        until: Option<Until>,
        /// End it after so many milliseconds, for good.
        limit_ms: u64,
    },
    /// Send one Ethernet frame, as it is, out of an interface (`AF_PACKET`).
    SendFrame {
        /// Interface.
        name: String,
        /// The frame from its destination address on.
        frame: Vec<u8>,
    },
    /// Compare the kernel's NAPI functions with the model; answered by [`Reply::NapiCheck`].
    /// `tsnic_napicheck` is loaded.
    NapiCheck {
        /// Seed of the random steps.
        seed: u64,
        /// How many.
        steps: u32,
    },
    /// Make an image of the machine's memory, as hibernation does, and throw it away
    /// (`/dev/snapshot`).
    Snapshot,
    /// Run a shell on the third serial port, and another one whenever it ends. Once it runs only the
    /// size of its terminal is set.
    Shell {
        /// Lines of the terminal.
        rows: u16,
        /// Characters in each.
        columns: u16,
    },
    /// Restart the machine without a word to its drivers' devices. The next thing said is
    /// [`Reply::Ready`].
    Reboot,
    /// Power the machine off. No answer.
    PowerOff,
}

/// An answer of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The guest is up.
    Ready {
        /// `uname -r`.
        kernel: String,
        /// Online CPUs.
        cpus: usize,
        /// Current clock source.
        clocksource: String,
    },
    /// Done.
    Done,
    /// Text asked for.
    Text {
        /// The text.
        text: String,
    },
    /// A count asked for.
    Count {
        /// The count.
        count: u64,
    },
    /// What became of echo requests.
    Pings(icmp::Pings),
    /// Coalescing of an interface.
    Coalescing(Coalescing),
    /// What a clock shows.
    Time {
        /// Nanoseconds.
        ns: i64,
    },
    /// Channels of an interface.
    Channels(Channels),
    /// How the kernel and the model compare.
    NapiCheck(NapiReport),
    /// What came of a program.
    Ran(Ran),
    /// It did not work.
    Error {
        /// What, and why.
        message: String,
    },
    /// It had not come about when the time for it was over: that is no evidence of anything.
    Late {
        /// What was waited for.
        message: String,
    },
}

/// Interrupt coalescing, as ethtool means it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalescing {
    /// `rx-usecs`.
    pub rx_usecs: u32,
    /// `rx-frames`.
    pub rx_frames: u32,
    /// `tx-usecs`.
    pub tx_usecs: u32,
    /// `tx-frames`.
    pub tx_frames: u32,
    /// `adaptive-rx`.
    pub adaptive_rx: bool,
    /// `adaptive-tx`.
    pub adaptive_tx: bool,
}

/// What is done with a clock, by `clock_settime` and `clock_adjtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockAction {
    /// Nothing: it is read.
    Read,
    /// It is set to so many nanoseconds.
    Set(i64),
    /// It goes so many nanoseconds on, or back.
    Step(i64),
    /// It runs so much faster, or slower: parts in a billion.
    Rate(i64),
}

/// Combined channels (queue pairs), as ethtool means them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// In use.
    pub combined: u32,
    /// There are.
    pub max: u32,
}

/// When a program has said enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// A text, which is in one line.
    pub text: String,
    /// Lines with it.
    pub lines: usize,
}

/// What came of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How it ended.
    pub end: ProgramEnd,
    /// What it said on both streams: all of it, or the last [`OUTPUT_MAX`] bytes.
    pub output: String,
    /// Bytes before that.
    pub cut: u64,
}

/// What the agent keeps of a program's output, bytes.
pub const OUTPUT_MAX: usize = 256 * 1024;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramEnd {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, which was not the agent's.
    Signalled(i32),
    /// It was asked to: it had said enough.
    Enough,
    /// Its time was over.
    TimeLimit,
}

/// A comparison of the kernel's NAPI functions with the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NapiReport {
    /// Steps after which both agreed.
    pub steps: u32,
    /// How this kernel ends a preferred busy loop while interrupts are deferred, as a probe has
    /// shown.
    pub busy_poll_stop: String,
    /// Every row of the protocol's transition tables, with the steps that met it.
    pub rows: Vec<NapiRow>,
    /// Malformed or dangerous steps that the kernel's side has refused, all of them.
    pub refused: u32,
    /// The first step after which they differed, with those before it, in several lines.
    pub mismatch: Option<String>,
}

/// A row of a transition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NapiRow {
    /// The kernel's function.
    pub function: String,
    /// What the row says.
    pub row: String,
    /// Steps that met it.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() -> serde_json::Result<()> {
        let up: Request = serde_json::from_str(
            r#"{"request":"link-up","name":"eth0","ip":"10.0.0.2","prefix_len":24,"neighbours":[["10.0.0.1",[2,0,0,0,0,1]]]}"#,
        )?;
        let neighbours = vec![(Ipv4Addr::new(10, 0, 0, 1), [2, 0, 0, 0, 0, 1])];
        let ip = Ipv4Addr::new(10, 0, 0, 2);
        assert_eq!(up, Request::LinkUp { name: "eth0".into(), ip, prefix_len: 24, neighbours });
        let start: Request = serde_json::from_str(
            r#"{"request":"receiver-start","local":["10.0.0.2",7000],"peer":["10.0.0.1",7001],"busy_poll_us":200,"cpu":0}"#,
        )?;
        let peer = (Ipv4Addr::new(10, 0, 0, 1), 7001);
        assert_eq!(
            start,
            Request::ReceiverStart { local: (ip, 7000), peer, busy_poll_us: 200, cpu: 0 }
        );
        assert!(serde_json::from_str::<Request>(r#"{"request":"link-up","name":"eth0"}"#).is_err());
        Ok(())
    }

    #[test]
    fn replies_read_back_as_written() -> serde_json::Result<()> {
        for reply in [
            Reply::Ready { kernel: "6.1.0".into(), cpus: 2, clocksource: "tsc".into() },
            Reply::Done,
            Reply::Text { text: "a\nb".into() },
            Reply::Count { count: u64::MAX },
            Reply::Pings(icmp::Pings { answered: 17, lost: 1, late: 2 }),
            Reply::Error { message: "no".into() },
            Reply::Late { message: "no carrier".into() },
        ] {
            assert_eq!(serde_json::from_str::<Reply>(&serde_json::to_string(&reply)?)?, reply);
        }
        assert_eq!(
            serde_json::to_string(&Reply::Count { count: 3 })?,
            r#"{"reply":"count","count":3}"#
        );
        Ok(())
    }
}

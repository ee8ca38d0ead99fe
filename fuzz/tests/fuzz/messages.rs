// SPDX-License-Identifier: Apache-2.0 OR MIT
//! vhost-user messages of a hostile front end, through the shim and the daemon.
//!
//! Whatever it says: nothing in the device panics, the connection can be ended, and the next front
//! end is served.

use std::fs::File;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bolero::{TypeGenerator, check};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tsnic::clock::HostClock;
use tsnic::control::channel::control_channel;
use tsnic::net::features::Features;
use tsnic::net::pair::{InterruptConfig, Pair};
use tsnic::port::{Port, PortConfig};
use tsnic::vhost::{Backend, Connection};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::MOMENT;

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ENABLE: u32 = 18;

const VERSION: u32 = 1;
const NEED_REPLY: u32 = 8;

/// Bytes of the memory that is shared.
const MEMORY_LEN: u64 = 1 << 20;
/// Where the front end pretends to have mapped it.
const USER_BASE: u64 = 0x7000_0000_0000;

/// Longer than any connection takes to end; a connection that does not is a device that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Panics of threads that are not the test's.
static PANICS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Debug, TypeGenerator)]
enum Message {
    /// All that starts both queues in good order, but for one message.
    Start {
        without: u8,
        numbers: [u32; 2],
    },
    /// What the guest writes meanwhile.
    Scribble {
        at: u32,
        words: Vec<u16>,
    },
    /// A single step of a start, nearly right.
    Features(u64),
    Memory {
        len: u64,
        offset: u64,
        regions: u8,
        padding: u8,
    },
    Size {
        queue: u8,
        entries: u16,
    },
    Base {
        queue: u8,
        base: u32,
    },
    Addresses {
        queue: u8,
        flags: u8,
        addresses: [u32; 3],
    },
    Kick {
        queue: u8,
        file: bool,
    },
    Call {
        queue: u8,
        file: bool,
    },
    Enable {
        queue: u8,
        on: bool,
    },
    /// Anything that is a message.
    Other {
        request: u8,
        flags: u8,
        payload: Vec<u8>,
        file: bool,
    },
    /// A header that lies about its length.
    Lie {
        request: u8,
        len: u32,
    },
    /// Nonsense.
    Bytes(Vec<u8>),
}

/// What can be passed on with a message.
struct Files {
    memory: File,
    event: EventFd,
}

impl Message {
    /// The messages it stands for.
    fn steps(&self) -> Vec<Self> {
        let Self::Start { without, numbers } = self else { return vec![self.clone()] };
        let mut steps = vec![
            Self::Features(u64::MAX),
            Self::Memory { len: 1, offset: 1, regions: 0, padding: 0 },
        ];
        for (queue, number) in (0..).zip(numbers) {
            let base = 0x8000 * u32::from(queue);
            steps.extend([
                Self::Size { queue, entries: 1 + *number as u16 % 10 },
                Self::Base { queue, base: number >> 16 },
                // Not a multiple of 8, so that it is aligned.
                Self::Addresses {
                    queue,
                    flags: 0,
                    addresses: [0x1, 0x5001, 0x4001].map(|part| base + part),
                },
                Self::Kick { queue, file: true },
                Self::Call { queue, file: true },
                Self::Enable { queue, on: true },
            ]);
        }
        if usize::from(*without) < steps.len() {
            steps.remove((*without).into());
        }
        steps
    }

    /// Its bytes and its descriptor.
    fn encode(&self, files: &Files) -> (Vec<u8>, Option<RawFd>) {
        let event = files.event.as_raw_fd();
        let pair = |first: u32, second: u32| [first.to_le_bytes(), second.to_le_bytes()].concat();
        // Queues 0 and 1 exist; now and then another is meant.
        let queue = |queue: u8| if queue < 0xf0 { u32::from(queue % 2) } else { u32::from(queue) };
        let (request, flags, payload, fd) = match self {
            Self::Features(bits) => (
                SET_FEATURES,
                VERSION,
                (bits & Features::OFFERED.0 | 1 << 30).to_le_bytes().to_vec(),
                None,
            ),
            Self::Memory { len, offset, regions, padding } => {
                let regions = u32::from(regions % 4 / 2 + 1);
                let len = if len % 8 == 0 { *len } else { MEMORY_LEN };
                let offset = if offset % 8 == 0 { *offset } else { 0 };
                let mut payload = pair(regions, 0);
                for word in [0, len, USER_BASE, offset] {
                    payload.extend(word.to_le_bytes());
                }
                payload.resize(payload.len() + usize::from(padding % 3) * 32, 0);
                (SET_MEM_TABLE, VERSION, payload, Some(files.memory.as_raw_fd()))
            }
            Self::Size { queue: index, entries } => {
                let entries =
                    if entries % 8 == 0 { u32::from(*entries) } else { 1 << (entries % 11) };
                (SET_VRING_NUM, VERSION, pair(queue(*index), entries), None)
            }
            Self::Base { queue: index, base } => {
                (SET_VRING_BASE, VERSION, pair(queue(*index), *base), None)
            }
            Self::Addresses { queue: index, flags, addresses } => {
                let mut payload = pair(queue(*index), u32::from(flags % 2));
                for (address, alignment) in addresses.iter().zip([16, 4, 2]) {
                    let alignment = if address % 8 == 0 { 1 } else { alignment };
                    let address =
                        u64::from(*address) % (MEMORY_LEN + 0x1000) / alignment * alignment;
                    payload.extend((USER_BASE + address).to_le_bytes());
                }
                payload.extend(0u64.to_le_bytes());
                (SET_VRING_ADDR, VERSION, payload, None)
            }
            Self::Kick { queue: index, file } | Self::Call { queue: index, file } => {
                let request =
                    if matches!(self, Self::Kick { .. }) { SET_VRING_KICK } else { SET_VRING_CALL };
                let none = if *file { 0 } else { 0x100 };
                let payload = u64::from(queue(*index) | none).to_le_bytes().to_vec();
                (request, VERSION, payload, file.then_some(event))
            }
            Self::Enable { queue: index, on } => {
                (SET_VRING_ENABLE, VERSION, pair(queue(*index), u32::from(*on)), None)
            }
            Self::Other { request, flags, payload, file } => {
                let flags = if flags % 8 == 0 {
                    u32::from(*flags)
                } else {
                    VERSION | u32::from(*flags) & NEED_REPLY
                };
                (u32::from(request % 48), flags, payload.clone(), file.then_some(event))
            }
            Self::Lie { request, len } => {
                return (
                    [u32::from(*request % 48), VERSION, *len].map(u32::to_le_bytes).concat(),
                    None,
                );
            }
            Self::Bytes(bytes) => return (bytes.clone(), None),
            Self::Scribble { at, words } => {
                let at = u64::from(*at) % 0x8000 * 2;
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                files.memory.write_all_at(&bytes, at).expect("memory can be written");
                return (Vec::new(), None);
            }
            Self::Start { .. } => unreachable!("it has been taken apart"),
        };
        let header = [request, flags, payload.len() as u32].map(u32::to_le_bytes).concat();
        ([header, payload].concat(), fd)
    }
}

fn backend() -> Arc<Backend> {
    let config: PortConfig = "generator:rate=100000".parse().expect("it is right");
    let port: Box<dyn Port> =
        config.open(1, 1).expect("a generator needs nothing of the host").remove(0);
    let worker = control_channel().expect("there are descriptors").1;
    Arc::new(
        Backend::new(
            vec![Pair::new(0, port, HostClock::default(), worker, &InterruptConfig::default())],
            Duration::ZERO,
        )
        .expect("there are timers"),
    )
}

fn connect(backend: &Arc<Backend>) -> (Connection, UnixStream) {
    let (front, vmm) = UnixStream::pair().expect("there are sockets");
    vmm.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    (Connection::start(backend, front).expect("it can be served"), vmm)
}

fn end(connection: Connection, vmm: UnixStream) {
    drop(vmm);
    let deadline = Instant::now() + PATIENCE;
    while connection.ended().read().is_err() {
        assert!(Instant::now() < deadline, "the connection does not end");
        thread::sleep(Duration::from_micros(20));
    }
    // What the front end did wrong is the error of its connection.
    let _ = connection.finish();
}

#[test]
fn messages() {
    let (this, report) = (thread::current().id(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != this
            && thread::current().name().is_none_or(|name| !name.contains("::"))
        {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        report(info);
    }));
    let memory =
        File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).expect("there is memory"));
    memory.set_len(MEMORY_LEN).expect("it can be sized");
    let files = Files { memory, event: EventFd::new(EFD_NONBLOCK).expect("there are descriptors") };
    let backend = AssertUnwindSafe(backend());

    check!().with_type::<Vec<Message>>().with_test_time(MOMENT).for_each(|messages| {
        let (connection, vmm) = connect(&backend);
        for message in messages.iter().flat_map(Message::steps) {
            let (bytes, fd) = message.encode(&files);
            if bytes.is_empty() {
                continue;
            }
            let rights = fd.map(|fd| [fd]);
            let rights: Vec<_> = rights.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
            // The device may have hung up already, and a message may be longer than it reads before
            // it does.
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            if sendmsg::<()>(vmm.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, flags, None)
                .is_err()
            {
                break;
            }
            let _ = files.event.write(1);
        }
        end(connection, vmm);
        assert_eq!(PANICS.swap(0, Ordering::Relaxed), 0, "a thread of the device panicked");

        let (connection, mut vmm) = connect(&backend);
        vmm.write_all(&[GET_FEATURES, VERSION, 0].map(u32::to_le_bytes).concat())
            .expect("the device reads");
        let mut reply = [0; 20];
        vmm.read_exact(&mut reply).expect("the next front end gets an answer");
        assert_eq!(reply[12..], Features::OFFERED.0.to_le_bytes());
        end(connection, vmm);
    });
}

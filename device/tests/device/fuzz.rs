// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that strangers write, as noise: a guest's rings and registration headers, a front end's messages, a client's
//! requests, and settings.
//!
//! Each target runs for a second, or for `BOLERO_RANDOM_TEST_TIME_MS`; `scripts/fuzz SECONDS` runs all of them for so long. A failure
//! prints the input and the seed, `BOLERO_RANDOM_SEED`, that finds it again.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use bolero::check;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tsnic::frame::NetHeader;
use tsnic::net::chain::Chain;
use tsnic::net::features::Features;
use tsnic::net::index::Index;
use tsnic::net::memory::GuestView;
use tsnic::net::ring::{Ring, RingConfig};
use tsnic::net::rx::Receiver;
use tsnic::net::tx;
use tsnic::port::generator::{Generator, GeneratorConfig};
use tsnic_abi::{Counter, Registration};
use tsnic_protocol::Request;
use tsnic_protocol::line::RequestReader;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::support::{Device, eventually};

/// Guest memory of the ring targets, in bytes.
const MEMORY: usize = 1 << 16;
const ENTRIES: u16 = 16;
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x300;

/// A descriptor in which noise gets far: most addresses and lengths lie in the memory, most flags and numbers mean something.
fn descriptor((address, len, flags, next): (u16, u16, u8, u8)) -> Descriptor {
    let address = if address % 8 == 0 { u64::MAX << (address >> 10) } else { address.into() };
    let len = if len % 16 == 0 { u32::from(len) << 16 } else { u32::from(len) >> 4 };
    let next = if next % 32 == 0 { u16::MAX } else { u16::from(next) % ENTRIES };
    Descriptor::new(address, len, u16::from(flags) % 8, next)
}

/// What a guest has written into a ring: descriptors, the heads it makes available, and the distance to its index.
type Written = (Vec<(u16, u16, u8, u8)>, [u8; ENTRIES as usize], u8);

/// A ring with this in it; the memory behind all of it.
fn memory((descriptors, heads, available): &Written) -> GuestMemoryMmap {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    // More than the ring has descriptors: the rest is where indirect tables may begin.
    for (at, &written) in descriptors.iter().take(32).enumerate() {
        memory.write_obj(descriptor(written), GuestAddress(16 * at as u64)).unwrap();
    }
    for (at, &head) in heads.iter().enumerate() {
        let head = if head % 64 == 0 { u16::MAX } else { u16::from(head) % ENTRIES };
        memory.write_obj(head, GuestAddress(AVAILABLE + 4 + 2 * at as u64)).unwrap();
    }
    let available = u16::from(*available) % (ENTRIES + 2);
    memory.write_obj(available, GuestAddress(AVAILABLE + 2)).unwrap();
    memory
}

fn ring<'m>(view: &GuestView<'m>, indirect: bool) -> Ring<'m> {
    let config =
        RingConfig { entries: ENTRIES, descriptors: 0, available: AVAILABLE, used: USED, event_idx: false, indirect };
    Ring::start(view, config, Index(0)).unwrap()
}

#[test]
fn transmit_ring() {
    check!().with_type::<(Written, bool)>().for_each(|(written, indirect)| {
        let memory = memory(written);
        let view = GuestView::new(&memory);
        let mut ring = ring(&view, *indirect);
        let (mut chain, mut frame) = (Chain::default(), Vec::new());
        let mut taken = 0;
        // Ends with the ring, or where it is broken.
        while let Ok(Some(_)) = tx::take(&mut ring, &view, &mut chain, Features::OFFERED, &mut frame) {
            taken += 1;
            ring.put_used(chain.head, 0);
        }
        assert!(taken <= ENTRIES, "{taken} chains of a ring of {ENTRIES}");
        assert_eq!(ring.publish(), taken);
        assert_eq!(memory.read_obj::<u16>(GuestAddress(USED + 2)).unwrap(), taken);
    });
}

#[test]
fn receive_ring() {
    check!().with_type::<(Written, u16, bool)>().for_each(|(written, len, indirect)| {
        let memory = memory(written);
        let view = GuestView::new(&memory);
        let mut ring = ring(&view, *indirect);
        let mut receiver = Receiver::default();
        let frame = vec![0x5a; usize::from(*len) % 9000 + 14];
        let mut before = ring.next_used();
        for _ in 0..=ENTRIES {
            let delivered = receiver.deliver(&mut ring, &view, Features::OFFERED, NetHeader::default(), &frame);
            if delivered.is_err() || ring.next_used() == before {
                break;
            }
            before = ring.next_used();
        }
        assert!(ring.next_used().0 <= ENTRIES, "{:?} used of a ring of {ENTRIES}", ring.next_used());
    });
}

#[test]
fn registration_header() {
    let good = Registration::new(0, 1, Counter(0), Counter(0), Counter(0));
    check!().with_type::<Vec<(u8, u8)>>().for_each(move |changes| {
        let mut bytes = good.as_bytes().to_vec();
        for &(at, value) in changes.iter().take(4) {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        let header = Registration::read_from_bytes(&bytes).unwrap();
        if header.check(0).is_ok() {
            let read = (header.magic, header.version, header.pair);
            assert_eq!(read, (good.magic, good.version, good.pair), "accepted: {header:?}");
        }
    });
}

/// Parts of requests: noise out of these gets past the first byte.
const WORDS: [&str; 16] = [
    "{",
    "}",
    "\"status\"",
    "\"inject\"",
    "{\"injection\":",
    "{\"random\":",
    "\"seed\":",
    "\"rounds\":",
    "\"flow\":",
    "1",
    "-1",
    "1e999",
    ",",
    "[",
    "\n",
    "\u{0}",
];

#[test]
fn control_lines() {
    check!().with_type::<(Vec<u8>, Vec<u8>, u8)>().for_each(|(words, noise, cut)| {
        let mut text: Vec<u8> = words.iter().flat_map(|&word| WORDS[usize::from(word) % 16].bytes()).collect();
        text.extend_from_slice(noise);
        let requests = |chunks: &[&[u8]]| {
            let (mut reader, mut found) = (RequestReader::default(), Vec::<Result<Request, String>>::new());
            for chunk in chunks {
                reader.feed(chunk, |request| found.push(request));
            }
            reader.finish(|request| found.push(request));
            format!("{found:?}")
        };
        let (first, second) = text.split_at(usize::from(*cut) % (text.len() + 1));
        assert_eq!(requests(&[&text]), requests(&[first, second]), "a stream has no packets");
    });
}

const KEYS: [&str; 11] = [
    "guest-mac=",
    "guest-ip=",
    "guest-port=",
    "peer-mac=",
    "peer-ip=",
    "peer-port=",
    "rate=",
    "gap-us=",
    "size=",
    "count=",
    ",",
];

#[test]
fn generator_settings() {
    check!().with_type::<(Vec<(u8, u32)>, String)>().for_each(|(settings, noise)| {
        let settings = settings.iter().map(|&(key, value)| format!("{}{value},", KEYS[usize::from(key) % KEYS.len()]));
        for text in [settings.collect::<String>() + noise, noise.clone()] {
            let Ok(config) = text.parse::<GeneratorConfig>() else { continue };
            assert!((4..=65_000).contains(&config.size) && config.count != Some(0), "{text:?}: {config:?}");
            assert!(config.gap_ns.is_none_or(|(from, to)| from <= to && to > 0), "{text:?}: {config:?}");
            drop(Generator::new(&config, 1));
        }
    });
}

/// Header of a vhost-user message: request, flags, length of the payload.
fn header(request: u32, flags: u32, len: u32) -> [u8; 12] {
    let mut header = [0; 12];
    for (at, word) in [request, flags, len].into_iter().enumerate() {
        header[4 * at..][..4].copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Sends a message, with a descriptor of a memory file when `with_file` says so. The device may have hung up.
fn send(front: &UnixStream, message: &[u8], with_file: bool) -> bool {
    let file = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&file, 1 << 16).unwrap();
    let files = [file.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&files)];
    let parts = [std::io::IoSlice::new(message)];
    let rights = if with_file { &rights[..] } else { &[] };
    sendmsg::<()>(front.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None).is_ok()
}

/// Asks for the features; whether they were answered.
fn has_features(front: &mut UnixStream) -> bool {
    front.write_all(&header(1, 1, 0)).is_ok() && front.read_exact(&mut [0; 20]).is_ok()
}

#[test]
fn front_end_messages() {
    type Message = (u8, u8, Vec<u8>, bool);
    check!().with_type::<Vec<Message>>().for_each(|messages| {
        let device = Device::new();
        let (connection, mut front) = device.connect();
        assert!(has_features(&mut front));
        for (request, flags, payload, with_file) in messages {
            // Small words instead of bytes: queue numbers, sizes and addresses that could be.
            let payload: Vec<u8> = payload.iter().flat_map(|&byte| u32::from(byte).to_le_bytes()).collect();
            let flags = if flags % 4 == 0 { u32::from(*flags) } else { 1 | u32::from(flags & 8) };
            // Now and then the header lies.
            let len = if flags == 0 { u32::MAX >> (request % 32) } else { payload.len() as u32 };
            let mut message = header(u32::from(request % 48), flags, len).to_vec();
            message.extend_from_slice(&payload);
            if !send(&front, &message, *with_file) {
                break;
            }
        }
        drop(front);
        eventually("the device sees the front end leave", || connection.ended().read().ok());
        // An error is how it ends when the front end has broken the protocol.
        let _ = connection.finish();
        let (connection, mut front) = device.connect();
        assert!(has_features(&mut front), "the next front end is served");
        drop(front);
        eventually("the device sees the front end leave", || connection.ended().read().ok());
        connection.finish().unwrap();
    });
}

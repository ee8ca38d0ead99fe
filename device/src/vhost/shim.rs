// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A shim between the front end's socket and the daemon's, which makes up for three things.
//!
//! QEMU sends `SET_VRING_ENABLE` when the device is realized, before the guest has negotiated
//! anything and so before any `SET_FEATURES`. The specification allows the message as soon as
//! `VHOST_USER_F_PROTOCOL_FEATURES` has been *offered* by the back end and used by the front end;
//! vhost 0.18 and vhost-user-backend 0.24 want it *acknowledged* by `SET_FEATURES`, answer
//! `InactiveFeature` and end the connection. So the shim puts one `SET_FEATURES` with just that bit
//! in front of such a message. The real one comes later and replaces it.
//!
//! It cuts the padding off memory tables.
//!
//! And it passes messages on that have impossible addresses of rings: see [`super::cut`].
//!
//! The shim can go, and the daemon be given the front end's socket, when a version of the two
//! crates accepts `SET_VRING_ENABLE` before `SET_FEATURES`, and does not end a connection for a
//! ring in an impossible place. The tests `an_early_enable_needs_the_shim` and
//! `a_ring_in_an_impossible_place_needs_the_shim` fail then.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tracing::debug;
use vhost::vhost_user::message::{FrontendReq, MAX_MSG_SIZE, VhostUserVirtioFeatures};
use vmm_sys_util::eventfd::EventFd;

use super::cut::{CutBits, Regions};

const HEADER_LEN: usize = 12;

/// Of a memory table: the number of regions and four bytes of nothing, then the regions.
const TABLE_HEADER_LEN: usize = 8;
const REGION_LEN: usize = 32;

/// Most descriptors one message of a Unix socket can bring (the kernel's `SCM_MAX_FD`). Those there
/// is no room for are closed, and a memory table that has lost some is not what the front end said;
/// how many are too many is the daemon's to decide.
const RIGHTS_MAX: usize = 253;

/// Version 1 of the protocol; neither a reply nor asking for one.
const PLAIN_REQUEST: u32 = 1;

/// A running shim.
pub struct Shim {
    front: UnixStream,
    back: UnixStream,
    threads: Vec<JoinHandle<()>>,
    /// The front end has said something.
    spoke: Arc<AtomicBool>,
}

impl Shim {
    /// Starts to pass messages between the front end and the daemon. `ended` is written when either
    /// side is gone.
    ///
    /// # Errors
    /// When there are no threads or descriptors left.
    pub fn start(
        front: UnixStream,
        back: UnixStream,
        ended: &Arc<EventFd>,
        cut: Arc<CutBits>,
    ) -> io::Result<Self> {
        let spoke = Arc::new(AtomicBool::new(false));
        let mut shim = Self { front, back, threads: Vec::new(), spoke: Arc::clone(&spoke) };
        let (front, back) = (shim.front.try_clone()?, shim.back.try_clone()?);
        shim.spawn("shim-requests", ended, move || {
            Requests { front, back, spoke, negotiated: false, regions: Regions::default(), cut }
                .run()
        })?;
        let (front, back) = (shim.front.try_clone()?, shim.back.try_clone()?);
        shim.spawn("shim-replies", ended, move || pass_replies(&back, &front))?;
        Ok(shim)
    }

    fn spawn(
        &mut self,
        name: &str,
        ended: &Arc<EventFd>,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let ended = Arc::clone(ended);
        let (front, back) = (self.front.try_clone()?, self.back.try_clone()?);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            if let Err(error) = run() {
                debug!(%error, "Shim ended");
            }
            hang_up(&front, &back);
            // The counter of an eventfd is full only after 2^64 - 2 writes that nobody read.
            let _ = ended.write(1);
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Shim {
    /// The front end has said something.
    pub fn has_spoken(&self) -> bool {
        self.spoke.load(Ordering::Relaxed)
    }

    /// The front end has hung up, or has been hung up on. To be told of it takes a little longer.
    pub fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(self.front.as_fd(), PollFlags::empty())];
        let over = PollFlags::POLLHUP | PollFlags::POLLERR;
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|events| events.intersects(over))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        hang_up(&self.front, &self.back);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn hang_up(front: &UnixStream, back: &UnixStream) {
    for stream in [front, back] {
        // ENOTCONN: it has been done.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The direction in which messages are understood.
struct Requests {
    front: UnixStream,
    back: UnixStream,
    spoke: Arc<AtomicBool>,
    /// A `SET_FEATURES` has passed.
    negotiated: bool,
    /// As of the latest `SET_MEM_TABLE`. There is no other way to change them: messages about
    /// single regions (`CONFIGURE_MEM_SLOTS`) are not offered.
    regions: Regions,
    cut: Arc<CutBits>,
}

impl Requests {
    fn run(&mut self) -> io::Result<()> {
        let mut message = [0; HEADER_LEN + MAX_MSG_SIZE];
        loop {
            let mut fds = Vec::new();
            if !receive_exact(&self.front, &mut message[..HEADER_LEN], &mut fds)? {
                return Ok(());
            }
            self.spoke.store(true, Ordering::Relaxed);
            let word = |at: usize| {
                u32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
            };
            let (request, len) = (word(0), word(8) as usize);
            if len > MAX_MSG_SIZE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("Message of {len} bytes is too long"),
                ));
            }
            if !receive_exact(&self.front, &mut message[HEADER_LEN..HEADER_LEN + len], &mut fds)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = if request == FrontendReq::SET_MEM_TABLE as u32 {
                unpad(&mut message, len)
            } else {
                len
            };
            if request == FrontendReq::SET_FEATURES as u32 {
                self.negotiated = true;
            } else if request == FrontendReq::SET_VRING_ENABLE as u32 && !self.negotiated {
                debug!(
                    "SET_VRING_ENABLE before SET_FEATURES: VHOST_USER_F_PROTOCOL_FEATURES is acknowledged first"
                );
                send_all(&self.back, &acknowledge_protocol_features(), &[])?;
                self.negotiated = true;
            } else if request == FrontendReq::SET_MEM_TABLE as u32 {
                self.regions = Regions::of_table(&message[HEADER_LEN..HEADER_LEN + len]);
            } else if request == FrontendReq::SET_VRING_ADDR as u32 {
                self.cut.cut(&mut message[HEADER_LEN..HEADER_LEN + len], &self.regions);
            }
            send_all(&self.back, &message[..HEADER_LEN + len], &fds)?;
        }
    }
}

/// Cuts off what a `SET_MEM_TABLE` has behind its regions, as user-mode Linux sends it: a table of
/// one region padded to the size of two. libvhost-user and DPDK take it; vhost 0.18 ends the
/// connection. Returns the length of the payload.
fn unpad(message: &mut [u8], len: usize) -> usize {
    let payload = &message[HEADER_LEN..HEADER_LEN + len];
    let Some(count) = payload.first_chunk().map(|count| u32::from_le_bytes(*count)) else {
        return len;
    };
    let needed = (count as usize).saturating_mul(REGION_LEN).saturating_add(TABLE_HEADER_LEN);
    if needed >= len {
        return len;
    }
    message[8..12].copy_from_slice(&(needed as u32).to_le_bytes());
    needed
}

fn acknowledge_protocol_features() -> [u8; HEADER_LEN + 8] {
    let features = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits().to_le_bytes();
    let mut message = [0; HEADER_LEN + 8];
    message[..4].copy_from_slice(&(FrontendReq::SET_FEATURES as u32).to_le_bytes());
    message[4..8].copy_from_slice(&PLAIN_REQUEST.to_le_bytes());
    message[8..12].copy_from_slice(&(features.len() as u32).to_le_bytes());
    message[12..].copy_from_slice(&features);
    message
}

fn pass_replies(back: &UnixStream, front: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; MAX_MSG_SIZE];
    loop {
        let mut fds = Vec::new();
        match receive(back, &mut bytes, &mut fds)? {
            0 => return Ok(()),
            len => send_all(front, &bytes[..len], &fds)?,
        }
    }
}

/// Fills `bytes`. False when the other side hung up before the first of them.
fn receive_exact(from: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut done = 0;
    while done < bytes.len() {
        match receive(from, &mut bytes[done..], fds)? {
            0 if done == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => done += len,
        }
    }
    Ok(true)
}

fn receive(from: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; RIGHTS_MAX]);
    loop {
        let mut parts = [IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(received) => received,
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = message {
                // SAFETY: the kernel has just made these descriptors for this call, so they are
                // open and nobody else in this process knows them.
                fds.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        return Ok(received.bytes);
    }
}

/// Sends all bytes, the descriptors with the first of them.
fn send_all(to: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let mut done = 0;
    while done < bytes.len() {
        let rights = if done == 0 && !raw.is_empty() { &rights[..] } else { &[] };
        let parts = [IoSlice::new(&bytes[done..])];
        match sendmsg::<()>(to.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(len) => done += len,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    fn message(request: FrontendReq, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((request as u32).to_le_bytes());
        bytes.extend(PLAIN_REQUEST.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    fn shim() -> (UnixStream, UnixStream, Shim, Arc<EventFd>) {
        let (vmm, front) = UnixStream::pair().unwrap();
        let (back, daemon) = UnixStream::pair().unwrap();
        let ended = Arc::new(EventFd::new(0).unwrap());
        let shim = Shim::start(front, back, &ended, Arc::new(CutBits::new(2))).unwrap();
        (vmm, daemon, shim, ended)
    }

    fn expect(from: &mut UnixStream, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        from.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    #[test]
    fn an_enable_before_any_features_is_preceded_by_the_protocol_bit_once() {
        let (mut vmm, mut daemon, _shim, _) = shim();
        let enable = message(FrontendReq::SET_VRING_ENABLE, &[0; 8]);
        vmm.write_all(&enable).unwrap();
        vmm.write_all(&enable).unwrap();
        expect(&mut daemon, &message(FrontendReq::SET_FEATURES, &(1u64 << 30).to_le_bytes()));
        expect(&mut daemon, &enable);
        expect(&mut daemon, &enable);
    }

    #[test]
    fn an_enable_after_features_is_left_alone() {
        let (mut vmm, mut daemon, _shim, _) = shim();
        let features = message(FrontendReq::SET_FEATURES, &7u64.to_le_bytes());
        let enable = message(FrontendReq::SET_VRING_ENABLE, &[0; 8]);
        vmm.write_all(&[features.clone(), enable.clone()].concat()).unwrap();
        expect(&mut daemon, &features);
        expect(&mut daemon, &enable);
    }

    #[test]
    fn a_memory_table_that_is_padded_loses_its_padding_and_no_other_message_does() {
        let (mut vmm, mut daemon, _shim, _) = shim();
        let table = |regions: u32, len: usize| {
            [&u64::from(regions).to_le_bytes()[..], &vec![7; len]].concat()
        };
        // One region, padded to two; two regions; one that lacks bytes, which is the daemon's to
        // complain of.
        for (sent, passed) in [
            (table(1, 64), table(1, 32)),
            (table(2, 64), table(2, 64)),
            (table(3, 64), table(3, 64)),
        ] {
            vmm.write_all(&message(FrontendReq::SET_MEM_TABLE, &sent)).unwrap();
            expect(&mut daemon, &message(FrontendReq::SET_MEM_TABLE, &passed));
        }
        let other = message(FrontendReq::SET_VRING_NUM, &table(1, 64));
        vmm.write_all(&other).unwrap();
        expect(&mut daemon, &other);
    }

    #[test]
    fn descriptors_go_with_their_message_in_both_directions() {
        let (vmm, daemon, _shim, _) = shim();
        for (from, to) in [(&vmm, &daemon), (&daemon, &vmm)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"content").unwrap();
            let bytes = message(FrontendReq::SET_MEM_TABLE, &[5; 40]);
            send_all(from, &bytes, &[file.into()]).unwrap();
            let (mut got, mut fds) = (vec![0; bytes.len()], Vec::new());
            assert!(receive_exact(to, &mut got, &mut fds).unwrap());
            assert_eq!(got, bytes);
            let mut passed = File::from(fds.pop().unwrap());
            passed.rewind().unwrap();
            let mut content = String::new();
            passed.read_to_string(&mut content).unwrap();
            assert_eq!((content.as_str(), fds.len()), ("content", 0));
        }
    }

    #[test]
    fn as_many_descriptors_as_a_socket_can_carry_go_through() {
        let (vmm, daemon, _shim, _) = shim();
        let file = tempfile::tempfile().unwrap();
        let files: Vec<OwnedFd> = (0..253).map(|_| file.try_clone().unwrap().into()).collect();
        let bytes = message(FrontendReq::SET_MEM_TABLE, &[5; 40]);
        send_all(&vmm, &bytes, &files).unwrap();
        let (mut got, mut fds) = (vec![0; bytes.len()], Vec::new());
        assert!(receive_exact(&daemon, &mut got, &mut fds).unwrap());
        assert_eq!((got, fds.len()), (bytes, 253));
    }

    #[test]
    fn when_one_side_hangs_up_so_does_the_other() {
        let (vmm, mut daemon, _shim, ended) = shim();
        drop(vmm);
        assert_eq!(daemon.read(&mut [0; 1]).unwrap(), 0);
        assert!(ended.read().unwrap() >= 1);
    }

    #[test]
    fn a_message_that_is_too_long_ends_the_connection() {
        let (mut vmm, mut daemon, _shim, _) = shim();
        let mut header = message(FrontendReq::SET_FEATURES, &[]);
        header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        vmm.write_all(&header).unwrap();
        assert_eq!(daemon.read(&mut [0; 1]).unwrap(), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cable made of a socket pair.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tsnic::frame::Frame;
use tsnic::frame::{HEADER_LEN, NetHeader};
use tsnic::port::Port;
use tsnic_core::time::Instant;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::eventually;

/// The device's end.
pub struct SocketPort {
    socket: UnixDatagram,
    readable: bool,
    active: Arc<AtomicBool>,
    meanwhile: Arc<Meanwhile>,
}

/// Something that happens while the device reads the port: once, with the next frame.
type Meanwhile = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// The other end.
pub struct Host {
    socket: UnixDatagram,
    active: Arc<AtomicBool>,
    meanwhile: Arc<Meanwhile>,
}

pub fn cable() -> (SocketPort, Host) {
    let (device, host) = UnixDatagram::pair().unwrap();
    device.set_nonblocking(true).unwrap();
    host.set_nonblocking(true).unwrap();
    let (meanwhile, active) = (Arc::default(), Arc::new(AtomicBool::new(true)));
    (
        SocketPort {
            socket: device,
            readable: true,
            active: Arc::clone(&active),
            meanwhile: Arc::clone(&meanwhile),
        },
        Host { socket: host, active, meanwhile },
    )
}

/// An Ethernet frame of `len` bytes that can be told from others by `tag`.
pub fn frame(tag: u32, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|i| (i as u32 ^ tag) as u8).collect();
    frame[..4].copy_from_slice(&tag.to_le_bytes());
    frame
}

impl Host {
    /// Does something when the device has read the next frame, before it does anything with it.
    pub fn meanwhile(&self, action: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(action));
    }

    /// The device has switched the port's queue on, and not off since.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub fn send_with(&self, header: NetHeader, frame: &[u8]) {
        let datagram = [header.as_bytes(), frame].concat();
        eventually("the port takes a frame", || self.socket.send(&datagram).ok());
    }

    /// Sends frames from somewhere else.
    pub fn another(&self) -> impl Fn(&[u8]) + Send + 'static {
        let socket = self.socket.try_clone().unwrap();
        move |frame| {
            socket.send(&[NetHeader::default().as_bytes(), frame].concat()).unwrap();
        }
    }

    /// The other end is gone: the port takes nothing any more.
    pub fn unplug(&mut self) {
        self.socket = UnixDatagram::unbound().unwrap();
    }

    pub fn send(&self, frame: &[u8]) {
        self.send_with(NetHeader::default(), frame);
    }

    pub fn try_receive(&self) -> Option<(NetHeader, Vec<u8>)> {
        let mut datagram = vec![0; 70_000];
        let len = self.socket.recv(&mut datagram).ok()?;
        let header = NetHeader::read_from_bytes(&datagram[..HEADER_LEN]).unwrap();
        Some((header, datagram[HEADER_LEN..len].to_vec()))
    }

    pub fn receive(&self) -> (NetHeader, Vec<u8>) {
        eventually("a frame comes out of the device", || self.try_receive())
    }
}

impl Port for SocketPort {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn readable(&mut self) {
        self.readable = true;
    }

    fn receive(&mut self, _now: Instant, frame: &mut Frame) -> bool {
        if !self.readable {
            return false;
        }
        let mut datagram = vec![0; 70_000];
        match self.socket.recv(&mut datagram) {
            Ok(len) => {
                frame.header = NetHeader::read_from_bytes(&datagram[..HEADER_LEN]).unwrap();
                frame.bytes.clear();
                frame.bytes.extend(&datagram[HEADER_LEN..len]);
                if let Some(action) = self.meanwhile.lock().unwrap().take() {
                    action();
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn waits(&self) -> bool {
        true
    }

    fn send(&mut self, _now: Instant, header: NetHeader, frame: &[u8]) -> io::Result<()> {
        self.socket.send(&[header.as_bytes(), frame].concat()).map(|_| ())
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.active.store(active, Ordering::Release);
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A front end with a guest behind it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tsnic::frame::NetHeader;
use tsnic::vhost::Connection;
use tsnic_abi::{
    Completion, Counter, QUEUE_PAGE_SIZE, RX_RECORDS, Registration, TX_RECORDS, completion_offset,
    offset,
};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::queue::DriverQueue;
use super::{Device, eventually};

const MEMORY_SIZE: usize = 8 << 20;
/// Where the front end pretends to have mapped the guest's memory.
const USER_BASE: u64 = 0x7000_0000_0000;
const RINGS: [u64; 2] = [0x1_0000, 0x2_0000];

/// Where the guest keeps its shared queue page.
pub const AREA: u64 = 0x10_0000;
/// Where it keeps buffers.
pub const BUFFERS: u64 = 0x20_0000;
/// Where it keeps headers and other small things.
const SCRATCH: u64 = 0x18_0000;

/// `VIRTIO_RING_F_EVENT_IDX`.
pub const EVENT_IDX: u64 = 1 << 29;
const INDIRECT_DESC: u64 = 1 << 28;
const MRG_RXBUF: u64 = 1 << 15;

/// What is negotiated and how queues are set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Feature bits to leave out of what is offered.
    pub without: u64,
    pub size: u16,
    /// Indices both rings start at.
    pub start: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { without: 0, size: 64, start: 0 }
    }
}

impl Options {
    /// The four ways to negotiate ring features.
    pub fn ring_variants() -> [Self; 4] {
        [0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC]
            .map(|without| Self { without, ..Self::default() })
    }

    pub fn without_mergeable() -> Self {
        Self { without: MRG_RXBUF, ..Self::default() }
    }
}

/// A frame the guest has received.
#[derive(Debug)]
pub struct Received {
    pub header: NetHeader,
    pub frame: Vec<u8>,
    /// Number of its first completion.
    pub number: Counter,
}

pub struct Guest {
    pub memory: GuestMemoryMmap,
    pub frontend: Frontend,
    pub connection: Option<Connection>,
    pub rx: DriverQueue,
    pub tx: DriverQueue,
    pub features: u64,
    pub arm: Counter,
    /// Receive completions consumed.
    pub ci: Counter,
    file: Arc<File>,
    posted: u64,
    buffers: std::collections::HashMap<u16, (u64, u32)>,
    generation: u32,
}

impl Guest {
    /// Connects, negotiates, and starts both queues with the receive queue full of 2 KiB buffers.
    pub fn start(device: &Device, options: Options) -> Self {
        let mut guest = Self::negotiate(device, options);
        guest.share_memory();
        guest.start_queues(options.start, options.start);
        guest.post(options.size.into(), 2048);
        device.running();
        guest
    }

    /// The same with this many buffers of this length.
    pub fn start_with(device: &Device, options: Options, buffers: u64, len: u32) -> Self {
        let mut guest = Self::negotiate(device, options);
        guest.share_memory();
        guest.start_queues(options.start, options.start);
        guest.post(buffers, len);
        device.running();
        guest
    }

    /// Connects and negotiates.
    pub fn negotiate(device: &Device, options: Options) -> Self {
        let (connection, vmm) = device.connect();
        // Of as many queues as the device may have.
        let mut frontend = Frontend::from_stream(vmm, 16);
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ;
        frontend.set_protocol_features(protocol & wanted).unwrap();
        let features = offered & !options.without;
        frontend.set_features(features).unwrap();
        let file = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(MEMORY_SIZE as u64).unwrap();
        let file = Arc::new(file);
        let range =
            (GuestAddress(0), MEMORY_SIZE, Some(FileOffset::from_arc(Arc::clone(&file), 0)));
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        let event_idx = features & EVENT_IDX != 0;
        let [rx, tx] = RINGS
            .map(|base| DriverQueue::new(&memory, base, options.size, event_idx, options.start));
        Self {
            memory,
            frontend,
            connection: Some(connection),
            rx,
            tx,
            features,
            arm: Counter(0),
            ci: Counter(0),
            file,
            posted: 0,
            buffers: std::collections::HashMap::new(),
            generation: 0,
        }
    }

    /// Sends the memory table.
    pub fn share_memory(&self) {
        self.share(MEMORY_SIZE as u64);
    }

    /// Sends a table with the first `size` bytes only.
    pub fn share(&self, size: u64) {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: size,
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).unwrap();
    }

    pub fn start_queues(&mut self, rx_base: u16, tx_base: u16) {
        self.start_queues_and(rx_base, tx_base, || ());
    }

    /// As QEMU does it with queues it has started before: they are enabled, and have a kick eventfd
    /// before a call eventfd. `between` is called when both have the one and neither has the other.
    pub fn start_queues_and(&mut self, rx_base: u16, tx_base: u16, between: impl FnOnce()) {
        self.start_queues_with(rx_base, tx_base, || (), between);
    }

    /// The same; `each` is called after every message about a ring.
    pub fn start_queues_with(
        &mut self,
        rx_base: u16,
        tx_base: u16,
        each: impl Fn(),
        between: impl FnOnce(),
    ) {
        for (index, base) in [rx_base, tx_base].into_iter().enumerate() {
            let queue = if index == 0 { &self.rx } else { &self.tx };
            self.set_up(index, queue, base, &each);
        }
        between();
        for (index, queue) in [&self.rx, &self.tx].into_iter().enumerate() {
            self.frontend.set_vring_call(index, &queue.call).unwrap();
            self.frontend.set_vring_enable(index, true).unwrap();
        }
    }

    /// Sets a queue of any pair up, all but its call eventfd, and does not enable it.
    pub fn set_up(&self, index: usize, queue: &DriverQueue, base: u16, each: impl Fn()) {
        let config = VringConfigData {
            queue_max_size: queue.size,
            queue_size: queue.size,
            flags: 0,
            desc_table_addr: USER_BASE + queue.descriptors,
            used_ring_addr: USER_BASE + queue.used,
            avail_ring_addr: USER_BASE + queue.available,
            log_addr: None,
        };
        self.frontend.set_vring_num(index, queue.size).unwrap();
        each();
        self.frontend.set_vring_base(index, base).unwrap();
        each();
        self.frontend.set_vring_addr(index, &config).unwrap();
        each();
        self.frontend.set_vring_kick(index, &queue.kick).unwrap();
        each();
    }

    /// Stops both queues; their bases.
    pub fn stop_queues(&self) -> [u16; 2] {
        [0, 1].map(|queue| self.frontend.get_vring_base(queue).unwrap() as u16)
    }

    /// As if the driver had been loaded anew: empty rings.
    pub fn reset_rings(&mut self) {
        let (size, event_idx) = (self.rx.size, self.rx.event_idx);
        let [rx, tx] = RINGS.map(|base| DriverQueue::new(&self.memory, base, size, event_idx, 0));
        (self.rx, self.tx) = (rx, tx);
        (self.ci, self.posted) = (Counter(0), 0);
        self.buffers.clear();
    }

    /// The front end leaves.
    pub fn leave(mut self) {
        let connection = self.connection.take().unwrap();
        drop(self.frontend);
        eventually("the device sees the front end leave", || connection.ended().read().ok());
        connection.finish().unwrap();
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Posts receive buffers and kicks.
    pub fn post(&mut self, count: u64, len: u32) {
        for _ in 0..count {
            let address = BUFFERS + self.posted % 256 * 0x4000;
            self.posted += 1;
            let head = self.rx.add(&[(address, len, true)]);
            self.buffers.insert(head, (address, len));
        }
        self.rx.kick();
    }

    /// The next frame, if one is there. Its buffers are not posted again.
    pub fn try_receive(&mut self) -> Option<Received> {
        let (head, len) = self.rx.take()?;
        let number = self.ci;
        self.ci = self.ci.plus(1);
        let header_len = if self.features & (1 << 32 | MRG_RXBUF) == 0 { 10 } else { 12 };
        let (address, _) = self.buffers.remove(&head).unwrap();
        let mut header = NetHeader::default();
        let bytes = self.read(address, len as usize);
        header.as_mut_bytes()[..header_len].copy_from_slice(&bytes[..header_len]);
        let mut frame = bytes[header_len..].to_vec();
        for _ in 1..header.num_buffers.get() {
            let (head, len) =
                self.rx.take().expect("all buffers of a frame are published together");
            self.ci = self.ci.plus(1);
            let (address, _) = self.buffers.remove(&head).unwrap();
            frame.extend(self.read(address, len as usize));
        }
        Some(Received { header, frame, number })
    }

    pub fn receive(&mut self) -> Received {
        eventually("the guest receives a frame", || self.try_receive())
    }

    /// Sends a frame in two buffers and waits for its completion.
    pub fn send(&mut self, header: NetHeader, frame: &[u8]) {
        let (head_at, frame_at) = (SCRATCH, SCRATCH + 0x1000);
        self.write(head_at, header.as_bytes());
        self.write(frame_at, frame);
        let header_len = if self.features & (1 << 32 | MRG_RXBUF) == 0 { 10 } else { 12 };
        let buffers = [(head_at, header_len, false), (frame_at, frame.len() as u32, false)];
        if self.features & INDIRECT_DESC == 0 {
            self.tx.add(&buffers);
        } else {
            self.tx.add_indirect(SCRATCH + 0x800, &buffers);
        }
        self.tx.kick();
        let (_, len) = eventually("the frame is completed", || self.tx.take());
        assert_eq!(len, 0);
    }

    /// A proper registration header.
    pub fn registration_header(&mut self) -> Registration {
        self.generation += 1;
        let tx_ci = Counter(u32::from(self.tx.next_used));
        Registration::new(0, self.generation, self.ci, tx_ci, self.arm)
    }

    /// Posts a registration with these buffers and returns the used length.
    pub fn post_registration(&mut self, header: &[u8], page: &[(u64, u32)]) -> u32 {
        self.write(SCRATCH, header);
        let mut buffers = vec![(SCRATCH, header.len() as u32, false)];
        buffers.extend(page.iter().map(|&(address, len)| (address, len, true)));
        self.tx.add(&buffers);
        self.tx.kick();
        eventually("the registration is answered", || self.tx.take()).1
    }

    /// Hands the page over, which must succeed.
    pub fn register(&mut self) -> Registration {
        let header = self.registration_header();
        assert_eq!(
            self.post_registration(header.as_bytes(), &[(AREA, QUEUE_PAGE_SIZE)]),
            QUEUE_PAGE_SIZE
        );
        header
    }

    pub fn cell(&self, offset: usize) -> u32 {
        self.memory.load(GuestAddress(AREA + offset as u64), Ordering::Acquire).unwrap()
    }

    pub fn set_cell(&self, offset: usize, value: u32) {
        self.memory.store(value, GuestAddress(AREA + offset as u64), Ordering::Release).unwrap();
    }

    /// Arms the receive queue with everything consumed so far.
    pub fn arm(&mut self) {
        self.arm = self.arm.plus(1);
        self.set_cell(offset::CI, self.ci.0);
        self.set_cell(offset::ARM_IRQ_SEEN, self.cell(offset::IRQ_SEEN));
        self.set_cell(offset::ARM, self.arm.0);
        self.rx.kick();
    }

    /// The handler of an interrupt that finds the NAPI free.
    pub fn handle_interrupt(&self) {
        self.set_cell(offset::IRQ_SEEN, self.cell(offset::FIRED));
    }

    /// The record of receive completion `number`.
    pub fn rx_record(&self, number: Counter) -> Completion {
        self.record(completion_offset(offset::RX, RX_RECORDS, number))
    }

    /// The record of transmit completion `number`.
    pub fn tx_record(&self, number: Counter) -> Completion {
        self.record(completion_offset(offset::TX, TX_RECORDS, number))
    }

    fn record(&self, at: usize) -> Completion {
        let at = AREA + at as u64;
        let bytes = self.read(at, size_of::<Completion>());
        let word = |range: std::ops::Range<usize>| u32::read_from_bytes(&bytes[range]).unwrap();
        Completion {
            timestamp_ns: u64::read_from_bytes(&bytes[..8]).unwrap(),
            number: word(8..12),
            flags: word(12..16),
        }
    }
}

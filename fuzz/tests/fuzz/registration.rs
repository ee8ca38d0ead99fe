// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registrations of a shared queue page, from right to nonsense.
//!
//! The device accepts exactly what docs/interface.md says it accepts, says so with the length and
//! in the page, and leaves the page of a registration that it refuses alone.

use bolero::{TypeGenerator, check};
use tsnic_abi::{Counter, QUEUE_PAGE_SIZE, Registration};
use virtio_queue::desc::split::Descriptor;
use zerocopy::IntoBytes as _;

use crate::MOMENT;
use crate::support::{Bench, MEMORY_LEN, Queue};

const HEADER: u64 = 0x3_0000;
const PAGE: u64 = 0x4_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

#[derive(Clone, Debug, TypeGenerator)]
struct Post {
    generation: u32,
    counters: [u32; 3],
    /// A byte of the header, and what is added to it.
    broken: Option<(u8, u8)>,
    /// Bytes of the header that are not posted.
    shorter: Option<u8>,
    /// Bytes the page is moved by.
    moved: Option<u32>,
    /// Bytes that the page is shorter by.
    smaller: Option<u16>,
}

impl Post {
    fn header(&self) -> Registration {
        let [rx_ci, tx_ci, arm] = self.counters.map(Counter);
        let mut header = Registration::new(0, self.generation, rx_ci, tx_ci, arm);
        if let Some((at, by)) = self.broken {
            let byte = &mut header.as_mut_bytes()[usize::from(at) % size_of::<Registration>()];
            *byte = byte.wrapping_add(by);
        }
        header
    }
}

/// Written from the description of the interface and from nothing in the device.
fn is_acceptable(header: &Registration, header_len: u32, page: u64, page_len: u32) -> bool {
    let right = Registration::new(0, header.generation.get(), Counter(0), Counter(0), Counter(0));
    let fixed = |header: &Registration| {
        (
            header.magic,
            header.version,
            header.pair,
            header.page_size,
            header.rx_records,
            header.tx_records,
        )
    };
    header_len == 40
        && fixed(header) == fixed(&right)
        && header.generation.get() != 0
        && header.reserved.iter().all(|word| word.get() == 0)
        && page_len == 32 << 10
        && page.is_multiple_of(4096)
        && page + u64::from(page_len) <= MEMORY_LEN
}

#[test]
fn registration() {
    check!().with_type::<[Post; 2]>().with_test_time(MOMENT).for_each(|posts| {
        let queues = [0x1_0000, 0x2_0000].map(|base| Queue { base, entries: 16, start: 0 });
        let mut bench = Bench::new(queues, u64::MAX, Vec::new());
        for (index, post) in posts.iter().enumerate() {
            let header = post.header();
            let header_len = 40 - u32::from(post.shorter.unwrap_or(0)).min(40);
            let page = PAGE + u64::from(post.moved.unwrap_or(0)) % (MEMORY_LEN - PAGE);
            let page_len =
                QUEUE_PAGE_SIZE - u32::from(post.smaller.unwrap_or(0)).min(QUEUE_PAGE_SIZE - 1);
            let at = HEADER + 0x100 * index as u64;
            bench.write(at, header.as_bytes());
            let (first, second) = (2 * index as u16, 2 * index as u16 + 1);
            bench.write_descriptor(
                queues[1].base,
                first,
                Descriptor::new(at, header_len, NEXT, second),
            );
            bench.write_descriptor(
                queues[1].base,
                second,
                Descriptor::new(page, page_len, WRITE, 0),
            );
            let before =
                bench.read(page, (MEMORY_LEN - page).min(64).try_into().expect("it is small"));

            let heads: Vec<u16> = (0..=index).map(|number| 2 * number as u16).collect();
            bench.make_available(1, &heads, heads.len() as u16);
            bench.serve();

            let acceptable = is_acceptable(&header, header_len, page, page_len);
            let (count, used) = bench.used(1);
            assert_eq!(usize::from(count), index + 1, "the chain does not come back");
            assert_eq!(
                used[index].1,
                if acceptable { QUEUE_PAGE_SIZE } else { 0 },
                "acceptable: {acceptable}"
            );
            let status = bench.pair.status().page.map(|page| page.generation);
            assert_eq!(status, acceptable.then_some(header.generation.get()));
            if !acceptable && index == 0 {
                assert_eq!(bench.read(page, before.len()), before, "a refused page was written to");
            }
        }
    });
}

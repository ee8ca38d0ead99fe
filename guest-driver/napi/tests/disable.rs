// SPDX-License-Identifier: GPL-2.0-only
//! A disable waits for netpoll too, which the models leave out.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use napi_state::{Bits, Napi, v4_11, v6_1};

/// An instance with an owner and netpoll inside. Each gets out of the way as the disable waits, in
/// the order given.
struct Occupied {
    word: AtomicUsize,
    bits: Bits,
    leave: [usize; 2],
    waits: Cell<usize>,
}

impl Occupied {
    fn new(bits: Bits, leave: [usize; 2]) -> Self {
        Self { word: AtomicUsize::new(leave[0] | leave[1]), bits, leave, waits: Cell::new(0) }
    }
}

impl Napi for Occupied {
    type Word = AtomicUsize;

    fn word(&self) -> &AtomicUsize {
        &self.word
    }
    fn bits(&self) -> Bits {
        self.bits
    }
    fn schedule_poll(&self) {
        unreachable!("a disable schedules nothing");
    }
    fn poll(&self, _budget: u32) -> u32 {
        unreachable!("a disable does not poll");
    }
    fn relax(&self) {
        let leaves = self.leave.get(self.waits.get()).expect("nobody is left to wait for");
        self.word.fetch_and(!leaves, Ordering::Relaxed);
        self.waits.set(self.waits.get() + 1);
    }
}

#[test]
fn waits_for_the_owner_and_for_netpoll_in_either_order() {
    for (bits, disable) in [
        (Bits::LINUX_4_10, v4_11::disable::<Occupied> as fn(&Occupied)),
        (Bits::LINUX_4_11, v4_11::disable),
        (Bits::LINUX_6_1, v6_1::disable),
    ] {
        let (owner, netpoll) = (bits.sched_mask(), bits.npsvc_mask());
        for leave in [[owner, netpoll], [netpoll, owner]] {
            let context = Occupied::new(bits, leave);
            disable(&context);
            assert_eq!(context.waits.get(), 2, "{bits:?}: it did not wait for both");
            assert_eq!(context.word.into_inner(), owner | netpoll, "{bits:?}");
        }
    }
}

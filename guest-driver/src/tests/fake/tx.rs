// SPDX-License-Identifier: GPL-2.0-only
//! The transmit side.

use std::collections::VecDeque;

use tsnic_abi::{Counter, Registration};

use super::{Did, Packet, TX_RING, World};
use crate::behaviour::Behaviour;
use crate::header;
use crate::tx::{Sent, TxPort, Wish};

/// A chain in the transmit ring.
pub enum Chain {
    Frame(Packet, [u8; header::LEN]),
    Registration(Registration),
}

/// The transmit side.
#[derive(Default)]
pub struct TxSide {
    pub ring: VecDeque<Chain>,
    pub used: VecDeque<(Chain, u32)>,
    pub room: Option<u32>,
    pub broken: bool,
    pub stopped: bool,
    pub kicks: u32,
    pub behaviour: Behaviour,
    pub callbacks: bool,
    pub callback_misses: u32,
    pub scheduled: u32,
    pub rx_scheduled: u32,
    pub completed: u32,
    pub sent: u32,
    pub stamped: Vec<u64>,
    /// Frames whose promised timestamp did not come.
    pub unstamped: u32,
    /// Frames that got the stack's own timestamp.
    pub left: usize,
    pub ring_size: u32,
    pub produced: Counter,
}

impl TxPort for &World {
    type Frame = Packet;

    fn pop(&mut self) -> Option<Sent<Packet>> {
        let (chain, length) = self.tx.borrow_mut().used.pop_front()?;
        Some(match chain {
            Chain::Frame(packet, _) => Sent::Frame(packet),
            Chain::Registration(_) => Sent::Registration(length),
        })
    }

    fn ring_size(&self) -> u32 {
        self.tx.borrow().ring_size
    }

    fn room(&self) -> u32 {
        let tx = self.tx.borrow();
        tx.room.unwrap_or((TX_RING - tx.ring.len() - tx.used.len()) as u32)
    }

    fn largest(&self) -> u32 {
        2
    }

    fn wish(&self, frame: &Packet) -> Wish {
        frame.wish
    }

    fn length(&self, frame: &Packet) -> u32 {
        frame.bytes.len() as u32
    }

    fn promise_timestamp(&self, frame: &mut Packet, promised: bool) {
        frame.awaits_timestamp = promised;
    }

    fn leaving(&self, _frame: &mut Packet) {
        let mut tx = self.tx.borrow_mut();
        tx.left += 1;
    }

    fn push(&mut self, frame: Packet, header: [u8; header::LEN]) -> bool {
        let mut tx = self.tx.borrow_mut();
        if tx.broken {
            return false;
        }
        tx.ring.push_back(Chain::Frame(frame, header));
        true
    }

    fn is_broken(&self) -> bool {
        self.tx.borrow().broken
    }

    fn look_at_link(&mut self) {
        self.note(Did::LookAtLink);
    }

    fn push_registration(&mut self, header: &Registration) -> bool {
        let room = TxPort::room(self) > 0;
        let mut tx = self.tx.borrow_mut();
        let holds_one = |chain: &Chain| matches!(chain, Chain::Registration(_));
        assert!(
            !tx.ring.iter().any(holds_one),
            "one registration chain at a time: its header is one piece of memory"
        );
        if room && !tx.broken {
            tx.ring.push_back(Chain::Registration(*header));
        }
        room && !tx.broken
    }

    fn awaits_timestamp(&self, frame: &Packet) -> bool {
        frame.awaits_timestamp
    }

    fn timestamp(&mut self, _frame: &mut Packet, ns: u64) {
        self.tx.borrow_mut().stamped.push(ns);
    }

    fn no_timestamp(&mut self, frame: &mut Packet) {
        assert!(frame.awaits_timestamp, "none was promised");
        self.tx.borrow_mut().unstamped += 1;
    }

    fn free(&mut self, frame: Packet) {
        drop(frame);
        // Not dropped but sent.
        self.dropped.set(self.dropped.get() - 1);
        self.tx.borrow_mut().sent += 1;
    }

    fn behaviour(&self) -> Behaviour {
        self.tx.borrow().behaviour
    }

    fn kick(&mut self) {
        self.tx.borrow_mut().kicks += 1;
    }

    fn stop_queue(&mut self) {
        self.tx.borrow_mut().stopped = true;
    }

    fn wake_queue(&mut self) {
        self.tx.borrow_mut().stopped = false;
    }

    fn queue_stopped(&self) -> bool {
        self.tx.borrow().stopped
    }

    fn disable_callbacks(&mut self) {
        self.tx.borrow_mut().callbacks = false;
    }

    fn enable_callbacks(&mut self) -> u32 {
        let mut tx = self.tx.borrow_mut();
        tx.callbacks = true;
        tx.produced.0
    }

    fn enable_callbacks_delayed(&mut self) -> bool {
        let mut tx = self.tx.borrow_mut();
        tx.callbacks = true;
        match tx.callback_misses.checked_sub(1) {
            Some(left) => {
                tx.callback_misses = left;
                false
            }
            None => true,
        }
    }

    fn used_since(&self, mark: u32) -> bool {
        self.tx.borrow().produced.0 != mark
    }

    fn complete(&mut self) -> bool {
        self.tx.borrow_mut().completed += 1;
        let hook = self.window.borrow_mut().take();
        if let Some(hook) = hook {
            hook(self);
        }
        true
    }

    fn schedule(&mut self) {
        self.tx.borrow_mut().scheduled += 1;
    }

    fn schedule_rx(&mut self) {
        self.tx.borrow_mut().rx_scheduled += 1;
        self.napi_schedule();
    }
}

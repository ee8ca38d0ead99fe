// SPDX-License-Identifier: GPL-2.0-only
//! The receive side.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use tsnic_abi::{Counter, offset};

use super::{Did, IN_BUSY_POLL, MISSED, Packet, SCHED, World};
use crate::behaviour::Behaviour;
use crate::header;
use crate::irq::Napi;
use crate::rx::{BUFFER_LEN, Notes, RxPort};

/// A frame the stack was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivered {
    pub bytes: Vec<u8>,
    pub parts: usize,
    pub notes: Notes,
}

/// The receive side of kernel and device.
#[derive(Default)]
pub struct RxSide {
    pub posted: VecDeque<Packet>,
    pub used: VecDeque<(Packet, u32)>,
    pub delivered: Vec<Delivered>,
    /// Allocations that will succeed; None: all.
    pub memory: Option<usize>,
    pub broken: bool,
    pub behaviour: Behaviour,
    pub callbacks: bool,
    pub device: Device,
}

/// The device's view of the receive queue (docs/interface.md, "Interrupts on a queue with a page").
#[derive(Default)]
pub struct Device {
    pub produced: Counter,
    pub signaled: Counter,
    pub armed: bool,
    pub fired: Counter,
    pub arm_seen: Counter,
    pub ci_at_arm: Counter,
    /// `irq_seen` as the doorbell had it with that arm.
    pub irq_seen_at_arm: u32,
}

impl RxPort for &World {
    type Buffer = Packet;
    type Frame = Packet;

    fn pop(&mut self) -> Option<(Packet, u32)> {
        self.note(Did::Pop);
        let hook = self.poll.borrow_mut().take();
        if let Some(hook) = hook {
            hook(self);
        }
        self.rx.borrow_mut().used.pop_front()
    }

    fn room(&self) -> u32 {
        let rx = self.rx.borrow();
        (self.entries - rx.posted.len() - rx.used.len()) as u32
    }

    fn allocate(&mut self) -> Option<Packet> {
        if let Some(left) = &mut self.rx.borrow_mut().memory {
            *left = left.checked_sub(1)?;
        }
        Some(self.packet(vec![0xaa; BUFFER_LEN]))
    }

    fn push(&mut self, buffer: Packet) -> bool {
        self.note(Did::Push);
        let mut rx = self.rx.borrow_mut();
        if rx.broken {
            return false;
        }
        rx.posted.push_back(buffer);
        true
    }

    fn is_broken(&self) -> bool {
        self.rx.borrow().broken
    }

    fn kick(&mut self) {
        self.note(Did::Kick);
    }

    fn notify(&mut self) {
        self.note(Did::Notify {
            ci: self.cell(offset::CI),
            irq_seen: self.cell(offset::ARM_IRQ_SEEN),
            arm: self.cell(offset::ARM),
        });
        self.doorbell();
    }

    fn header(&self, buffer: &Packet) -> [u8; header::LEN] {
        buffer.bytes[..header::LEN].try_into().expect("a header's length")
    }

    fn frame(&mut self, mut buffer: Packet, length: usize) -> Packet {
        assert!((header::LEN..=BUFFER_LEN).contains(&length));
        buffer.bytes.truncate(length);
        buffer.bytes.drain(..header::LEN);
        buffer
    }

    fn append(&mut self, frame: &mut Packet, buffer: Packet, length: usize) {
        assert!(length <= BUFFER_LEN);
        frame.bytes.extend(&buffer.bytes[..length]);
        frame.parts += 1;
    }

    fn deliver(&mut self, frame: Packet, notes: Notes) -> bool {
        assert!(frame.bytes.len() >= 14, "the kernel takes the Ethernet header off without a look");
        if let header::Checksum::Partial(at) = notes.checksum
            && usize::from(at.start) + usize::from(at.offset) + 2 > frame.bytes.len()
        {
            return false;
        }
        let delivered = Delivered { bytes: frame.bytes.clone(), parts: frame.parts, notes };
        self.rx.borrow_mut().delivered.push(delivered);
        true
    }

    fn disable_callbacks(&mut self) {
        self.note(Did::DisableCallbacks);
        self.rx.borrow_mut().callbacks = false;
    }

    fn enable_callbacks(&mut self) -> u32 {
        self.note(Did::EnableCallbacks);
        let mut rx = self.rx.borrow_mut();
        rx.callbacks = true;
        rx.device.produced.0
    }

    fn used_since(&self, mark: u32) -> bool {
        self.note(Did::UsedSince);
        self.rx.borrow().device.produced.0 != mark
    }

    fn complete(&mut self, _work: i32) -> bool {
        self.note(Did::Complete {
            ci: self.cell(offset::CI),
            arm: self.cell(offset::ARM),
            phase: self.cell(offset::PHASE),
        });
        let hook = self.window.borrow_mut().take();
        if let Some(hook) = hook {
            hook(self);
        }
        let state = self.napi.load(Ordering::SeqCst);
        assert_ne!(state & SCHED, 0, "only the owner may complete");
        if state & IN_BUSY_POLL != 0 {
            return false;
        }
        if state & MISSED != 0 {
            self.napi.store(state & !MISSED, Ordering::SeqCst);
            Napi::schedule(*self);
            return false;
        }
        self.napi.store(state & !SCHED, Ordering::SeqCst);
        let hook = self.after.borrow_mut().take();
        if let Some(hook) = hook {
            hook(self);
        }
        true
    }

    fn schedule(&mut self) {
        self.note(Did::Schedule);
        self.napi_schedule();
    }

    fn refill_in(&mut self, ms: u32) {
        self.note(Did::RefillIn(ms));
    }

    fn look_at_link(&mut self) {
        self.note(Did::LookAtLink);
    }

    fn behaviour(&self) -> Behaviour {
        self.rx.borrow().behaviour
    }
}

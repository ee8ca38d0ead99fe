// SPDX-License-Identifier: GPL-2.0-only
//! Checks a function against its transition table on every value the word can have.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicUsize, Ordering};

use std::vec::Vec;

use crate::{Bits, Napi, Word};

/// One value of the word, seen through the bits of a layout.
#[derive(Clone, Copy)]
pub struct Value(pub usize, pub Bits);

impl Value {
    pub fn has(self, mask: fn(Bits) -> usize) -> bool {
        self.0 & mask(self.1) != 0
    }

    pub fn with(self, mask: fn(Bits) -> usize) -> Self {
        Self(self.0 | mask(self.1), self.1)
    }

    pub fn without(self, mask: fn(Bits) -> usize) -> Self {
        Self(self.0 & !mask(self.1), self.1)
    }
}

/// What a function is expected to make of a value.
pub type Row<R> = (Value, R);

/// Runs `function` on every value of the low 12 bits (all that any kernel uses), with and without a
/// high bit, and compares the word and the answer with `table`; `None` where the function must not
/// be called. Each distinct row must be met: `rows` of them.
pub fn check<R: PartialEq + core::fmt::Debug>(
    bits: Bits,
    rows: usize,
    function: impl Fn(&AtomicUsize, Bits) -> R,
    table: impl Fn(Value) -> Option<(&'static str, Row<R>)>,
) {
    let mut met: Vec<&'static str> = Vec::new();
    for before in (0..1 << 12).flat_map(|low| [low, low | 1 << 63]) {
        let Some((row, (after, answer))) = table(Value(before, bits)) else { continue };
        let word = AtomicUsize::new(before);
        let given = function(&word, bits);
        assert_eq!((word.into_inner(), given), (after.0, answer), "{row}: {bits:?} {before:#x}");
        if !met.contains(&row) {
            met.push(row);
        }
    }
    assert_eq!(met.len(), rows, "rows met: {met:?}");
}

/// What an instance was asked to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Schedule,
    Poll,
    Watchdog,
    CancelWatchdog,
    Relax,
    Flush { only_old: bool },
}

/// An instance that does nothing but remember. Its poll consumes `work` packets, whatever the
/// budget, and completes nothing.
pub struct Bench {
    pub word: AtomicUsize,
    pub bits: Bits,
    pub asked: RefCell<Vec<Asked>>,
    pub work: u32,
    pub gro_held: bool,
    pub gro_flush_timeout: bool,
    pub defer_hard_irqs: u32,
    pub deferrals: Cell<u32>,
    /// Cleared from the word at each relax: an owner that goes.
    pub goes: usize,
    /// The word at the moment of the last request.
    pub word_when_asked: Cell<usize>,
}

impl Bench {
    pub fn new(bits: Bits, word: usize) -> Self {
        Self {
            word: AtomicUsize::new(word),
            bits,
            asked: RefCell::default(),
            work: 0,
            gro_held: false,
            gro_flush_timeout: false,
            defer_hard_irqs: 0,
            deferrals: Cell::new(0),
            goes: 0,
            word_when_asked: Cell::new(0),
        }
    }

    fn ask(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
        self.word_when_asked.set(self.word.read());
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }
}

/// A function of an instance as one of the word, for [`check`]: what it answers, and what it asked
/// for.
pub fn on_bench<R>(
    function: impl Fn(&Bench) -> R,
) -> impl Fn(&AtomicUsize, Bits) -> (R, Vec<Asked>) {
    move |word, bits| {
        let bench = Bench::new(bits, word.read());
        let answer = function(&bench);
        word.store(bench.word.read(), Ordering::Relaxed);
        (answer, bench.asked())
    }
}

impl Napi for Bench {
    type Word = AtomicUsize;

    fn word(&self) -> &AtomicUsize {
        &self.word
    }

    fn bits(&self) -> Bits {
        self.bits
    }

    fn schedule_poll(&self) {
        self.ask(Asked::Schedule);
    }

    fn poll(&self, budget: u32) -> u32 {
        self.ask(Asked::Poll);
        self.work.min(budget)
    }

    fn start_watchdog(&self) {
        self.ask(Asked::Watchdog);
    }

    fn cancel_watchdog(&self) {
        self.ask(Asked::CancelWatchdog);
    }

    fn relax(&self) {
        self.word.clear(self.goes);
        self.ask(Asked::Relax);
    }

    fn gro_held(&self) -> bool {
        self.gro_held
    }

    fn gro_flush(&self, only_old: bool) {
        self.ask(Asked::Flush { only_old });
    }

    fn gro_flush_timeout(&self) -> bool {
        self.gro_flush_timeout
    }

    fn defer_hard_irqs(&self) -> u32 {
        self.defer_hard_irqs
    }

    fn deferrals(&self) -> u32 {
        self.deferrals.get()
    }

    fn set_deferrals(&self, deferrals: u32) {
        self.deferrals.set(deferrals);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What a model needs of its checker: the same model runs under loom (every interleaving) and under
//! shuttle (random ones).

use std::sync::atomic::{AtomicBool, Ordering};

/// An atomic word whose every use the checker sees.
pub trait Atomic: Send + Sync + 'static {
    /// With a first value.
    fn new(value: usize) -> Self;
    /// Reads.
    fn load(&self, order: Ordering) -> usize;
    /// Adds. The value before.
    fn add(&self, operand: usize, order: Ordering) -> usize;
    /// Sets bits. The value before.
    fn or(&self, mask: usize, order: Ordering) -> usize;
    /// Keeps bits. The value before.
    fn and(&self, mask: usize, order: Ordering) -> usize;
    /// Compares and exchanges, fully ordered.
    ///
    /// # Errors
    /// When it was not `current`: what it was instead.
    fn compare_exchange(&self, current: usize, new: usize) -> Result<usize, usize>;
}

/// What only one thread at a time may do, without a lock to see to it: two at once panic.
pub trait Exclusive: Default + Send + Sync + 'static {
    /// Does it.
    fn with(&self, access: impl FnOnce());
}

/// A checker.
pub trait Runtime: Send + Sync + 'static {
    /// Its atomic word.
    type Atomic: Atomic;
    /// Its guard of the ring.
    type Exclusive: Exclusive;
    /// A thread to be joined.
    type Thread: Send + 'static;

    /// Starts a thread.
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Thread;
    /// Waits for its end.
    fn join(thread: Self::Thread);
    /// Nothing to do until others have done something.
    fn yield_now();
}

macro_rules! checker {
    ($name:ident, $krate:ident, $exclusive:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Atomic for $krate::sync::atomic::AtomicUsize {
            fn new(value: usize) -> Self {
                Self::new(value)
            }
            fn load(&self, order: Ordering) -> usize {
                self.load(order)
            }
            fn add(&self, operand: usize, order: Ordering) -> usize {
                self.fetch_add(operand, order)
            }
            fn or(&self, mask: usize, order: Ordering) -> usize {
                self.fetch_or(mask, order)
            }
            fn and(&self, mask: usize, order: Ordering) -> usize {
                self.fetch_and(mask, order)
            }
            fn compare_exchange(&self, current: usize, new: usize) -> Result<usize, usize> {
                self.compare_exchange(current, new, Ordering::SeqCst, Ordering::Relaxed)
            }
        }

        impl Runtime for $name {
            type Atomic = $krate::sync::atomic::AtomicUsize;
            type Exclusive = $exclusive;
            type Thread = $krate::thread::JoinHandle<()>;

            fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Thread {
                $krate::thread::spawn(body)
            }
            fn join(thread: Self::Thread) {
                thread.join().expect("a thread of the model does not panic");
            }
            fn yield_now() {
                $krate::thread::yield_now();
            }
        }
    };
}

checker!(Loom, loom, Tracked, "loom: every interleaving, and what weak ordering allows besides.");
checker!(
    Shuttle,
    shuttle,
    Flagged,
    "shuttle: random interleavings of larger models, sequentially consistent."
);

/// [`Exclusive`] by loom's account of what happens before what: two accesses that nothing orders
/// are found in any interleaving, not only in one in which they overlap.
#[derive(Debug)]
pub struct Tracked(loom::cell::UnsafeCell<()>);

// SAFETY: the cell holds nothing. It is only asked whether accesses to it are ordered, which loom
// decides under its own lock, with one thread of the model running at a time.
unsafe impl Sync for Tracked {}

impl Default for Tracked {
    fn default() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }
}

impl Exclusive for Tracked {
    fn with(&self, access: impl FnOnce()) {
        self.0.with_mut(|_| access());
    }
}

/// [`Exclusive`] by a flag: shuttle runs one thread at a time and changes threads inside the
/// access.
#[derive(Debug, Default)]
pub struct Flagged(AtomicBool);

impl Exclusive for Flagged {
    fn with(&self, access: impl FnOnce()) {
        assert!(!self.0.swap(true, Ordering::Relaxed), "two pollers at once");
        access();
        self.0.store(false, Ordering::Relaxed);
    }
}

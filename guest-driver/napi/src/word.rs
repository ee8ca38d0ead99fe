// SPDX-License-Identifier: GPL-2.0-only
//! The word, and the operations that the kernel has on it.

use core::sync::atomic::{AtomicUsize, Ordering};

/// A state word: the kernel's own, a test's, or a model checker's.
///
/// The operations are those of `Documentation/atomic_bitops.txt`, with masks for bit numbers, and
/// as strong as there: an implementation may order more, never less. None blocks, so all may be
/// called in any context.
pub trait Word {
    /// `READ_ONCE()`, and `test_bit()`: orders nothing.
    fn read(&self) -> usize;

    /// `set_bit()`: atomic, and orders nothing.
    fn set(&self, mask: usize);

    /// `clear_bit()`: atomic, and orders nothing. (On x86 it orders everything, as every locked
    /// instruction does.)
    fn clear(&self, mask: usize);

    /// `test_and_set_bit()`: fully ordered. True when the bit was set already.
    fn test_and_set(&self, mask: usize) -> bool;

    /// `test_and_clear_bit()`: fully ordered. True when the bit was set.
    fn test_and_clear(&self, mask: usize) -> bool;

    /// `try_cmpxchg()`: fully ordered.
    ///
    /// # Errors
    /// When the word was not `current`: what it was instead. Nothing is written and nothing ordered
    /// then.
    fn compare_exchange(&self, current: usize, new: usize) -> Result<usize, usize>;

    /// Replaces the word by what `next` makes of it in one transaction, trying again as long as
    /// others get in between. The word before. `None` from `next` leaves the word alone.
    fn transact(&self, mut next: impl FnMut(usize) -> Option<usize>) -> usize {
        let mut current = self.read();
        loop {
            let Some(new) = next(current) else { return current };
            match self.compare_exchange(current, new) {
                Ok(before) => return before,
                Err(other) => current = other,
            }
        }
    }
}

/// What is "fully ordered" in the kernel is here `SeqCst`, which is as much on x86, where the
/// driver runs. (On arm64 it would be less.)
impl Word for AtomicUsize {
    #[inline]
    fn read(&self) -> usize {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, mask: usize) {
        self.fetch_or(mask, Ordering::Relaxed);
    }

    #[inline]
    fn clear(&self, mask: usize) {
        self.fetch_and(!mask, Ordering::Relaxed);
    }

    #[inline]
    fn test_and_set(&self, mask: usize) -> bool {
        self.fetch_or(mask, Ordering::SeqCst) & mask != 0
    }

    #[inline]
    fn test_and_clear(&self, mask: usize) -> bool {
        self.fetch_and(!mask, Ordering::SeqCst) & mask != 0
    }

    #[inline]
    fn compare_exchange(&self, current: usize, new: usize) -> Result<usize, usize> {
        Self::compare_exchange(self, current, new, Ordering::SeqCst, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_operations_change_their_bit_and_tell_what_it_was() {
        let word = AtomicUsize::new(0b1000);
        assert!(!word.test_and_set(0b10));
        assert!(word.test_and_set(0b10));
        word.set(0b100);
        assert_eq!(word.read(), 0b1110);
        word.clear(0b1000);
        assert!(word.test_and_clear(0b10));
        assert!(!word.test_and_clear(0b10));
        assert_eq!(word.read(), 0b100);
    }

    #[test]
    fn transact_tries_again_with_what_others_made_of_the_word() {
        let word = AtomicUsize::new(1);
        let mut tries = 0;
        let before = word.transact(|value| {
            tries += 1;
            if tries == 1 {
                word.set(4);
            }
            Some(value | 2)
        });
        assert_eq!((before, tries, word.read()), (5, 2, 7));
        assert_eq!(word.transact(|_| None), 7);
        assert_eq!(word.read(), 7);
    }
}

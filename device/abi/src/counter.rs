// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Free-running counters: the one place where their order is decided.

/// A free-running 32-bit event counter (completions, arms, interrupts) that wraps at 2^32.
///
/// Two counters of one queue are never further apart than the ring is long, so their order is the
/// sign of their wrapping difference. Plain `<` on the raw values is wrong after the wrap, which is
/// why this type has no `Ord`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Counter(pub u32);

impl Counter {
    /// How far `self` is ahead of `earlier`, modulo 2^32.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// True when `self` is strictly ahead of `other`.
    #[inline]
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        self.since(other).cast_signed() > 0
    }

    /// The later of the two.
    #[inline]
    #[must_use]
    pub const fn latest(self, other: Self) -> Self {
        if other.is_after(self) { other } else { self }
    }

    /// `self` advanced by `n`.
    #[inline]
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// `self`, `n` back.
    #[inline]
    #[must_use]
    pub const fn minus(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }

    /// The counter nearest after (or equal to) `self` whose low 16 bits are `index`: widens a
    /// used-ring index, which is at most 65,535 entries ahead.
    ///
    /// ```
    /// use tsnic_abi::Counter;
    /// assert_eq!(Counter(0x1_fffe).widen(0x0001), Counter(0x2_0001));
    /// ```
    #[inline]
    #[must_use]
    pub const fn widen(self, index: u16) -> Self {
        self.plus(index.wrapping_sub(self.0 as u16) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn order_holds_across_the_wrap() {
        let before = Counter(u32::MAX - 1);
        let after = before.plus(3);
        assert_eq!(after, Counter(1));
        assert!(after.is_after(before) && !before.is_after(after) && !after.is_after(after));
        assert_eq!(before.latest(after), after);
        assert_eq!(after.latest(before), after);
        assert_eq!(after.since(before), 3);
    }

    #[test]
    fn widen_never_goes_back_and_moves_less_than_one_lap() {
        for base in [0u32, 1, 0xfffe, 0xffff, 0x1_0000, u32::MAX - 3, u32::MAX] {
            for ahead in [0u32, 1, 255, 0xffff] {
                let target = Counter(base).plus(ahead);
                assert_eq!(Counter(base).widen(target.0 as u16), target);
            }
        }
    }
}

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

    /// Numbers beside which a counter, or its low half, wraps.
    const BASES: [u32; 10] = [
        0,
        1,
        0x7fff,
        0x8000,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX - 0x8000,
        u32::MAX,
    ];

    #[test]
    fn the_later_counter_is_the_one_less_than_half_a_lap_ahead() {
        for base in BASES.map(Counter) {
            for near in 0..=0xffff {
                // Forward, back, and on both sides of half a lap.
                for by in [near, 0u32.wrapping_sub(near), 0x7fff_ffff - near, 0x8000_0000 + near] {
                    let other = base.plus(by);
                    let after = (1..0x8000_0000).contains(&by);
                    assert_eq!(other.since(base), by);
                    assert_eq!(other.is_after(base), after, "{base:?} and {by:#x} on");
                    assert_eq!(base.latest(other), if after { other } else { base });
                }
            }
        }
    }

    #[test]
    fn widen_finds_every_index_at_its_distance() {
        for base in BASES.map(Counter) {
            for ahead in 0..=u16::MAX {
                let target = base.plus(ahead.into());
                assert_eq!(base.widen(target.0 as u16), target);
            }
        }
    }
}

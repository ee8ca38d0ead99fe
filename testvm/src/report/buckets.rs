// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Log-scale buckets of request latency.

/// Lower ends of all buckets but the first, microseconds: three a decade, and none of them at 200
/// ms, where the second mode is expected. The first bucket begins at 0, the last has no end.
pub(super) const EDGES_US: [u64; 15] = [
    30, 70, 150, 300, 700, 1_500, 3_000, 7_000, 15_000, 30_000, 70_000, 150_000, 300_000, 700_000,
    1_500_000,
];

/// The bucket of the retransmission time-out's 200 ms.
pub(super) const MODE_US: u64 = 200_000;

/// How many times fell into each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets {
    pub counts: [u32; EDGES_US.len() + 1],
}

impl Buckets {
    pub(super) fn of(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let mut buckets = Self::default();
        for ns in times_ns {
            buckets.counts[index_of(ns / 1000)] += 1;
        }
        buckets
    }
}

/// The bucket this time belongs to.
pub(super) fn index_of(us: u64) -> usize {
    EDGES_US.partition_point(|&edge| edge <= us)
}

/// Lower and upper end of a bucket, microseconds.
pub(super) fn range_us(index: usize) -> (u64, Option<u64>) {
    (index.checked_sub(1).map_or(0, |i| EDGES_US[i]), EDGES_US.get(index).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bucket_above_it() {
        assert_eq!(index_of(29), 0);
        assert_eq!(index_of(30), 1);
        assert_eq!(range_us(1), (30, Some(70)));
        assert_eq!(range_us(0), (0, Some(30)));
        assert_eq!(range_us(index_of(u64::MAX)), (1_500_000, None));
    }

    #[test]
    fn the_second_mode_is_well_inside_one_bucket() {
        // RTO_min and TLP: 200 ms and a little; never less than 10 % from an edge.
        assert_eq!(index_of(MODE_US * 9 / 10), index_of(MODE_US));
        assert_eq!(index_of(MODE_US * 5 / 4), index_of(MODE_US));
    }

    #[test]
    fn everything_is_counted_once() {
        let buckets = Buckets::of([0, 29_999, 30_000, 204_000_000, u64::MAX]);
        assert_eq!(buckets.counts.iter().sum::<u32>(), 5);
        assert_eq!((buckets.counts[0], buckets.counts[1]), (2, 1));
    }
}

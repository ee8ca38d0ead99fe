// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Delta debugging: the fewest of some items with which something still fails (the algorithm ddmin
//! of Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

/// Takes out items as long as what is left `fails`. `items` must fail as they are. The result fails
/// as far as `fails` can be believed, and without any one of its items it did not.
///
/// # Errors
/// Those of `fails`.
pub fn ddmin<T: Clone, E>(
    mut items: Vec<T>,
    mut fails: impl FnMut(&[T]) -> Result<bool, E>,
) -> Result<Vec<T>, E> {
    let mut parts = 2;
    'shrunk: while items.len() > 1 {
        parts = parts.min(items.len());
        let bounds: Vec<_> = (0..=parts).map(|part| part * items.len() / parts).collect();
        // Of two halves each is all but the other.
        if parts > 2 {
            for part in bounds.windows(2) {
                let one = items[part[0]..part[1]].to_vec();
                if fails(&one)? {
                    (items, parts) = (one, 2);
                    continue 'shrunk;
                }
            }
        }
        for part in bounds.windows(2) {
            let others = [&items[..part[0]], &items[part[1]..]].concat();
            if fails(&others)? {
                (items, parts) = (others, (parts - 1).max(2));
                continue 'shrunk;
            }
        }
        if parts == items.len() {
            break;
        }
        parts *= 2;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// The fewest items that fail, and how often it was asked.
    fn minimal(items: u32, fails: impl Fn(&[u32]) -> bool) -> (Vec<u32>, usize) {
        let mut asked = 0;
        let left = ddmin((0..items).collect(), |items| {
            asked += 1;
            Ok::<_, Infallible>(fails(items))
        });
        (left.unwrap_or_else(|never| match never {}), asked)
    }

    #[test]
    fn one_culprit_among_many_is_found_in_few_steps() {
        for culprit in [0, 1, 500, 999] {
            let (left, asked) = minimal(1_000, |items| items.contains(&culprit));
            assert_eq!(left, [culprit]);
            assert!(asked < 40, "{asked} steps");
        }
    }

    #[test]
    fn an_item_is_not_asked_about_alone_when_there_is_no_other() {
        assert_eq!(minimal(1, |_| panic!("there is nothing to take out")), (vec![0], 0));
        assert_eq!(minimal(0, |_| panic!("there is nothing to take out")), (vec![], 0));
    }

    #[test]
    fn an_error_ends_it() {
        let mut asked = 0;
        let ended = ddmin(vec![1, 2, 3], |_| {
            asked += 1;
            Err("the guest is dead")
        });
        assert_eq!((ended, asked), (Err("the guest is dead"), 1));
    }

    proptest! {
        #[test]
        fn those_that_are_needed_are_left_and_no_others(
            items in 1u32..200,
            culprits in prop::collection::btree_set(0u32..200, 1..6),
        ) {
            let culprits: BTreeSet<_> = culprits.into_iter().map(|it| it % items).collect();
            let (left, _) = minimal(items, |items| culprits.iter().all(|it| items.contains(it)));
            prop_assert_eq!(left, culprits.into_iter().collect::<Vec<_>>());
        }

        /// What fails need not fail with more of it: then, too, the end fails, and nothing can be
        /// taken out of it.
        #[test]
        fn without_any_one_of_what_is_left_it_does_not_fail(items in 1u32..40, salt: u64) {
            let all: Vec<_> = (0..items).collect();
            let fails = |some: &[u32]| {
                let sum = some.iter().fold(salt, |sum, it| {
                    sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*it))
                });
                some.len() == all.len() || !some.is_empty() && sum >> 62 == 0
            };
            let (left, _) = minimal(items, fails);
            prop_assert!(fails(&left));
            for out in 0..left.len() {
                let mut fewer = left.clone();
                fewer.remove(out);
                prop_assert!(left.len() == 1 || !fails(&fewer), "{:?} without {}", left, out);
            }
        }
    }
}

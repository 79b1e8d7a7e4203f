//! Who computes which units of a layer.

use std::ops::Range;

use crate::Layer;

/// Cuts `costs` into `parts` contiguous ranges of about equal cost, some perhaps empty.
///
/// Each cut lies where the sum before it is nearest to its share, so the same fractions of two layers go to the same part and
/// what a thread wrote is mostly what it reads next. The largest part exceeds an even share by at most one unit.
pub fn balance(costs: impl IntoIterator<Item = u64>, parts: usize) -> Vec<Range<usize>> {
    let mut sums = vec![0u128];
    for cost in costs {
        sums.push(sums[sums.len() - 1] + u128::from(cost));
    }
    let (units, total, parts) = (sums.len() - 1, sums[sums.len() - 1], parts.max(1));
    // everything times `parts`, so that shares stay whole numbers
    let ahead = |unit: usize| sums[unit] * parts as u128;
    let cut = |part: usize| {
        let wanted = total * part as u128;
        let after = sums.partition_point(|sum| sum * (parts as u128) < wanted).min(units);
        let before = after.saturating_sub(1);
        if wanted.abs_diff(ahead(before)) < wanted.abs_diff(ahead(after)) { before } else { after }
    };
    let mut cuts: Vec<usize> = (0..=parts).map(cut).collect();
    (cuts[0], cuts[parts]) = (0, units);
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The units of `layer` that each of `threads` workers computes: contiguous, together all of them, balanced by cost.
pub fn share(layer: &dyn Layer, threads: usize) -> Vec<Range<usize>> {
    balance((0..layer.units()).map(|unit| layer.unit_cost(unit)), threads)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_checked_by_hand() {
        assert_eq!(balance([1, 1, 10], 2), [0..2, 2..3]);
        assert_eq!(balance([3; 5], 3), [0..2, 2..3, 3..5]);
        assert_eq!(balance([7], 3), [0..0, 0..1, 1..1]);
        assert_eq!(balance([0, 0, 0], 2), [0..0, 0..3]);
        assert_eq!(balance([1, 2], 1), vec![Range { start: 0, end: 2 }]);
        assert_eq!(balance([u64::MAX; 4], 2), [0..2, 2..4]);
        assert_eq!(balance([], 2), [0..0, 0..0]);
    }

    proptest! {
        #[test]
        fn parts_follow_each_other_and_none_is_a_unit_above_its_share(
            costs in prop::collection::vec(0u64..50, 0..40), parts in 1usize..9,
        ) {
            let ranges = balance(costs.iter().copied(), parts);
            prop_assert_eq!(ranges.len(), parts);
            prop_assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, costs.len()));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].start <= pair[0].end));
            let sum = |range: &Range<usize>| costs[range.clone()].iter().sum::<u64>() as f64;
            let largest = costs.iter().max().copied().unwrap_or(0) as f64;
            let even = costs.iter().sum::<u64>() as f64 / parts as f64;
            prop_assert!(ranges.iter().all(|range| sum(range) <= even + largest + 1e-6));
        }
    }
}

//! Which parts of a graph may become one operator each: sets that no path leaves and enters again.

/// One node of the graph, in an order in which every node comes after those it reads.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Whether a region could take it.
    pub(crate) fits: bool,
    /// Indices of the items that it reads.
    pub(crate) after: Vec<usize>,
}

/// Cuts the fitting items into as few sets as this rule gives, each in order.
///
/// A set is all items with the same number of crossings from fitting to other items on the worst path before them. Along a
/// path that number never falls, and it rises where a path leaves a set through something else; so no path comes back.
pub(crate) fn regions(items: &[Item]) -> Vec<Vec<usize>> {
    let mut crossings: Vec<usize> = Vec::with_capacity(items.len());
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let crossed = |before: &usize| crossings[*before] + usize::from(items[*before].fits && !item.fits);
        let count = item.after.iter().map(crossed).max().unwrap_or(0);
        crossings.push(count);
        if item.fits {
            if sets.len() <= count {
                sets.resize(count + 1, Vec::new());
            }
            sets[count].push(index);
        }
    }
    sets.retain(|set| !set.is_empty());
    sets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(fits: bool, after: &[usize]) -> Item {
        Item { fits, after: after.to_vec() }
    }

    #[test]
    fn a_chain_is_one_region() {
        assert_eq!(regions(&[item(true, &[]), item(true, &[0]), item(true, &[1])]), [[0, 1, 2]]);
    }

    #[test]
    fn something_else_in_the_middle_makes_two() {
        let items = [item(true, &[]), item(false, &[0]), item(true, &[1])];
        assert_eq!(regions(&items), [vec![0], vec![2]]);
    }

    #[test]
    fn a_branch_around_something_else_waits_for_it() {
        // 0 feeds 1 (other) and 2; 3 reads both: 2 stays with 0, 3 does not
        let items = [item(true, &[]), item(false, &[0]), item(true, &[0]), item(true, &[1, 2])];
        assert_eq!(regions(&items), [vec![0, 2], vec![3]]);
    }

    #[test]
    fn what_comes_before_all_regions_cuts_nothing() {
        let items = [item(false, &[]), item(true, &[0]), item(true, &[1]), item(false, &[2])];
        assert_eq!(regions(&items), [[1, 2]]);
    }

    proptest! {
        #[test]
        fn no_path_leaves_a_region_and_returns(
            graph in prop::collection::vec((any::<bool>(), prop::collection::vec(0usize..40, 0..3)), 1..40)
        ) {
            let items: Vec<Item> = graph
                .into_iter()
                .enumerate()
                .map(|(at, (fits, after))| Item { fits, after: after.into_iter().filter(|before| *before < at).collect() })
                .collect();
            let sets = regions(&items);
            prop_assert_eq!(sets.iter().map(Vec::len).sum::<usize>(), items.iter().filter(|item| item.fits).count());
            for set in &sets {
                // what a path reached after it left the set
                let mut outside = vec![false; items.len()];
                for (at, item) in items.iter().enumerate() {
                    let left = item.after.iter().any(|before| outside[*before] || set.contains(before));
                    if set.contains(&at) {
                        prop_assert!(!item.after.iter().any(|before| outside[*before]));
                    } else {
                        outside[at] = left;
                    }
                }
            }
        }
    }
}

//! Fewer samples of one split, for studies that must be short.

use crate::dataset::{Dataset, Split};
use crate::draws::derive_seed;

impl Dataset {
    /// Drops samples of `split` until at most `at_most` are left, each class keeping its share as exactly as whole numbers
    /// allow; a class that has samples keeps at least one while there is room.
    ///
    /// Which samples stay depends on `seed` and the number of the sample alone, and a smaller limit keeps a subset of what
    /// a larger one keeps of each class. The other splits are untouched.
    pub fn limit(&mut self, split: Split, at_most: usize, seed: u64) {
        let counts = self.class_counts(split);
        let total: usize = counts.iter().sum();
        if total <= at_most {
            return;
        }
        let keep = shares(&counts, at_most);
        let mut order = self.indices(split);
        order.sort_by_cached_key(|index| derive_seed(seed, "limit", &index.to_string()));
        let mut kept = vec![0; counts.len()];
        for index in order {
            let class = self.labels[index] as usize;
            if kept[class] < keep[class] {
                kept[class] += 1;
            } else {
                self.splits[index] = Split::Dropped;
            }
        }
        self.notes.push(format!("{at_most} of {total} {} samples are used, as asked for", split.name()));
    }
}

/// `at_most` divided in proportion to `counts` by largest remainder (ties to the lower class); then each class that got
/// nothing takes one from the class that got most.
fn shares(counts: &[usize], at_most: usize) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let mut keep: Vec<usize> = counts.iter().map(|count| count * at_most / total).collect();
    let mut order: Vec<usize> = (0..counts.len()).filter(|class| counts[*class] > 0).collect();
    order.sort_by_key(|class| std::cmp::Reverse(counts[*class] * at_most % total));
    let left = at_most - keep.iter().sum::<usize>();
    order.iter().take(left).for_each(|class| keep[*class] += 1);
    for class in 0..counts.len() {
        let most = (0..counts.len()).rev().max_by_key(|class| keep[*class]).expect("there are classes");
        if counts[class] > 0 && keep[class] == 0 && keep[most] > 1 {
            keep[class] += 1;
            keep[most] -= 1;
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InspectionSpec, inspection};

    #[test]
    fn classes_keep_their_shares_and_other_splits_are_untouched() {
        let full = inspection(&InspectionSpec { height: 16, width: 16, train: 40, val: 20, test: 20 }, 1);
        let mut few = full.clone();
        few.limit(Split::Train, 20, 7);
        assert_eq!(few.class_counts(Split::Train), [5, 3, 3, 3, 3, 3]);
        assert_eq!(few.class_counts(Split::Val), full.class_counts(Split::Val));
        assert_ne!(few.manifest_sha256(), full.manifest_sha256());
        let mut fewer = full.clone();
        fewer.limit(Split::Train, 7, 7);
        assert_eq!(fewer.class_counts(Split::Train), [2, 1, 1, 1, 1, 1]);
        assert!(fewer.indices(Split::Train).iter().all(|i| few.splits[*i] == Split::Train), "a subset");
        let mut all = full.clone();
        all.limit(Split::Train, 40, 7);
        assert_eq!(all, full, "a limit that does not bind changes nothing");
    }

    #[test]
    fn rare_classes_keep_one_while_there_is_room() {
        assert_eq!(shares(&[97, 1, 2, 0], 10), [8, 1, 1, 0]);
        assert_eq!(shares(&[97, 1, 2, 0], 2).iter().sum::<usize>(), 2);
        assert_eq!(shares(&[5, 5], 3), [2, 1]);
    }
}

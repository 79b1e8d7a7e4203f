//! Which blocks go, given what each is worth.

use sentei_data::derive_seed;
use sentei_graph::blocks::Block;
use serde::{Deserialize, Serialize};

use super::BlockDrop;

/// How many blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Every candidate whose mean drop is at most this; 0.6 is a drop of 60 points.
    Threshold(f64),
    /// The cheapest so many.
    Count(usize),
    /// The cheapest ones, up to the largest step between neighbours of the sorted drops.
    LargestGap,
}

/// Numbers of the blocks to remove, ascending; `drops` of blocks that are no candidates are passed over.
///
/// Equal drops go in the order of the blocks. Fewer than asked for come back when there are no more candidates.
pub fn select(all: &[Block], drops: &[BlockDrop], how: Selection) -> Vec<usize> {
    let sorted = cheapest_first(all, drops);
    let cheap = |tau: f64| sorted.iter().filter(|d| d.mean() <= tau).map(|d| d.block).collect();
    let first = |count: usize| sorted.iter().take(count).map(|d| d.block).collect();
    let mut numbers: Vec<usize> = match how {
        Selection::Threshold(tau) => cheap(tau),
        Selection::Count(count) => first(count),
        Selection::LargestGap => first(largest_gap(all, drops).map_or(0, |(count, _)| count)),
    };
    numbers.sort_unstable();
    numbers
}

/// Candidates before the largest step between neighbours of the sorted drops, and the size of that step.
///
/// Of equal steps the first one counts. `None` with fewer than two candidates.
pub fn largest_gap(all: &[Block], drops: &[BlockDrop]) -> Option<(usize, f64)> {
    let sorted = cheapest_first(all, drops);
    let steps = sorted.windows(2).map(|pair| pair[1].mean() - pair[0].mean());
    let larger = |best: (usize, f64), step: (usize, f64)| if step.1 > best.1 { step } else { best };
    steps.enumerate().map(|(i, step)| (i + 1, step)).reduce(larger)
}

/// The drops of candidates, cheapest first, equal ones in the order of the blocks.
///
/// Blocks that were measured again on more images come before the others whatever they cost there: a drop on a few images
/// is the more flattering the fewer they are, and must not overtake one that has been checked.
pub fn cheapest_first<'a>(all: &[Block], drops: &'a [BlockDrop]) -> Vec<&'a BlockDrop> {
    let mut sorted: Vec<&BlockDrop> =
        drops.iter().filter(|d| all.get(d.block).is_some_and(Block::is_candidate)).collect();
    let by_cost = |a: &BlockDrop, b: &BlockDrop| a.mean().total_cmp(&b.mean()).then(a.block.cmp(&b.block));
    sorted.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| by_cost(a, b)));
    sorted
}

/// So many candidates drawn at random, ascending: the control that a ranking has to beat. All of them when there are no
/// more.
///
/// * `draw`: which of the random sets of this seed.
pub fn random_blocks(all: &[Block], count: usize, seed: u64, draw: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..all.len()).filter(|i| all[*i].is_candidate()).collect();
    numbers.sort_by_key(|i| derive_seed(seed, &format!("sr-init random {draw}"), &all[*i].name));
    numbers.truncate(count);
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use sentei_graph::Graph;
    use sentei_graph::blocks::blocks;

    use super::*;

    /// Six blocks of one stage; all but the first are candidates.
    fn stage() -> Vec<Block> {
        let mut text = "x = input f32[1,2,4,4]\na0 = Relu(x)\n".to_string();
        for i in 0..6 {
            text += &format!("c{i} = Conv(a{i}, w{i}[2,2,3,3]) pad=1\ns{i} = Add(c{i}, a{i})\n");
            text += &format!("a{} = Relu(s{i})\n", i + 1);
        }
        blocks(&Graph::parse(&text).unwrap()).unwrap()
    }

    fn drops(values: &[f64]) -> Vec<BlockDrop> {
        let row = |(block, v): (usize, &f64)| BlockDrop { block, drops: vec![*v], samples: 10 };
        values.iter().enumerate().map(row).collect()
    }

    #[test]
    fn each_way_of_choosing_counts_candidates_only() {
        let (all, drops) = (stage(), drops(&[0.0, 0.5, 0.1, 0.1, 0.7, 0.05]));
        assert_eq!(select(&all, &drops, Selection::Threshold(0.1)), [2, 3, 5]);
        assert_eq!(select(&all, &drops, Selection::Threshold(-1.0)), [0; 0]);
        assert_eq!(select(&all, &drops, Selection::Count(2)), [2, 5], "ties go to the earlier block");
        assert_eq!(select(&all, &drops, Selection::Count(99)), [1, 2, 3, 4, 5]);
        assert_eq!(largest_gap(&all, &drops), Some((3, 0.4)));
        assert_eq!(select(&all, &drops, Selection::LargestGap), [2, 3, 5]);
        assert_eq!(largest_gap(&all, &drops[..2]), None);
    }

    #[test]
    fn a_drop_on_few_images_does_not_overtake_one_that_was_checked() {
        let (all, mut drops) = (stage(), drops(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5]));
        drops[3].samples = 100;
        drops[4].samples = 100;
        let order: Vec<usize> = cheapest_first(&all, &drops).iter().map(|d| d.block).collect();
        assert_eq!(order, [3, 4, 1, 2, 5]);
        assert_eq!(select(&all, &drops, Selection::Count(2)), [3, 4]);
        assert_eq!(select(&all, &drops, Selection::Threshold(0.3)), [1, 2, 3]);
    }

    #[test]
    fn sr_init_oracle_5_stage_entries_are_never_chosen_however_cheap() {
        let (all, drops) = (stage(), drops(&[-1.0, 0.5, 0.5, 0.5, 0.5, 0.5]));
        for how in [Selection::Threshold(2.0), Selection::Count(6), Selection::LargestGap] {
            assert!(!select(&all, &drops, how).contains(&0), "{how:?}");
        }
        assert!((0..20).all(|draw| !random_blocks(&all, 6, 1, draw).contains(&0)));
    }

    #[test]
    fn random_sets_have_the_size_and_differ_from_draw_to_draw() {
        let all = stage();
        let sets: Vec<Vec<usize>> = (0..20).map(|draw| random_blocks(&all, 2, 7, draw)).collect();
        assert!(sets.iter().all(|s| s.len() == 2 && s[0] < s[1]));
        assert_eq!(sets[3], random_blocks(&all, 2, 7, 3));
        assert!(sets.iter().any(|s| *s != sets[0]));
    }
}

//! Where blocks of memory lie in one arena, so that blocks in use at the same time are apart and others share.

use std::ops::RangeInclusive;

use crate::LINE;

/// A piece of memory and when it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Elements.
    pub len: usize,
    /// Stages during which its contents matter.
    pub live: RangeInclusive<usize>,
}

impl Block {
    fn meets(&self, other: &Self) -> bool {
        self.live.start() <= other.live.end() && other.live.start() <= self.live.end()
    }
}

/// Start of every block, each on a cache line, and the length of the arena.
///
/// Largest first, each into the smallest gap it fits into between the blocks that are in use with it, else behind them.
pub(super) fn place(blocks: &[Block]) -> (Vec<usize>, usize) {
    let order = largest_first(blocks);
    let mut starts = vec![0; blocks.len()];
    let mut arena = 0;
    for (done, &block) in order.iter().enumerate() {
        let len = blocks[block].len.next_multiple_of(LINE);
        let mut taken: Vec<(usize, usize)> = order[..done]
            .iter()
            .filter(|other| blocks[**other].meets(&blocks[block]))
            .map(|other| (starts[*other], starts[*other] + blocks[*other].len.next_multiple_of(LINE)))
            .collect();
        taken.sort_unstable();
        let (mut end, mut best) = (0, None);
        for (start, stop) in taken {
            let gap = start.saturating_sub(end);
            if gap >= len && best.is_none_or(|(smallest, _)| gap < smallest) {
                best = Some((gap, end));
            }
            end = end.max(stop);
        }
        starts[block] = best.map_or(end, |(_, start)| start);
        arena = arena.max(starts[block] + len);
    }
    (starts, arena)
}

/// As [`place`], for blocks of which one worker writes the first half and another the second: all that share memory have the same
/// middle, so that a worker finds there what it wrote itself. What another has written takes as long to overwrite as to read. That is
/// so for two workers and maps in slabs or shared by channels; others lie there as well as anywhere.
///
/// Largest first, each into the smallest place that is free while it is in use: memory that [`place`] would share out among several
/// at a time serves one, which costs the benchmark networks up to 1.7 MB.
pub(super) fn place_halves(blocks: &[Block]) -> (Vec<usize>, usize) {
    let lines = |block: usize| blocks[block].len.div_ceil(LINE);
    let mut rooms: Vec<(usize, Vec<usize>)> = Vec::new();
    for block in largest_first(blocks) {
        let free = |room: &&mut (usize, Vec<usize>)| room.1.iter().all(|other| !blocks[*other].meets(&blocks[block]));
        match rooms.iter_mut().filter(free).min_by_key(|(len, _)| *len) {
            Some((_, within)) => within.push(block),
            None => rooms.push((lines(block), vec![block])),
        }
    }
    let (mut starts, mut arena) = (vec![0; blocks.len()], 0);
    for (len, within) in rooms {
        for block in within {
            starts[block] = (arena + len / 2 - lines(block) / 2) * LINE;
        }
        arena += len;
    }
    (starts, arena * LINE)
}

fn largest_first(blocks: &[Block]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|block| (std::cmp::Reverse(blocks[*block].len), *blocks[*block].live.start()));
    order
}

/// Asserts that blocks in use at the same stage are apart and within the arena.
pub(super) fn assert_apart(blocks: &[Block], starts: &[usize], arena: usize) {
    for (index, block) in blocks.iter().enumerate() {
        let end = starts[index] + block.len;
        assert!(end <= arena && starts[index].is_multiple_of(LINE), "block {index} ends at {end} of {arena}");
        for (other, start) in starts.iter().enumerate().skip(index + 1) {
            let apart = end <= *start || start + blocks[other].len <= starts[index];
            assert!(apart || !block.meets(&blocks[other]), "blocks {index} and {other} overlap");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(len: usize, live: RangeInclusive<usize>) -> Block {
        Block { len, live }
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let chain = [block(64, 0..=1), block(100, 1..=2), block(32, 2..=3), block(48, 3..=4)];
        let (starts, arena) = place(&chain);
        assert_eq!((starts, arena), (vec![112, 0, 112, 0], 176));
    }

    #[test]
    fn the_smallest_gap_that_fits_is_taken() {
        // the two long-lived ones at 0 and behind leave gaps of 32 and 16 for others when `64` and `48` are over
        let blocks = [
            block(64, 0..=9),
            block(48, 0..=0),
            block(40, 0..=9),
            block(32, 0..=0),
            block(16, 0..=9),
            block(16, 5..=5),
        ];
        let (starts, arena) = place(&blocks);
        assert_apart(&blocks, &starts, arena);
        assert_eq!(starts[..5], [0, 64, 112, 160, 192]);
        assert_eq!(starts[5], 160, "the gap of 32 rather than that of 48");
    }

    #[test]
    fn halves_have_the_middle_of_what_was_there_before() {
        let chain = [block(64, 0..=1), block(160, 1..=2), block(32, 2..=3), block(96, 3..=4)];
        let (starts, arena) = place_halves(&chain);
        assert_eq!((starts, arena), (vec![160, 0, 176, 32], 224));
    }

    proptest! {
        #[test]
        fn blocks_in_use_together_never_overlap(
            blocks in prop::collection::vec((1usize..200, 0usize..20, 0usize..6), 0..40),
        ) {
            let blocks: Vec<Block> = blocks.iter().map(|(len, first, more)| block(*len, *first..=first + more)).collect();
            let (starts, arena) = place(&blocks);
            assert_apart(&blocks, &starts, arena);
            let all: usize = blocks.iter().map(|block| block.len.next_multiple_of(LINE)).sum();
            prop_assert!(arena <= all);
            let (starts, arena) = place_halves(&blocks);
            assert_apart(&blocks, &starts, arena);
            prop_assert!(arena <= all);
        }
    }
}

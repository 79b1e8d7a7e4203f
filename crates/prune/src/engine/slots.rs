//! Which maps of a step share memory: two whose lives do not overlap may.

/// Something that lives in memory for a part of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Numbers it holds.
    pub len: usize,
    /// When it is written first.
    pub from: usize,
    /// When it is read last, inclusive.
    pub to: usize,
}

impl Life {
    /// One thing in the place of two.
    pub fn join(self, other: Life) -> Life {
        Life { len: self.len.max(other.len), from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

/// A place for every life, and how long each place has to be.
///
/// The longest lives choose first and take the place where they fit with the least growth.
pub(super) fn assign(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(lives[*i].len), lives[*i].from));
    let mut places: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
    let mut found = vec![0; lives.len()];
    for index in order {
        let life = lives[index];
        let free = |taken: &[(usize, usize)]| taken.iter().all(|(from, to)| life.to < *from || *to < life.from);
        // In this order a place is never shorter than who comes: the shortest free one wastes least.
        let best = (0..places.len()).filter(|p| free(&places[*p].1)).min_by_key(|p| places[*p].0);
        let place = best.unwrap_or_else(|| {
            places.push((life.len, Vec::new()));
            places.len() - 1
        });
        places[place].1.push((life.from, life.to));
        found[index] = place;
    }
    (found, places.into_iter().map(|(len, _)| len).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_overlap_lie_apart_and_others_share() {
        let life = |len, from, to| Life { len, from, to };
        let lives = [life(10, 0, 3), life(10, 3, 5), life(8, 4, 6), life(4, 6, 9), life(10, 7, 7)];
        let (place, lengths) = assign(&lives);
        for (i, a) in lives.iter().enumerate() {
            assert!(lengths[place[i]] >= a.len);
            for (j, b) in lives.iter().enumerate().filter(|(j, _)| *j > i) {
                assert!(place[i] != place[j] || a.to < b.from || b.to < a.from, "{i} and {j} share a place");
            }
        }
        assert_eq!(lengths.iter().sum::<usize>(), 20, "{place:?}");
    }
}

//! The survivors that count in one rectangle: what is left of a list of entries where taps fall outside.

use std::sync::{Mutex, PoisonError};

use super::tiles::{Entry, Turn};

/// What becomes of the entries of one tap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// To add to their codes, modulo 2^32.
    pub add: u32,
    /// 0 if they are left out, else 1.
    pub keep: u32,
}

/// Room for what is left of one unit.
#[derive(Debug)]
pub(super) struct Lists {
    turns: Vec<Turn>,
    entries: Vec<Entry>,
}

impl Lists {
    /// * `most`: turns and entries of the largest unit.
    pub fn new(most: (usize, usize)) -> Self {
        // entries that are left out are written as well, and then written over: one beyond the end
        Self { turns: vec![Turn::default(); most.0 + 1], entries: vec![Entry::default(); most.1 + 1] }
    }

    /// The turns and entries that count; turns without entries only if `all`.
    pub fn filter(
        &mut self,
        changes: &[Change],
        bits: u32,
        turns: &[Turn],
        mut entries: &[Entry],
        all: bool,
    ) -> (&[Turn], &[Entry]) {
        let mask = (1u32 << bits) - 1;
        let (mut kept_turns, mut kept) = (0, 0);
        for turn in turns {
            let (own, later) = entries.split_at(turn.entries as usize);
            entries = later;
            let before = kept;
            for entry in own {
                let change = changes[(entry.code & mask) as usize];
                self.entries[kept] = Entry { code: entry.code.wrapping_add(change.add), value: entry.value };
                kept += change.keep as usize;
            }
            self.turns[kept_turns] = Turn { output: turn.output, entries: (kept - before) as u32 };
            kept_turns += usize::from(all || kept > before);
        }
        (&self.turns[..kept_turns], &self.entries[..kept])
    }
}

/// Lists that no thread uses at the moment.
#[derive(Debug)]
pub(super) struct Pool {
    most: (usize, usize),
    idle: Mutex<Vec<Lists>>,
}

impl Pool {
    /// * `most`: turns and entries of the largest unit.
    pub fn new(most: (usize, usize)) -> Self {
        Self { most, idle: Mutex::default() }
    }

    /// Lists of one's own; made when more threads ask than ever before.
    pub fn take(&self) -> Lists {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Lists::new(self.most))
    }

    /// Gives them back.
    pub fn give(&self, lists: Lists) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lists);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_taps_outside_are_left_out_and_the_others_moved() {
        let entry = |code| Entry { code, value: 1.0 };
        let entries = [entry(0b100), entry(0b1001), entry(0b1100)];
        let turns = [Turn { output: 5, entries: 2 }, Turn { output: 3, entries: 1 }];
        let changes = [Change { add: 0, keep: 0 }, Change { add: 0u32.wrapping_sub(0b100), keep: 1 }];
        let mut lists = Lists::new((2, 3));
        let seen = |(turns, entries): (&[Turn], &[Entry])| {
            let turns: Vec<_> = turns.iter().map(|turn| (turn.output, turn.entries)).collect();
            (turns, entries.iter().map(|entry| entry.code).collect::<Vec<_>>())
        };
        assert_eq!(seen(lists.filter(&changes, 2, &turns, &entries, true)), (vec![(5, 1), (3, 0)], vec![0b101]));
        assert_eq!(seen(lists.filter(&changes, 2, &turns, &entries, false)), (vec![(5, 1)], vec![0b101]));
    }
}

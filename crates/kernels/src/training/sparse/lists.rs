//! The survivors that count in one rectangle: what is left of a list of entries where taps fall outside.

use std::sync::{Mutex, PoisonError};

use super::Kernels;
use super::tiles::Turn;

/// Entries that are written at once, behind those that stay.
const ROOM: usize = 16;
/// Taps whose changes fit two vectors and a mask.
const FEW: usize = 32;

/// What becomes of the entries of every tap.
#[derive(Debug)]
pub(super) struct Changes {
    /// The bits of a code that are the tap.
    pub taps: u32,
    /// What to add to codes, modulo 2^32; nothing for a tap that falls outside.
    moved: Vec<Option<u32>>,
    /// The same for up to 32 taps: what to add, and a bit for each tap that falls inside.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by the AVX-512 kernels alone"))]
    pub few: Option<([u32; FEW], u32)>,
}

impl Changes {
    /// * `bits`: of a code that are the tap; `moved`: what to add to codes of each tap, nothing if it falls outside.
    pub fn new(bits: u32, moved: impl Iterator<Item = Option<u32>>) -> Self {
        let moved: Vec<_> = moved.collect();
        let few = (moved.len() <= FEW).then(|| {
            let mut few = ([0; FEW], 0);
            for (tap, add) in moved.iter().enumerate() {
                few.0[tap] = add.unwrap_or(0);
                few.1 |= u32::from(add.is_some()) << tap;
            }
            few
        });
        Self { taps: (1 << bits) - 1, moved, few }
    }
}

/// Writes the codes and values of the taps inside, codes changed; says how many.
///
/// # Safety
/// `to_codes` and `to_values` have room for all of them and a vector more.
pub(super) unsafe fn keep(
    changes: &Changes,
    codes: &[u32],
    values: &[f32],
    to_codes: *mut u32,
    to_values: *mut f32,
) -> usize {
    let mut kept = 0;
    for (code, value) in codes.iter().zip(values) {
        let moved = changes.moved[(code & changes.taps) as usize];
        // SAFETY: no more are kept than there are. What falls outside is written over by the next.
        unsafe {
            to_codes.add(kept).write(code.wrapping_add(moved.unwrap_or(0)));
            to_values.add(kept).write(*value);
        }
        kept += usize::from(moved.is_some());
    }
    kept
}

/// Room for what is left of one unit.
#[derive(Debug)]
pub(super) struct Lists {
    turns: Vec<Turn>,
    codes: Vec<u32>,
    values: Vec<f32>,
}

impl Lists {
    /// * `most`: turns and entries of the largest unit.
    pub fn new(most: (usize, usize)) -> Self {
        let entries = most.1 + ROOM;
        Self { turns: vec![Turn::default(); most.0 + 1], codes: vec![0; entries], values: vec![0.0; entries] }
    }

    /// The turns and entries that count; turns without entries only if `all`.
    ///
    /// # Safety
    /// The CPU has the instructions of `kernels`.
    ///
    /// # Panics
    /// When there are more than the lists were made for.
    pub unsafe fn filter(
        &mut self,
        kernels: &Kernels,
        changes: &Changes,
        turns: &[Turn],
        codes: &[u32],
        values: &[f32],
        all: bool,
    ) -> (&[Turn], &[u32], &[f32]) {
        assert!(codes.len() == values.len() && codes.len() + ROOM <= self.codes.len(), "a unit that is too large");
        let (mut kept_turns, mut kept, mut first) = (0, 0, 0);
        for turn in turns {
            let range = first..first + turn.entries as usize;
            first = range.end;
            let (to_codes, to_values) = (self.codes[kept..].as_mut_ptr(), self.values[kept..].as_mut_ptr());
            // SAFETY: kept entries are no more than the entries so far, so those of this turn fit, and `ROOM` more by the line above.
            let entries =
                unsafe { (kernels.keep)(changes, &codes[range.clone()], &values[range], to_codes, to_values) };
            kept += entries;
            self.turns[kept_turns] = Turn { output: turn.output, entries: entries as u32 };
            kept_turns += usize::from(all || entries > 0);
        }
        (&self.turns[..kept_turns], &self.codes[..kept], &self.values[..kept])
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
    use crate::Isa;

    #[test]
    fn entries_of_taps_outside_are_left_out_and_the_others_moved() {
        for isa in Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here()) {
            let codes = [0b100, 0b1001, 0b1100];
            let turns = [Turn { output: 5, entries: 2 }, Turn { output: 3, entries: 1 }];
            let changes = Changes::new(2, [None, Some(0u32.wrapping_sub(0b100))].into_iter());
            let mut lists = Lists::new((2, 3));
            let mut seen = |all| {
                // SAFETY: the CPU was asked above.
                let (turns, codes, values) = unsafe {
                    lists.filter(&super::super::kernels_of(isa), &changes, &turns, &codes, &[1.0, 2.0, 3.0], all)
                };
                let turns: Vec<_> = turns.iter().map(|turn| (turn.output, turn.entries)).collect();
                (turns, codes.to_vec(), values.to_vec())
            };
            assert_eq!(seen(true), (vec![(5, 1), (3, 0)], vec![0b101], vec![2.0]));
            assert_eq!(seen(false), (vec![(5, 1)], vec![0b101], vec![2.0]));
        }
    }
}

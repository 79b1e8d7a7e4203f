//! Work that the threads of a team take piece by piece.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::team::Team;

/// Runs `each(task)` once for every task in `0..count`, on whichever thread is free.
///
/// Results must not depend on who runs a task, nor on the order.
pub(crate) fn tasks(team: &Team, count: usize, each: impl Fn(usize) + Sync) {
    if team.threads() == 1 || count <= 1 {
        return (0..count).for_each(each);
    }
    let next = AtomicUsize::new(0);
    team.run(&|_| {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= count {
                return;
            }
            each(task);
        }
    });
}

/// A slice that several tasks write, each its own part of it.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a `&mut [f32]`, which is `Send`; who makes parts of it promises that they do not overlap.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// Where element `at` is; `at` may be the end.
    ///
    /// # Panics
    /// When `at` lies beyond the end.
    pub fn at(self, at: usize) -> *mut f32 {
        assert!(at <= self.len, "element {at} of {}", self.len);
        self.start.wrapping_add(at)
    }

    /// The elements `from .. from + len`.
    ///
    /// # Safety
    /// No other thread uses them while the result lives.
    ///
    /// # Panics
    /// When they are not all there.
    pub unsafe fn part(self, from: usize, len: usize) -> &'a mut [f32] {
        assert!(from + len <= self.len, "elements {from}..{} of {}", from + len, self.len);
        // SAFETY: in bounds, and nobody else's by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

/// Runs `each` once on every part, on whichever thread is free.
///
/// Results must not depend on who runs a part, nor on the order.
///
/// # Panics
/// When `each` does.
pub fn for_each<T: Send>(team: &Team, parts: Vec<T>, each: impl Fn(T) + Sync) {
    let parts: Vec<Mutex<Option<T>>> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    tasks(team, parts.len(), |task| {
        let part = parts[task].lock().unwrap_or_else(PoisonError::into_inner).take();
        part.into_iter().for_each(&each);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_on_any_number_of_threads() {
        for threads in 1..4 {
            let team = Team::new(threads, false).unwrap();
            let mut values = vec![1u32; 1000];
            for_each(&team, values.chunks_mut(7).collect(), |part| part.iter_mut().for_each(|v| *v += 1));
            assert!(values.iter().all(|v| *v == 2));
            for_each(&team, Vec::<u32>::new(), |_| unreachable!("there is no part"));
        }
    }
}

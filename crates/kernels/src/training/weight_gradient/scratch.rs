//! Memory that a task needs while it runs, made when a thread first needs it and kept.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crate::gemv::Lines;

/// Sums that no task uses at the moment, of whichever layer: as many as ran at once, each as long as the longest so far.
static IDLE: Mutex<Vec<Lines<f32>>> = Mutex::new(Vec::new());

/// Room for the sums of a task, on a cache line; given back when it is dropped. What it holds is what the last one left there.
#[derive(Debug)]
pub(super) struct Sums {
    lines: Lines<f32>,
    len: usize,
}

impl Sums {
    /// Room for `len` numbers.
    pub fn take(len: usize) -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop().filter(|lines| lines.len() >= len);
        Self { lines: idle.unwrap_or_else(|| Lines::zeros(len)), len }
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.lines.as_mut_slice()[..self.len]
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        let lines = std::mem::replace(&mut self.lines, Lines::zeros(0));
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
    }
}

/// As many `T` as threads ran at once so far, one per core at most; who finds all of them taken waits.
pub(super) struct Pool<T> {
    places: Vec<Mutex<Option<T>>>,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

/// One that nobody else uses.
pub(super) struct Taken<'a, T>(MutexGuard<'a, Option<T>>);

impl<T> Pool<T> {
    /// Room for one per core, but no more than there are tasks.
    pub fn new(tasks: usize, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { places: (0..cores.min(tasks).max(1)).map(|_| Mutex::new(None)).collect(), make: Box::new(make) }
    }

    /// One that nobody uses, one that was used before if there is one. What it holds is what the last one left there.
    pub fn take(&self) -> Taken<'_, T> {
        let free = self.places.iter().find_map(|place| match place.try_lock() {
            Ok(free) => Some(free),
            Err(TryLockError::Poisoned(free)) => Some(free.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        let mut place = free.unwrap_or_else(|| self.places[0].lock().unwrap_or_else(PoisonError::into_inner));
        place.get_or_insert_with(&self.make);
        Taken(place)
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("made when it was taken")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("made when it was taken")
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} places)", self.places.len())
    }
}

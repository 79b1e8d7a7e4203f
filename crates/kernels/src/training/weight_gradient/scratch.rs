//! Memory that a task needs while it runs, made once, one for every core.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

/// As many `T` as threads can run at once; who finds all of them taken waits.
#[derive(Debug)]
pub(super) struct Pool<T>(Vec<Mutex<T>>);

impl<T> Pool<T> {
    /// One for every core, but no more than there are tasks.
    pub fn new(tasks: usize, make: impl Fn() -> T) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self((0..cores.min(tasks).max(1)).map(|_| Mutex::new(make())).collect())
    }

    /// One that nobody uses. What it holds is what the last one left there.
    pub fn take(&self) -> MutexGuard<'_, T> {
        for one in &self.0 {
            match one.try_lock() {
                Ok(free) => return free,
                Err(TryLockError::Poisoned(free)) => return free.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.0[0].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

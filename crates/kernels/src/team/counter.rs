//! A counter that threads wait on: first spinning, then giving way to other threads, then asleep.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread waits awake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Spins for about this long, without a system call;
    pub spin: Duration,
    /// then lets other threads run this often;
    pub yields: u32,
    // then it sleeps.
}

/// Looks at the clock only once in so many spins.
const SPINS_PER_LOOK: u32 = 64;

/// Alone on its cache lines (two, as processors fetch them in pairs), so that waiting for it disturbs nothing else.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter {
    value: AtomicU64,
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

impl Counter {
    /// Adds 1 and returns the sum. What this thread wrote before is seen by a thread that has waited for the sum.
    /// Wakes nobody: [`Counter::wake`] does, and the thread whose step ends a wait must call it.
    pub fn add_one(&self) -> u64 {
        self.value.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Sets `bits` and wakes everyone.
    pub fn set_bits(&self, bits: u64) {
        self.value.fetch_or(bits, Ordering::SeqCst);
        self.wake();
    }

    /// Back to 0; nobody may be waiting.
    pub fn reset(&self) {
        self.value.store(0, Ordering::SeqCst);
    }

    /// Wakes all threads that fell asleep in [`Counter::wait`].
    ///
    /// Who sleeps is never missed: a sleeper first counts itself, then looks at the value, holding the lock until it is asleep; the
    /// other side first changes the value, then looks at the count. All four are sequentially consistent, so one sees the other.
    pub fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.wake.notify_all();
        }
    }

    /// Waits until `ready` holds and returns the value that it holds for.
    pub fn wait(&self, patience: Patience, ready: impl Fn(u64) -> bool) -> u64 {
        let mut begin = None;
        loop {
            for _ in 0..SPINS_PER_LOOK {
                let value = self.value.load(Ordering::Acquire);
                if ready(value) {
                    return value;
                }
                spin_loop();
            }
            if begin.get_or_insert_with(Instant::now).elapsed() >= patience.spin {
                break;
            }
        }
        for _ in 0..patience.yields {
            std::thread::yield_now();
            let value = self.value.load(Ordering::Acquire);
            if ready(value) {
                return value;
            }
        }
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let value = loop {
            let value = self.value.load(Ordering::SeqCst);
            if ready(value) {
                break value;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        value
    }

    /// The lock guards no data, so a panic while it was held breaks nothing.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_sees_the_step_whether_it_spins_or_sleeps() {
        for patience in
            [Patience { spin: Duration::from_secs(60), yields: 0 }, Patience { spin: Duration::ZERO, yields: 0 }]
        {
            let counter = Counter::default();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| counter.wait(patience, |value| value >= 2));
                std::thread::sleep(Duration::from_millis(2));
                for expected in [1, 2] {
                    assert_eq!(counter.add_one(), expected);
                    counter.wake();
                }
                assert_eq!(waiter.join().expect("no panic"), 2);
            });
        }
    }
}

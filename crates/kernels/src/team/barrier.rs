//! The point in a job that all threads reach before any goes on.

use std::time::Duration;

use super::counter::{Counter, Patience};

/// Added to the count when a thread will never arrive; every count with it is above every target without it.
const BROKEN: u64 = 1 << 63;

/// The threads of a layer rarely differ by more than this; longer waits mean that one lost its core to another process.
const SPIN: Duration = Duration::from_micros(100);
/// Where more threads than cores wait for each other, giving way once or twice is enough and cheaper than sleep. More often is
/// harmful: beside other processes every time costs their whole time slice, while a thread woken from sleep soon has its turn.
const YIELDS: u32 = 2;

/// What a thread panics with that waited for one that panicked; never shown to the caller of a team.
pub(super) struct Broken;

/// Lets `threads` threads wait for each other, any number of times; costs one cache line going forth and back.
///
/// Waiting spins for about a tenth of a millisecond, then yields, then sleeps.
#[derive(Debug)]
pub struct Barrier {
    arrived: Counter,
    threads: u64,
    patience: Patience,
}

impl Barrier {
    /// A barrier of `threads` threads, at least 1.
    pub fn new(threads: usize) -> Self {
        let spin = if oversubscribed(threads) { Duration::ZERO } else { SPIN };
        Self {
            arrived: Counter::default(),
            threads: threads.max(1) as u64,
            patience: Patience { spin, yields: YIELDS },
        }
    }

    /// Returns once every thread is here. What any of them wrote before is seen by all of them after.
    ///
    /// # Panics
    /// When another thread cannot come, because its part of the job panicked.
    pub fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let arrived = self.arrived.add_one();
        // a thread that comes when all is broken up must not wait for a count beyond that
        let target = (arrived & !BROKEN).next_multiple_of(self.threads);
        if arrived == target {
            return self.arrived.wake();
        }
        if self.arrived.wait(self.patience, |value| value >= target) >= BROKEN {
            std::panic::resume_unwind(Box::new(Broken));
        }
    }

    /// How long its threads wait awake.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Ends all waiting, now and later, with a panic.
    pub(super) fn break_up(&self) {
        self.arrived.set_bits(BROKEN);
    }

    /// As new; no thread may be waiting.
    pub(super) fn reset(&self) {
        self.arrived.reset();
    }
}

/// Whether `threads` threads cannot all run at once, so that spinning would take the time of the thread that is waited for.
pub(super) fn oversubscribed(threads: usize) -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| threads > cores.get())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn nobody_passes_before_all_have_arrived() {
        for threads in [1, 2, 3, 5] {
            let (barrier, arrived) = (Barrier::new(threads), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for round in 1..=500 {
                            arrived.fetch_add(1, Ordering::Relaxed);
                            barrier.wait();
                            assert!(arrived.load(Ordering::Relaxed) >= round * threads);
                        }
                    });
                }
            });
            assert_eq!(arrived.into_inner(), 500 * threads);
        }
    }

    #[test]
    fn nobody_waits_for_a_thread_that_panicked_before() {
        for threads in [2, 3] {
            let barrier = Barrier::new(threads);
            barrier.break_up();
            let wait = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| barrier.wait()));
            assert!((1..threads).all(|_| wait().is_err_and(|payload| payload.is::<Broken>())));
        }
    }
}

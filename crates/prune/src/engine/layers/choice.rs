//! Which of two ways that give the same bits is faster here.

use std::time::{Duration, Instant};

/// Runs of each way before the choice stands.
const TRIALS: usize = 3;

/// Tries both in turns, then stays with the faster one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    runs: usize,
    /// The fastest run of each way.
    best: [Option<Duration>; 2],
}

impl Choice {
    /// Whether the second way is the faster one, once both were tried.
    pub fn settled(&self) -> Option<bool> {
        (self.runs >= 2 * TRIALS).then(|| self.best[1] < self.best[0])
    }

    /// Runs `work` one way; it is told whether that is the second one.
    pub fn run(&mut self, work: impl FnOnce(bool)) {
        if let Some(way) = self.settled() {
            return work(way);
        }
        let way = 1 - self.runs % 2;
        let start = Instant::now();
        work(way == 1);
        let passed = start.elapsed();
        self.best[way] = Some(self.best[way].map_or(passed, |best| best.min(passed)));
        self.runs += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_taken_after_the_trials() {
        for slow in [false, true] {
            let mut choice = Choice::default();
            assert_eq!(choice.settled(), None);
            let mut taken = Vec::new();
            for _ in 0..2 * TRIALS + 4 {
                choice.run(|way| {
                    taken.push(way);
                    if way == slow {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                });
            }
            assert_eq!(choice.settled(), Some(!slow));
            assert_eq!(taken[..2 * TRIALS].iter().filter(|way| **way).count(), TRIALS);
            assert!(taken[2 * TRIALS..].iter().all(|way| *way != slow), "{taken:?}");
        }
    }
}

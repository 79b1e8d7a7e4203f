//! Where the time of training goes.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use sentei_report::record::ProfileRow;

/// What a part of a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// The output.
    Forward,
    /// The gradient of the input; for layers without weights, all gradients.
    InputGradient,
    /// The gradient of the weights.
    WeightGradient,
}

/// Runs, their time in all, and the kernel that ran last.
type Spent = (u64, Duration, &'static str);

/// Collects times, one row per layer and part.
#[derive(Debug, Default)]
pub(super) struct Profile {
    rows: RefCell<Vec<[Spent; 3]>>,
}

impl Profile {
    /// For so many layers.
    pub fn new(layers: usize) -> Self {
        Profile { rows: RefCell::new(vec![[(0, Duration::ZERO, ""); 3]; layers]) }
    }

    /// Runs `work` as `part` of layer `row`.
    pub fn time<T>(&self, row: usize, part: Part, kernel: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let slot = &mut self.rows.borrow_mut()[row][part as usize];
        *slot = (slot.0 + 1, slot.1 + start.elapsed(), kernel);
        done
    }

    /// Everything that ran, layers in order, under their names and ops.
    pub fn rows<'a>(&self, layers: impl Iterator<Item = (&'a str, String)>) -> Vec<ProfileRow> {
        let mut found = Vec::new();
        for ((layer, op), times) in layers.zip(self.rows.borrow().iter()) {
            let parts = ["forward", "input gradient", "weight gradient"].into_iter().zip(*times);
            for (part, (runs, time, kernel)) in parts.filter(|(_, (runs, ..))| *runs > 0) {
                let (layer, part, kernel) = (layer.into(), part.into(), kernel.into());
                found.push(ProfileRow { layer, op: op.clone(), part, kernel, runs, seconds: time.as_secs_f64() });
            }
        }
        found
    }
}

//! Latency of several models side by side in one process.
//!
//! The first run, the warm-up and the steady samples are kept apart. Every round measures each model once, every other
//! round in the opposite order, so that a clock that drifts hits all of them alike. Before a measured run the model
//! runs once unmeasured: it finds its own weights in the caches, not those of the model before it.

use std::time::{Duration, Instant};

use sentei_report::record::Latency;

use crate::engine::{Engine, HostTensor, LoadOptions, Session};
use crate::error::RuntimeError;

/// One model in a measurement.
pub struct Contender<'a> {
    /// Name in the results.
    pub name: String,
    /// Loaded model that has not run yet, or its first run says nothing.
    pub session: &'a mut dyn Session,
    /// What it runs on.
    pub inputs: &'a [HostTensor],
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct LatencyPlan {
    /// Rounds after the first run that are not kept.
    pub warmup: u32,
    /// Rounds that are measured whatever they take.
    pub min_rounds: usize,
    /// Rounds at which measuring ends.
    pub max_rounds: usize,
    /// Time after which no further round above `min_rounds` begins.
    pub time_budget: Duration,
}

impl Default for LatencyPlan {
    /// 3 warm-up rounds, then 100 rounds at least and 1000 at most, for 5 seconds.
    fn default() -> Self {
        Self { warmup: 3, min_rounds: 100, max_rounds: 1000, time_budget: Duration::from_secs(5) }
    }
}

/// What was measured of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Name of the contender.
    pub name: String,
    /// Duration of its very first run, in nanoseconds.
    pub first_ns: u64,
    /// Steady samples; sample `i` of every contender was taken in round `i`.
    pub latency: Latency,
}

/// Runs the contenders in interleaved rounds.
///
/// # Errors
/// The first error of any run.
pub fn measure_latency(contenders: &mut [Contender<'_>], plan: &LatencyPlan) -> Result<Vec<Timing>, RuntimeError> {
    let mut timings = Vec::with_capacity(contenders.len());
    for contender in contenders.iter_mut() {
        let first_ns = run_once(contender)?;
        let latency = Latency { warmup: plan.warmup, samples_ns: Vec::new() };
        timings.push(Timing { name: contender.name.clone(), first_ns, latency });
    }
    for _ in 0..plan.warmup {
        for contender in contenders.iter_mut() {
            run_once(contender)?;
        }
    }
    let started = Instant::now();
    for round in 0..plan.max_rounds.max(plan.min_rounds) {
        if round >= plan.min_rounds && started.elapsed() >= plan.time_budget {
            break;
        }
        let count = contenders.len();
        for turn in 0..count {
            let index = if round % 2 == 0 { turn } else { count - 1 - turn };
            run_once(&mut contenders[index])?;
            let nanoseconds = run_once(&mut contenders[index])?;
            timings[index].latency.samples_ns.push(nanoseconds);
        }
    }
    Ok(timings)
}

fn run_once(contender: &mut Contender<'_>) -> Result<u64, RuntimeError> {
    let started = Instant::now();
    let outputs = contender.session.run(contender.inputs)?;
    let elapsed = started.elapsed();
    drop(outputs);
    Ok(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// Loads a model and says how long that took, in nanoseconds.
///
/// # Errors
/// As [`Engine::load`].
pub fn timed_load(
    engine: &dyn Engine,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<(Box<dyn Session>, u64), RuntimeError> {
    let started = Instant::now();
    let session = engine.load(bytes, options)?;
    Ok((session, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::engine::{Facts, NodeTime, TensorFact};

    /// Writes its name into a shared log at every run.
    struct Logged(char, Rc<RefCell<String>>, Facts);

    impl Session for Logged {
        fn inputs(&self) -> &[TensorFact] {
            &[]
        }
        fn outputs(&self) -> &[TensorFact] {
            &[]
        }
        fn run(&mut self, _: &[HostTensor]) -> Result<Vec<HostTensor>, RuntimeError> {
            self.1.borrow_mut().push(self.0);
            Ok(vec![])
        }
        fn facts(&self) -> &Facts {
            &self.2
        }
        fn profile(&mut self, _: &[HostTensor], _: usize) -> Result<Vec<NodeTime>, RuntimeError> {
            Ok(vec![])
        }
    }

    fn measure(plan: &LatencyPlan) -> (String, Vec<Timing>) {
        let log = Rc::new(RefCell::new(String::new()));
        let mut sessions = ['a', 'b', 'c'].map(|name| Logged(name, Rc::clone(&log), Facts::default()));
        let mut contenders: Vec<Contender<'_>> = sessions
            .iter_mut()
            .map(|session| Contender { name: session.0.to_string(), session, inputs: &[] })
            .collect();
        let timings = measure_latency(&mut contenders, plan).unwrap();
        let log = log.borrow().clone();
        (log, timings)
    }

    #[test]
    fn rounds_alternate_their_order_after_first_run_and_warm_up() {
        let plan = LatencyPlan { warmup: 1, min_rounds: 3, max_rounds: 3, time_budget: Duration::ZERO };
        let (log, timings) = measure(&plan);
        assert_eq!(log, "abc abc aabbcc ccbbaa aabbcc".replace(' ', ""));
        assert!(timings.iter().all(|timing| timing.latency.samples_ns.len() == 3 && timing.latency.warmup == 1));
        assert_eq!(timings[1].name, "b");
    }

    #[test]
    fn the_time_budget_ends_the_rounds_but_not_below_the_minimum() {
        let plan = LatencyPlan { warmup: 0, min_rounds: 5, max_rounds: 1_000_000, time_budget: Duration::ZERO };
        assert_eq!(measure(&plan).1[0].latency.samples_ns.len(), 5);
    }
}

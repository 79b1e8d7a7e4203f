//! A run of layers on one arena: no tensors, no allocation and no conversion between them, one wait per layer.
//!
//! A [`RegionBuilder`] collects layers and how they hang together; [`RegionBuilder::build`] decides once where every value lies, who
//! computes which units and when workers wait for each other; [`Region::run`] does it for one image.
//!
//! Memory is reused as soon as nothing needs a value any more, by several workers so that each overwrites what it wrote itself; a
//! concatenation is where its parts are written; element-wise layers run in place. Inputs and outputs without gaps are used where the caller has them, if they are aligned for this CPU's vectors.

mod arena;
mod builder;
mod exec;
mod lines;
mod plan;

pub use builder::{RegionBuilder, Step, ValueId};

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Isa;
use crate::team::Team;
use exec::{Places, Run};
use lines::Lines;
use plan::Plan;

/// Consecutive layers of a model, ready to run.
#[derive(Debug)]
pub struct Region {
    plan: Plan,
    places: Places,
    arena: Lines,
    scratch: Lines,
    /// Bytes that slices of the caller must be aligned to, to be used where they are.
    alignment: usize,
}

impl Region {
    fn new(plan: Plan) -> Self {
        let alignment = match Isa::best() {
            Isa::Avx512 => 64,
            Isa::Avx2 => 32,
            Isa::Neon => 16,
            Isa::Neon32 | Isa::Scalar => 4,
        };
        Self {
            places: Places::new(&plan),
            arena: Lines::new(plan.arena),
            scratch: Lines::new(plan.threads * plan.scratch),
            plan,
            alignment,
        }
    }

    /// Computes all outputs for one image; allocates nothing. The bits do not depend on the number of threads.
    ///
    /// * `inputs`, `outputs`: one slice each, in the order they were made, `channels * height * width` elements without gaps.
    /// * `team`: of as many threads as the region was built for; any, if that is one.
    ///
    /// # Panics
    /// When a slice has the wrong length or the team the wrong size, or a layer panics.
    pub fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], team: &Team) {
        let threads = self.plan.threads;
        let run = self.begin(inputs, outputs, team);
        // SAFETY: `each_worker` calls it once per worker, and `sync` waits for all of these.
        each_worker(threads, team, &|worker, wait| unsafe { run.work(worker, wait, false, |_| ()) });
    }

    /// Time of every step: the median over `rounds` runs (at least 1), all workers waiting for each other after every step.
    ///
    /// # Panics
    /// As [`Region::run`].
    pub fn profile(
        &mut self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        team: &Team,
        rounds: usize,
    ) -> Vec<Duration> {
        let (threads, steps) = (self.plan.threads, self.plan.steps.len());
        let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(rounds); steps];
        let reached = Mutex::new(Vec::with_capacity(steps + 1));
        for _ in 0..rounds.max(1) {
            let run = self.begin(inputs, outputs, team);
            each_worker(threads, team, &|worker, wait| {
                let note = |_| {
                    if worker == 0 {
                        reached.lock().expect("only this worker").push(Instant::now());
                    }
                };
                // SAFETY: as in `run`.
                unsafe { run.work(worker, wait, true, note) }
            });
            let mut reached = reached.lock().expect("the run is over");
            for (times, pair) in times.iter_mut().zip(reached.windows(2)) {
                times.push(pair[1] - pair[0]);
            }
            reached.clear();
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        times.into_iter().map(median).collect()
    }

    fn begin<'a>(&'a mut self, inputs: &'a [&'a [f32]], outputs: &'a mut [&mut [f32]], team: &Team) -> Run<'a> {
        let threads = self.plan.threads;
        assert!(threads == 1 || threads == team.threads(), "{} workers for {threads} shares", team.threads());
        let memory = [self.arena.as_mut_slice(), self.scratch.as_mut_slice()];
        Run::new(&self.plan, &mut self.places, memory, inputs, outputs, self.alignment)
    }

    /// The layers, in the order of running.
    pub fn steps(&self) -> &[Step] {
        &self.plan.steps
    }

    /// Workers that the region was planned for.
    pub fn threads(&self) -> usize {
        self.plan.threads
    }

    /// How often workers wait for each other within one run, copies of inputs and outputs aside.
    pub fn waits(&self) -> usize {
        self.plan.turns.iter().filter(|turn| turn.wait).count()
    }

    /// Whether the result of step `step` takes the place of its input.
    ///
    /// # Panics
    /// When there is no such step.
    pub fn is_in_place(&self, step: usize) -> bool {
        self.plan.turns[step].in_place
    }

    /// Bytes of all values together, each byte counted once however many share it.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len() * size_of::<f32>()
    }

    /// Bytes of scratch memory of all workers.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.len() * size_of::<f32>()
    }

    /// Bytes of weights of all layers.
    pub fn weight_bytes(&self) -> usize {
        self.plan.steps.iter().map(|step| step.layer.weight_bytes()).sum()
    }
}

/// Runs `job(worker, wait)` for every worker.
fn each_worker(threads: usize, team: &Team, job: &(dyn Fn(usize, &dyn Fn()) + Sync)) {
    if threads == 1 {
        return job(0, &|| ());
    }
    team.run(&|worker| job(worker, &|| team.sync()));
}

#[cfg(test)]
mod tests;

//! A few threads that run one job together, over and over.
//!
//! The caller is one of them. Between jobs the others spin for a moment, so that the next inference finds them awake, then sleep.

mod affinity;
mod barrier;
mod counter;
mod share;

pub use barrier::Barrier;
pub use share::{balance, share};

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use affinity::Mask;
use barrier::Broken;
use counter::{Counter, Patience};

/// How long a worker without a job stays awake: a loop of inferences with a little work in between never waits for a sleeping
/// thread (tens of microseconds), and a camera at 50 images per second costs 1 % of a core.
const IDLE_SPIN: Duration = Duration::from_micros(200);
/// Then the core is offered to others this often before the worker sleeps.
const IDLE_YIELDS: u32 = 1;

/// Threads that run jobs together. With one thread it is the caller alone: nothing is started, locked or waited for.
pub struct Team {
    threads: usize,
    /// `None` for a team of one.
    others: Option<Others>,
}

struct Others {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Whose turn it is to call: one job at a time.
    turn: Mutex<Turn>,
    pin: bool,
}

#[derive(Default)]
struct Turn {
    /// How often workers have finished a job, in all.
    finished: u64,
    /// The caller that was tied to a core last, and where it ran before.
    tied: Option<(ThreadId, Mask)>,
}

type Job = dyn Fn(usize) + Sync;

struct Shared {
    /// Counts jobs; its steps start the workers.
    started: Counter,
    /// Counts workers that have finished one.
    finished: Counter,
    barrier: Barrier,
    /// The job of the latest step of `started`; written by the caller while all workers wait for that step.
    job: UnsafeCell<Option<*const Job>>,
    /// No more jobs; the workers end.
    closed: AtomicBool,
    /// What the first worker panicked with.
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
    idle: Patience,
}

// SAFETY: all fields but `job` are `Send` and `Sync` by themselves. `job` is written only by the one caller whose turn it is, while
// every worker waits for the next step of `started`, and read by workers only after they have seen that step and before they step
// `finished`, which the caller waits for. What it points to is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

thread_local! {
    /// Whether this thread is running a job of some team.
    static IN_A_JOB: Cell<bool> = const { Cell::new(false) };
}

impl Team {
    /// Starts `threads - 1` threads; 0 counts as 1.
    ///
    /// * `pin`: tie every worker to a core of its own, among those that this process may use. A thread that calls [`Team::run`]
    ///   is tied as well, until the team is dropped on it; threads it starts meanwhile inherit that core. Where there are fewer
    ///   cores than threads, or the system is not Linux, nothing is tied.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize, pin: bool) -> io::Result<Self> {
        let threads = threads.max(1);
        if threads == 1 {
            return Ok(Self { threads, others: None });
        }
        let spin = if barrier::oversubscribed(threads) { Duration::ZERO } else { IDLE_SPIN };
        let shared = Arc::new(Shared {
            started: Counter::default(),
            finished: Counter::default(),
            barrier: Barrier::new(threads),
            job: UnsafeCell::new(None),
            closed: AtomicBool::new(false),
            panicked: Mutex::new(None),
            idle: Patience { spin, yields: IDLE_YIELDS },
        });
        let pin = pin && affinity::cores().len() >= threads;
        // A team that is dropped half-way, because a thread was refused, ends those it has.
        let mut others =
            Others { shared, handles: Vec::with_capacity(threads - 1), turn: Mutex::new(Turn::default()), pin };
        for worker in 1..threads {
            let shared = Arc::clone(&others.shared);
            let core = pin.then(|| affinity::cores()[worker]);
            let name = format!("sentei-{worker}");
            others.handles.push(thread::Builder::new().name(name).spawn(move || shared.work(worker, core))?);
        }
        Ok(Self { threads, others: Some(others) })
    }

    /// Number of workers, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job(worker)` for every worker in `0..threads()`, `job(0)` on this thread; returns when all are done.
    ///
    /// One job runs at a time; other callers wait. It allocates nothing.
    ///
    /// # Panics
    /// When a worker panics, with what it panicked with; the team stays usable. When called from within a job of a team of
    /// several threads.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        match &self.others {
            None => job(0),
            Some(others) => others.run(job),
        }
    }

    /// Waits until every worker of the running job is here; see [`Barrier::wait`]. To be called by all of them alike.
    ///
    /// # Panics
    /// When another worker panics in this job.
    pub fn sync(&self) {
        if let Some(others) = &self.others {
            others.shared.barrier.wait();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Others {
    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        assert!(!IN_A_JOB.get(), "a job of a team runs no other job");
        let mut turn = lock(&self.turn);
        self.tie_caller(&mut turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The pointer is used between here and the end of the wait for `finished` below, which no
        // path leaves before: nothing in between returns, and panics are caught.
        let lasting = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job) };
        // SAFETY: `turn` is held, and all workers have finished the job before, so they wait for the step below.
        unsafe { *shared.job.get() = Some(lasting) };
        shared.started.add_one();
        shared.started.wake();
        shared.take_part(job, 0);
        turn.finished += self.handles.len() as u64;
        let finished = turn.finished;
        shared.finished.wait(shared.barrier.patience(), |value| value == finished);
        let panicked = lock(&shared.panicked).take();
        if let Some(payload) = panicked {
            shared.barrier.reset();
            drop(turn);
            resume_unwind(payload);
        }
    }

    /// Ties the calling thread to the first core, unless it is already.
    fn tie_caller(&self, turn: &mut Turn) {
        let caller = thread::current().id();
        if !self.pin || turn.tied.is_some_and(|(tied, _)| tied == caller) {
            return;
        }
        let (before, alone) = (Mask::of_this_thread(), Mask::of(affinity::cores()[0]));
        if let (Some(before), Some(alone)) = (before, alone)
            && alone.apply()
        {
            turn.tied = Some((caller, before));
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.started.add_one();
        self.shared.started.wake();
        for handle in self.handles.drain(..) {
            // A worker catches the panics of its jobs, so it ends well.
            let _ = handle.join();
        }
        if let Some((thread, before)) = lock(&self.turn).tied
            && thread == thread::current().id()
        {
            before.apply();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn work(&self, worker: usize, core: Option<usize>) {
        if let Some(alone) = core.and_then(Mask::of) {
            alone.apply();
        }
        for step in 1.. {
            self.started.wait(self.idle, |value| value >= step);
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the step was seen and `finished` not yet stepped, so the caller left the pointer there and waits; see `Shared`.
            let job = unsafe { &*(*self.job.get()).expect("set before the step") };
            self.take_part(job, worker);
            self.finished.add_one();
            self.finished.wake();
        }
    }

    /// Runs one worker's part; a panic is kept for the caller, and nobody waits for this worker at the barrier any more.
    fn take_part(&self, job: &(dyn Fn(usize) + Sync), worker: usize) {
        IN_A_JOB.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| job(worker)));
        IN_A_JOB.set(false);
        if let Err(payload) = result {
            if !payload.is::<Broken>() {
                lock(&self.panicked).get_or_insert(payload);
            }
            self.barrier.break_up();
        }
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

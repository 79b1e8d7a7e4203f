//! A folder of numbered jobs: a plan, one result per job, and nothing that a kill could leave half done.
//!
//! | file | what |
//! |---|---|
//! | `plan.json` | everything that decides the results; has a list `jobs`, and a job's index is its place there |
//! | `results/N.json` | result of a finished job; there is one or there is none |
//! | `failed/N.txt` | why the last attempt failed |
//! | `work/N/` | checkpoints of a job in progress, gone once it is finished |
//! | `locks/*` | held (by `flock`) while a process works on something; a dead process holds nothing |
//! | `logs/N.txt` | what the job said, when it was run by `run_local` |
//!
//! Workers share the folder and nothing else. Any number of them may be given the same index: one works, the others wait
//! and find the result.

mod local;
mod lock;
mod plan;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use local::{end_with_parent, none_failed};
pub use lock::Lock;

use crate::files;

const PLAN: &str = "plan.json";

/// Most seeds of one study; more is a slip of the keyboard, and its list of jobs would not fit into memory.
const MOST_SEEDS: u64 = 1000;

/// A number of seeds on the command line.
pub fn number_of_seeds(text: &str) -> Result<u64, String> {
    let found = text.parse().ok().filter(|n| (1..=MOST_SEEDS).contains(n));
    found.ok_or_else(|| format!("expected a whole number from 1 to {MOST_SEEDS}"))
}

/// A folder of numbered jobs.
#[derive(Debug)]
pub struct JobFolder {
    path: PathBuf,
    plan: Value,
    jobs: usize,
}

/// What [`JobFolder::run_one`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The job was worked on and its result is stored.
    Now,
    /// The result was there already, perhaps because another process has just finished it.
    Before,
}

impl JobFolder {
    /// Opens `dir`, or makes it with `plan` when it holds none.
    ///
    /// * `plan`: serialises to an object with a list `jobs`; must hold all that decides a result and nothing else (no time,
    ///   no machine), since going on is only allowed with the same plan.
    ///
    /// # Errors
    /// When `dir` holds another plan, naming the first difference; when it cannot be written.
    pub fn open_or_create(dir: &Path, plan: &impl Serialize) -> Result<Self> {
        let plan = serde_json::to_value(plan).context("writing the plan")?;
        // Numbers are compared as they read back, not as they were before they were written.
        let plan: Value = serde_json::from_str(&plan.to_string()).context("reading the plan back")?;
        let locks = dir.join("locks");
        std::fs::create_dir_all(&locks)
            .with_context(|| format!("making {} (choose another with -o)", dir.display()))?;
        let _one_at_a_time = Lock::wait(&locks.join("plan"), || ())?;
        let file = dir.join(PLAN);
        if file.exists() {
            let there = Self::open(dir)?;
            if let Some(difference) = plan::difference(&there.plan, &plan) {
                bail!("{} holds another plan ({difference}): choose another folder with -o", dir.display());
            }
            return Ok(there);
        }
        let made = Self::of(dir, plan)?;
        let text = serde_json::to_string_pretty(&made.plan).context("writing the plan")? + "\n";
        files::write_atomic(&file, text.as_bytes())?;
        Ok(made)
    }

    /// Opens a folder that has a plan.
    ///
    /// # Errors
    /// When there is none or it is damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join(PLAN);
        if !file.exists() {
            bail!("{} holds no plan (no {PLAN})", dir.display());
        }
        let plan = serde_json::from_str(&files::read_text(&file)?);
        Self::of(dir, plan.with_context(|| format!("parsing {}", file.display()))?)
    }

    fn of(dir: &Path, plan: Value) -> Result<Self> {
        let Some(jobs) = plan["jobs"].as_array().map(Vec::len) else {
            bail!("the plan of {} has no list `jobs`", dir.display());
        };
        Ok(JobFolder { path: dir.to_path_buf(), plan, jobs })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of jobs in the plan.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// The plan.
    ///
    /// # Errors
    /// When the folder was planned by another verb or version.
    pub fn plan<P: DeserializeOwned>(&self) -> Result<P> {
        let plan = serde_json::from_value(self.plan.clone());
        plan.with_context(|| format!("{} is not a plan of this verb and version", self.path.join(PLAN).display()))
    }

    /// The result of a job, if it is finished.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn result<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>> {
        let file = self.result_file(index);
        if !file.exists() {
            return Ok(None);
        }
        let found = serde_json::from_str(&files::read_text(&file)?);
        found.map(Some).with_context(|| format!("parsing {} (remove it to do the job again)", file.display()))
    }

    /// Stores the result of a job in one step and forgets an earlier failure.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store<T: Serialize>(&self, index: usize, result: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(result).context("writing a result")? + "\n";
        self.write(&self.result_file(index), &text)?;
        let _ = std::fs::remove_file(self.failure_file(index));
        Ok(())
    }

    /// Why the last attempt of a job failed, if it did and the job is not finished.
    pub fn failure(&self, index: usize) -> Option<String> {
        let why = std::fs::read_to_string(self.failure_file(index)).ok()?;
        (!self.is_done(index)).then(|| why.trim_end().to_string())
    }

    /// Whether a job is finished.
    pub fn is_done(&self, index: usize) -> bool {
        self.result_file(index).exists()
    }

    /// Jobs that are not finished, failed ones included, in order.
    pub fn pending(&self) -> Vec<usize> {
        (0..self.jobs).filter(|index| !self.is_done(*index)).collect()
    }

    /// Takes a lock of the folder, waiting for whoever holds it; `waiting` is called once when there is a wait.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn lock(&self, name: &str, waiting: impl FnOnce()) -> Result<Lock> {
        let locks = self.path.join("locks");
        std::fs::create_dir_all(&locks).with_context(|| format!("making {}", locks.display()))?;
        Lock::wait(&locks.join(name), waiting)
    }

    /// Does job `index` unless it is done: under its lock, with a folder for its checkpoints that outlives a kill, its
    /// result stored in one step, its error kept for [`JobFolder::failure`].
    ///
    /// # Errors
    /// When there is no such job, and whatever `job` returns.
    pub fn run_one<T: Serialize>(
        &self,
        index: usize,
        waiting: impl FnOnce(),
        job: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<Ran> {
        if index >= self.jobs {
            bail!("{} has jobs 0 to {}, there is no {index}", self.path.display(), self.jobs.saturating_sub(1));
        }
        if self.is_done(index) {
            return Ok(Ran::Before);
        }
        let _mine = self.lock(&number(index), waiting)?;
        if self.is_done(index) {
            return Ok(Ran::Before);
        }
        let work = self.path.join("work").join(number(index));
        std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        match job(&work).and_then(|result| self.store(index, &result)) {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(&work);
                Ok(Ran::Now)
            }
            Err(error) => {
                self.store_failure(index, &format!("{error:#}"))?;
                Err(error)
            }
        }
    }

    fn store_failure(&self, index: usize, why: &str) -> Result<()> {
        self.write(&self.failure_file(index), &format!("{why}\n"))
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let folder = file.parent().expect("files of jobs lie in sub-folders");
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(files::write_atomic(file, text.as_bytes())?)
    }

    fn result_file(&self, index: usize) -> PathBuf {
        self.path.join("results").join(number(index) + ".json")
    }

    fn failure_file(&self, index: usize) -> PathBuf {
        self.path.join("failed").join(number(index) + ".txt")
    }

    fn log_file(&self, index: usize) -> PathBuf {
        self.path.join("logs").join(number(index) + ".txt")
    }
}

/// An index as it stands in file names, so that they sort.
fn number(index: usize) -> String {
    format!("{index:04}")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use serde_json::json;

    use super::*;

    fn folder(jobs: usize) -> (tempfile::TempDir, JobFolder) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let made = JobFolder::open_or_create(dir.path(), &json!({ "rate": 0.1, "jobs": vec![0; jobs] })).expect("made");
        (dir, made)
    }

    #[test]
    fn a_job_is_done_once_and_its_failure_is_remembered_until_then() {
        let (_dir, jobs) = folder(3);
        assert_eq!(jobs.pending(), [0, 1, 2]);
        let failed = jobs.run_one(
            1,
            || (),
            |work| {
                std::fs::write(work.join("checkpoint"), "half").expect("written");
                Err::<(), _>(anyhow!("disk full").context("saving"))
            },
        );
        assert!(failed.is_err());
        assert_eq!(jobs.failure(1).as_deref(), Some("saving: disk full"));
        let again = |work: &Path| Ok(std::fs::read_to_string(work.join("checkpoint"))?);
        assert_eq!(jobs.run_one(1, || (), again).expect("works"), Ran::Now);
        assert_eq!(jobs.result::<String>(1).expect("readable").as_deref(), Some("half"), "the checkpoint was kept");
        assert_eq!(jobs.run_one(1, || (), |_| -> Result<()> { panic!("done twice") }).expect("works"), Ran::Before);
        assert_eq!((jobs.pending(), jobs.failure(1)), (vec![0, 2], None));
        assert!(!jobs.path().join("work/0001").exists());
        assert!(jobs.run_one(3, || (), |_| Ok(())).expect_err("no such job").to_string().contains("0 to 2"));
    }

    #[test]
    fn two_workers_at_one_index_work_once() {
        let (_dir, jobs) = folder(1);
        let worked = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let job = |_: &Path| {
                worked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(100));
                Ok(7)
            };
            jobs.run_one(0, || (), job).expect("works")
        };
        let ran = std::thread::scope(|s| [s.spawn(work), s.spawn(work)].map(|t| t.join().expect("no panic")));
        assert!(ran.contains(&Ran::Now) && ran.contains(&Ran::Before), "{ran:?}");
        assert_eq!(worked.into_inner(), 1);
    }

    #[test]
    fn the_same_plan_goes_on_and_another_is_refused_by_its_difference() {
        let (dir, jobs) = folder(2);
        jobs.store(0, &1.5).expect("stored");
        let same = JobFolder::open_or_create(dir.path(), &json!({ "rate": 0.1, "jobs": [0, 0] })).expect("goes on");
        assert_eq!(same.pending(), [1]);
        let other = JobFolder::open_or_create(dir.path(), &json!({ "rate": 0.2, "jobs": [0, 0] })).expect_err("other");
        assert!(other.to_string().contains("`rate` is 0.1 there, 0.2 now"), "{other}");
        assert!(JobFolder::open(&dir.path().join("none")).is_err());
        assert!(JobFolder::open_or_create(&dir.path().join("x"), &json!({})).is_err(), "no list of jobs");
    }
}

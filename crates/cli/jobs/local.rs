//! Runs jobs of a folder on this machine: one process per job, so many at a time.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sentei_report::format;

use super::JobFolder;
use crate::output::Output;

/// The error of a study whose jobs `failed` failed while the others were done and reported.
///
/// # Errors
/// Unless there are none.
pub fn none_failed(failed: &[usize]) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = failed.iter().map(ToString::to_string).collect();
    bail!("{} jobs failed: {} (run the same again to try them again)", failed.len(), list.join(", "))
}

/// Set for a child that must not outlive its parent: its standard input is a pipe that nobody writes to.
const WATCH: &str = "SENTEI_END_WITH_STDIN";

/// How often children are looked at.
const LOOK: Duration = Duration::from_millis(30);

/// Ends this process when the one that started it for a job is gone, however it went.
pub fn end_with_parent() {
    if std::env::var_os(WATCH).is_some() {
        std::thread::spawn(|| {
            let mut byte = [0];
            while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
            std::process::exit(1);
        });
    }
}

struct Running {
    index: usize,
    child: Child,
    since: Instant,
}

/// Children that are killed when the list goes.
struct Children(Vec<Running>);

impl Drop for Children {
    fn drop(&mut self) {
        for running in &mut self.0 {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl JobFolder {
    /// Runs the unfinished jobs of `wanted` in order, `parallel` at a time, and returns those that failed.
    ///
    /// Each is this program again with `arguments(index)`, which must end in [`JobFolder::run_one`]. The cores are divided
    /// among them by `RAYON_NUM_THREADS`, unless the caller has set it. What a job says goes to `logs/`. A job that fails
    /// leaves the others alone; when this process ends, they end with it.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn run_local(
        &self,
        parallel: usize,
        wanted: impl IntoIterator<Item = usize>,
        arguments: impl Fn(usize) -> Vec<OsString>,
        out: Output,
    ) -> Result<Vec<usize>> {
        let parallel = parallel.max(1);
        let mut wanted = wanted.into_iter().filter(|index| !self.is_done(*index)).collect::<Vec<_>>().into_iter();
        let (total, mut ended, mut failed) = (wanted.len(), 0, Vec::new());
        let mut children = Children(Vec::new());
        loop {
            while children.0.len() < parallel
                && let Some(index) = wanted.next()
            {
                let child = self.start(index, parallel, arguments(index))?;
                children.0.push(Running { index, child, since: Instant::now() });
            }
            if children.0.is_empty() {
                return Ok(failed);
            }
            std::thread::sleep(LOOK);
            let mut place = 0;
            while place < children.0.len() {
                let running = &mut children.0[place];
                let Some(status) = running.child.try_wait().context("waiting for a job")? else {
                    place += 1;
                    continue;
                };
                let Running { index, since, .. } = children.0.swap_remove(place);
                ended += 1;
                let took = format::seconds(since.elapsed().as_secs_f64());
                if status.success() && self.is_done(index) {
                    out.note(format!("job {index} done in {took} ({ended} of {total})"));
                } else {
                    let why = self.why(index, status)?;
                    out.note(format!("job {index} failed after {took} ({ended} of {total}): {why}"));
                    failed.push(index);
                }
            }
        }
    }

    fn start(&self, index: usize, parallel: usize, arguments: Vec<OsString>) -> Result<Child> {
        let log = self.log_file(index);
        let _ = std::fs::create_dir_all(log.parent().expect("logs lie in a folder"));
        let file = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        let _ = std::fs::remove_file(self.failure_file(index));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(arguments).env(WATCH, "1").stdin(Stdio::piped());
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", (cores / parallel).max(1).to_string());
        }
        command.stdout(file.try_clone().context("writing a log")?).stderr(file);
        command.spawn().with_context(|| format!("starting job {index}"))
    }

    /// Why a job failed; one that could not say so itself is recorded here.
    fn why(&self, index: usize, status: ExitStatus) -> Result<String> {
        if let Some(why) = self.failure(index) {
            return Ok(why);
        }
        let log = std::fs::read_to_string(self.log_file(index)).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let why = format!("{status}, no result; last line of its log: {last}");
        self.store_failure(index, &why)?;
        Ok(why)
    }
}

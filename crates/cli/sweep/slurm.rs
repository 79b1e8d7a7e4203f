//! `sweep slurm`: the plan as a Slurm job array. A cluster refuses array indices from its `MaxArraySize` on, so where the
//! plan goes beyond that, each task of the array does several jobs, one after another.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bench::at_least_one;
use crate::exit::usage;
use crate::jobs::JobFolder;

/// Prints a script for `sbatch`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the plan, on a file system that all nodes share
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Jobs at a time
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    array_limit: Option<usize>,
    /// MaxArraySize of the cluster (`scontrol show config`); a plan with higher indices makes tasks of several jobs each
    #[arg(long, value_name = "N", default_value_t = 1001, value_parser = at_least_one)]
    max_array_size: usize,
    /// Time limit per task of the array, as Slurm writes it: 30, 2:00:00, 1-12
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Memory per job, as Slurm writes it: 2G
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Partition
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Cores per job; also the number of threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    cpus: usize,
    /// The sentei program on the nodes [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Runs the step.
pub fn run(args: Args) -> Result<()> {
    let folder = JobFolder::open(&args.folder)?;
    let pending = folder.pending();
    if pending.is_empty() {
        bail!("every job of {} is done: there is nothing to submit", args.folder.display());
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("finding this program (give it with --program)")?,
    };
    let path = std::path::absolute(&args.folder)?;
    std::fs::create_dir_all(path.join("logs")).with_context(|| format!("making {}", path.join("logs").display()))?;
    print!("{}", script(&args, &pending, &path, &program)?);
    Ok(())
}

fn script(args: &Args, pending: &[usize], folder: &Path, program: &Path) -> Result<String> {
    let mut text =
        String::from("#!/bin/bash\n# Submit with sbatch; submit again, written anew, for what was killed or failed.\n");
    let mut directive = |key: &str, value: &str| -> Result<()> {
        if value.is_empty() || value.contains(|c: char| c.is_control() || c == '"') {
            return usage(format!("--{key} `{value}` cannot stand in a Slurm script"));
        }
        text += &format!("#SBATCH --{key}=\"{value}\"\n");
        Ok(())
    };
    let limit = args.array_limit.map_or_else(String::new, |n| format!("%{n}"));
    directive("job-name", "sentei-sweep")?;
    // Slurm takes indices below the size.
    let fits = pending.iter().all(|index| *index < args.max_array_size);
    let tasks = pending.len().min(args.max_array_size);
    let indices = if fits { ranges(pending) } else { ranges(&(0..tasks).collect::<Vec<_>>()) };
    directive("array", &(indices + &limit))?;
    directive("cpus-per-task", &args.cpus.to_string())?;
    for (key, value) in [("time", &args.time), ("mem", &args.mem), ("partition", &args.partition)] {
        if let Some(value) = value {
            directive(key, value)?;
        }
    }
    // Slurm reads % in file names; each attempt has a log of its own.
    let logs = folder.join("logs").display().to_string().replace('%', "%%");
    directive("output", &format!("{logs}/slurm-%A-%a.txt"))?;
    text += &format!("set -eu\nexport RAYON_NUM_THREADS={}\n", args.cpus);
    let run = format!("{} sweep run {} --index", quote(program)?, quote(folder)?);
    text += &if fits { format!("exec {run} \"$SLURM_ARRAY_TASK_ID\"\n") } else { several(&run, pending, tasks) };
    Ok(text)
}

/// Task T of the array does the jobs at T, T + `tasks`, T + 2 `tasks` and so on of `pending`; one that fails does not keep
/// the others from being done, and fails the task.
///
/// * `run`: the command, up to the index.
fn several(run: &str, pending: &[usize], tasks: usize) -> String {
    let jobs: Vec<String> = pending.iter().map(ToString::to_string).collect();
    format!(
        "# Each task does up to {} jobs, one after another; its time limit is for all of them.\n\
         jobs=({})\n\
         failed=0\n\
         for ((i = SLURM_ARRAY_TASK_ID; i < ${{#jobs[@]}}; i += {tasks})); do\n  \
         {run} \"${{jobs[i]}}\" || failed=1\n\
         done\n\
         exit $failed\n",
        pending.len().div_ceil(tasks),
        jobs.join(" ")
    )
}

/// `0-3,7` for `[0, 1, 2, 3, 7]`; the numbers ascend.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(start, end): &(usize, usize)| if start == end { start.to_string() } else { format!("{start}-{end}") };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A path as one word of a shell script.
fn quote(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains('\n') => Ok(format!("'{}'", text.replace('\'', r"'\''"))),
        _ => usage(format!("the path {} cannot stand in a script", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            folder: "d".into(),
            array_limit: Some(4),
            max_array_size: 1001,
            time: Some("1-02:00:00".into()),
            mem: None,
            partition: None,
            cpus: 2,
            program: None,
        }
    }

    #[test]
    fn the_array_holds_just_what_is_left() {
        let text =
            script(&args(), &[0, 1, 2, 5, 7, 8], Path::new("/a b/it's 5%"), Path::new("/bin/sentei")).expect("written");
        for line in [
            "#SBATCH --array=\"0-2,5,7-8%4\"",
            "#SBATCH --time=\"1-02:00:00\"",
            "#SBATCH --cpus-per-task=\"2\"",
            "#SBATCH --output=\"/a b/it's 5%%/logs/slurm-%A-%a.txt\"",
            "export RAYON_NUM_THREADS=2",
            r#"exec '/bin/sentei' sweep run '/a b/it'\''s 5%' --index "$SLURM_ARRAY_TASK_ID""#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("--mem"), "{text}");
    }

    #[test]
    fn indices_that_the_cluster_refuses_become_several_jobs_per_task() {
        let written = |size: usize, pending: &[usize], program: &str| {
            let args = Args { max_array_size: size, ..args() };
            script(&args, pending, Path::new("/d"), Path::new(program)).expect("written")
        };
        let array = |text: &str| text.lines().find(|l| l.contains("--array")).map(String::from);
        let [below, at] = [[7, 1000], [7, 1001]].map(|pending| array(&written(1001, &pending, "/p")));
        assert_eq!(below.as_deref(), Some("#SBATCH --array=\"7,1000%4\""));
        assert_eq!(at.as_deref(), Some("#SBATCH --array=\"0-1%4\""), "1001 is the first index that is refused");
        let all: Vec<usize> = (0..2500).collect();
        let text = written(1001, &all, "/p");
        assert_eq!(array(&text).as_deref(), Some("#SBATCH --array=\"0-1000%4\""));
        assert!(text.contains("up to 3 jobs") && !text.contains("exec "), "{text}");

        // A program that fails at job 3 and at nothing else, in three tasks.
        let folder = tempfile::tempdir().expect("temporary folder");
        let program = folder.path().join("program");
        std::fs::write(&program, "#!/bin/bash\necho \"$5\"\n[ \"$5\" != 3 ]\n").expect("written");
        let made_runnable = std::process::Command::new("chmod").arg("+x").arg(&program).status().expect("runs");
        assert!(made_runnable.success());
        let text = written(3, &[0, 1, 3, 4, 6, 8, 9], &program.display().to_string());
        let task = |number: &str| {
            let mut bash = std::process::Command::new("bash");
            let out = bash.args(["-c", &text]).env("SLURM_ARRAY_TASK_ID", number).output().expect("runs");
            let done = String::from_utf8_lossy(&out.stdout).lines().map(String::from).collect::<Vec<_>>();
            (done.join(" "), out.status.success())
        };
        assert_eq!(task("0"), ("0 4 9".into(), true));
        assert_eq!(task("1"), ("1 6".into(), true));
        assert_eq!(task("2"), ("3 8".into(), false), "the job after the failed one is done");
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        let bad = Args { partition: Some("x\nrm -rf /".into()), ..args() };
        assert!(script(&bad, &[0], Path::new("/d"), Path::new("/p")).is_err());
        assert!(script(&args(), &[0], Path::new("/d\n/e"), Path::new("/p")).is_err());
    }
}

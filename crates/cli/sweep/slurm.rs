//! `sweep slurm`: the plan as a Slurm job array.

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
    /// Time limit per job, as Slurm writes it: 30, 2:00:00, 1-12
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
    directive("array", &(ranges(pending) + &limit))?;
    directive("cpus-per-task", &args.cpus.to_string())?;
    for (key, value) in [("time", &args.time), ("mem", &args.mem), ("partition", &args.partition)] {
        if let Some(value) = value {
            directive(key, value)?;
        }
    }
    // Slurm reads % in file names; each attempt has a log of its own.
    let logs = folder.join("logs").display().to_string().replace('%', "%%");
    directive("output", &format!("{logs}/slurm-%A-%a.txt"))?;
    text += &format!(
        "set -eu\nexport RAYON_NUM_THREADS={}\nexec {} sweep run {} --index \"$SLURM_ARRAY_TASK_ID\"\n",
        args.cpus,
        quote(program)?,
        quote(folder)?
    );
    Ok(text)
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
    fn a_value_cannot_add_a_line() {
        let bad = Args { partition: Some("x\nrm -rf /".into()), ..args() };
        assert!(script(&bad, &[0], Path::new("/d"), Path::new("/p")).is_err());
        assert!(script(&args(), &[0], Path::new("/d\n/e"), Path::new("/p")).is_err());
    }
}

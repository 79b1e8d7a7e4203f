//! `sweep local`: all unfinished jobs on this machine, one process each.

use std::path::PathBuf;

use anyhow::Result;

use super::collect::{self, View};
use crate::bench::at_least_one;
use crate::jobs::{JobFolder, none_failed};
use crate::output::Output;

/// Runs a plan here.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the plan
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Jobs at a time; the cores are divided among them
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    jobs: usize,
    #[command(flatten)]
    view: View,
}

/// Runs the step.
///
/// # Errors
/// When jobs failed; the others were done and collected.
pub fn run(args: Args, out: Output) -> Result<()> {
    let folder = JobFolder::open(&args.folder)?;
    let path = std::path::absolute(&args.folder)?;
    let job = |index: usize| {
        let index = format!("--index={index}");
        ["sweep", "run"].map(Into::into).into_iter().chain([path.clone().into(), index.into()]).collect()
    };
    let failed = folder.run_local(args.jobs, folder.pending(), job, out)?;
    collect::run(collect::Args { folder: args.folder, view: args.view, output: None }, out)?;
    none_failed(&failed)
}

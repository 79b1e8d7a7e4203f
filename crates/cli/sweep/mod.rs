//! `sentei sweep`: methods x sparsities x seeds on one recipe, as numbered jobs in a shared folder.
//!
//! The contract, whoever schedules: `sweep run DIR --index I` for every I below the number of jobs, in any order, as often
//! as wanted, several at once. A finished job is left alone; a killed one goes on from its last epoch. The dense network
//! that trained-start methods begin with is trained by whichever job of its seed comes first, the others wait for it.

mod collect;
mod k8s;
mod local;
mod plan;
mod run;
mod slurm;

use anyhow::Result;

use crate::output::Output;

/// Compares methods over sparsities and seeds: plan the jobs, run them anywhere, collect one table and one plot.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(clap::Subcommand)]
enum Step {
    /// Write the numbered list of jobs, and say what they will cost
    Plan(Box<plan::Args>),
    /// Do one job of a plan; a finished one is left alone, a killed one goes on
    Run(run::Args),
    /// One table and one plot from whatever is done
    Collect(collect::Args),
    /// Do all unfinished jobs on this machine, then collect
    Local(local::Args),
    /// Print a Slurm job array script that does the unfinished jobs
    Slurm(slurm::Args),
    /// Print a Kubernetes Indexed Job manifest (JSON, for `kubectl apply -f`) that does the jobs
    K8s(k8s::Args),
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    match args.step {
        Step::Plan(args) => plan::run(*args, out),
        Step::Run(args) => run::run(args, out),
        Step::Collect(args) => collect::run(args, out),
        Step::Local(args) => local::run(args, out),
        Step::Slurm(args) => slurm::run(args),
        Step::K8s(args) => k8s::run(args),
    }
}

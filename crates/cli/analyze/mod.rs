//! `sentei analyze`: how far can this be pruned, and where. One file per question.

mod init;
mod layers;
mod limit;
mod sensitivity;
mod signs;

use anyhow::Result;

use crate::output::Output;

/// Questions to ask before pruning.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(clap::Subcommand)]
enum Question {
    /// What each residual block is worth, and which can be removed whole (SR-init, Tang et al. 2023)
    Layers(layers::Args),
    /// Whether masks found before training are worth more than their layer densities: every method against its shuffled
    /// mask, fresh weights and its ranking reversed (Frankle et al. 2021)
    Init(Box<init::Args>),
    /// Accuracy when each layer alone is pruned, without retraining (Han et al. 2015, figure 6)
    Sensitivity(sensitivity::Args),
    /// Whether a sparse network owes its accuracy to signs or to magnitudes, and what Sign-In adds (Gadhikar et al. 2025)
    Signs(signs::Args),
    /// How sparse a trained network can get: predicted from curvature and weight sizes, and measured (Zhang et al. 2024)
    Limit(limit::Args),
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    match args.question {
        Question::Layers(args) => layers::run(args, out),
        Question::Init(args) => init::run(*args, out),
        Question::Sensitivity(args) => sensitivity::run(args, out),
        Question::Signs(args) => signs::run(args, out),
        Question::Limit(args) => limit::run(args, out),
    }
}

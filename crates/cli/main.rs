//! The `sentei` program: one file per verb, none of them knows an algorithm.

mod data_recipe;
mod exit;
mod files;
mod lineage;
mod measure;
mod npy;
mod ort_args;
mod output;

mod bench;
mod board;
mod build;
mod doctor;
mod report;
mod run;
mod verify;

#[cfg(feature = "prune")]
mod analyze;
#[cfg(feature = "prune")]
mod blocks;
#[cfg(feature = "prune")]
mod compile;
#[cfg(feature = "prune")]
mod data_args;
#[cfg(feature = "prune")]
mod inspect;
#[cfg(feature = "prune")]
mod jobs;
#[cfg(feature = "prune")]
mod method_args;
#[cfg(feature = "prune")]
mod models;
#[cfg(feature = "prune")]
mod parents;
#[cfg(feature = "prune")]
mod progress;
#[cfg(feature = "prune")]
mod prune;
#[cfg(feature = "prune")]
mod prune_blocks;
#[cfg(feature = "prune")]
mod recipe;
#[cfg(feature = "prune")]
mod record;
#[cfg(feature = "prune")]
mod run_folder;
#[cfg(feature = "prune")]
mod shipped;
#[cfg(feature = "prune")]
mod shrink;
#[cfg(feature = "prune")]
mod study;
#[cfg(feature = "prune")]
mod sweep;
#[cfg(feature = "prune")]
mod train;
#[cfg(feature = "prune")]
mod trainer;
#[cfg(feature = "prune")]
mod training;

#[cfg(not(feature = "prune"))]
mod absent;
#[cfg(not(feature = "prune"))]
use absent::{analyze, compile, inspect, prune, shrink, sweep, train};

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::output::Output;

/// Counts live heap bytes so that `bench` can report the peak.
#[global_allocator]
static HEAP: measure::Heap = measure::HEAP;

/// sentei (剪定, "pruning") trains or imports an inspection network, prunes and retrains it, compiles it to a small
/// ONNX file, runs it fast, and proves what that saves and what it costs.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "Start here:\n  sentei shrink                          the whole flow on an embedded inspection set\n  \
                  sentei shrink --data my_images/        the same on a folder with one sub-folder per class\n  \
                  sentei inspect my_model.onnx           what is in a model and what pruning would pay\n\n\
                  Exit codes: 0 ok, 1 failed, 2 usage, 3 gate not passed, 4 outputs differ, 5 device or engine absent, 6 limit exceeded"
)]
struct Cli {
    #[command(flatten)]
    out: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The whole flow: train, prune, retrain, compile, measure, report
    Shrink(shrink::Args),
    /// Train a network and write it as ONNX
    Train(train::Args),
    /// Find out how far a trained network can be pruned
    Analyze(analyze::Args),
    /// Prune a trained ONNX model, retrain it, write it as ONNX with zeros
    Prune(prune::Args),
    /// Compare pruning methods over sparsities and seeds, here or on a cluster
    Sweep(sweep::Args),
    /// Fold, fuse and pack a model; prove that the packed file computes the same
    Compile(compile::Args),
    /// Say what is in any ONNX file: layers, zeros, multiply-adds, bytes, and what pruning would pay
    Inspect(inspect::Args),
    /// Images in, verdicts out
    Run(run::Args),
    /// Measure latency and memory of one or more models, interleaved
    Bench(bench::Args),
    /// Build a small program for a board, with the model inside
    Build(build::Args),
    /// Write the report of a run folder again
    Report(report::Args),
    /// Recompute the hashes of a run folder
    Verify(verify::Args),
    /// Say what this machine has: instruction sets, engines, libraries
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "prune")]
    {
        // Before the first thread. Verbs that measure leave the allocator as any program has it.
        if matches!(cli.verb, Verb::Train(_) | Verb::Prune(_) | Verb::Analyze(_) | Verb::Sweep(_)) {
            sentei_kernels::keep_freed_memory();
        }
        jobs::end_with_parent();
    }
    match dispatch(cli.verb, cli.out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code(&error))
        }
    }
}

fn dispatch(verb: Verb, out: Output) -> Result<()> {
    match verb {
        Verb::Shrink(args) => shrink::run(args, out),
        Verb::Train(args) => train::run(args, out),
        Verb::Analyze(args) => analyze::run(args, out),
        Verb::Prune(args) => prune::run(args, out),
        Verb::Sweep(args) => sweep::run(args, out),
        Verb::Compile(args) => compile::run(args, out),
        Verb::Inspect(args) => inspect::run(args, out),
        Verb::Run(args) => run::run(args, out),
        Verb::Bench(args) => bench::run(args, out),
        Verb::Build(args) => build::run(args, out),
        Verb::Report(args) => report::run(args, out),
        Verb::Verify(args) => verify::run(args, out),
        Verb::Doctor(args) => doctor::run(args, out),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sentei", &mut std::io::stdout());
            Ok(())
        }
    }
}

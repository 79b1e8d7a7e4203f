//! Networks that several jobs of a folder start from: made once, kept in `parents/`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sentei_graph::Graph;
use sentei_prune::Checkpointing;

use crate::jobs::JobFolder;
use crate::models::Start;
use crate::output::Output;
use crate::training::Workbench;
use crate::{files, models};

/// The network `name`, the same bytes whichever job makes it: made once, under a lock, and always read from its file.
///
/// * `lock`: name of the lock in the folder;
/// * `make`: makes the network; goes on from the checkpoint that a killed job left.
///
/// # Errors
/// When `make` fails, or the folder cannot be written.
pub fn made(
    folder: &JobFolder,
    name: &str,
    lock: &str,
    out: Output,
    make: impl FnOnce(Checkpointing) -> Result<Graph>,
) -> Result<Graph> {
    let parents = folder.path().join("parents");
    let file = parents.join(format!("{name}.onnx"));
    if !file.exists() {
        std::fs::create_dir_all(&parents).with_context(|| format!("making {}", parents.display()))?;
        let _mine = folder.lock(lock, || out.note(format!("network {name} is being made by another job; waiting")))?;
        if !file.exists() {
            let path = parents.join(format!("{name}.checkpoint.safetensors"));
            let graph = make(Checkpointing { path: path.clone(), resume: true })?;
            files::write_atomic(&file, &models::to_onnx(&graph)?)?;
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(sentei_graph::passes::for_training(models::read(&file)?)?.graph)
}

/// The trained dense network of a seed.
///
/// # Errors
/// As [`made`], and when training diverges.
pub fn dense(folder: &JobFolder, bench: &mut Workbench, start: &Start, seed: u64, out: Output) -> Result<Graph> {
    made(folder, &format!("seed-{seed}"), &format!("parent-{seed}"), out, |own| {
        let config = bench.recipe.train.clone();
        let (graph, seconds) = bench.train_timed("train", &start.graph, &start.normalise, &config, Some(own))?;
        files::write_atomic(&seconds_file(folder, seed), format!("{seconds}\n").as_bytes())?;
        Ok(graph)
    })
}

/// How long the training of [`dense`] took, whichever job did it; `None` when nobody wrote it down.
pub fn seconds(folder: &JobFolder, seed: u64) -> Option<f64> {
    std::fs::read_to_string(seconds_file(folder, seed)).ok()?.trim().parse().ok()
}

fn seconds_file(folder: &JobFolder, seed: u64) -> PathBuf {
    folder.path().join("parents").join(format!("seed-{seed}.seconds.txt"))
}

//! Dense networks that several jobs of a folder start from: trained once per seed, kept in `parents/`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sentei_graph::Graph;
use sentei_prune::Checkpointing;

use crate::jobs::JobFolder;
use crate::models::Start;
use crate::output::Output;
use crate::training::Workbench;
use crate::{files, models};

/// The trained dense network of a seed, the same bytes whichever job trains it: always read from its file.
///
/// # Errors
/// When training diverges, or the folder cannot be written.
pub fn dense(folder: &JobFolder, bench: &mut Workbench, start: &Start, seed: u64, out: Output) -> Result<Graph> {
    let parents = folder.path().join("parents");
    let file = parents.join(format!("seed-{seed}.onnx"));
    if !file.exists() {
        std::fs::create_dir_all(&parents).with_context(|| format!("making {}", parents.display()))?;
        let waiting = || out.note(format!("the dense network of seed {seed} is being trained by another job; waiting"));
        let _mine = folder.lock(&format!("parent-{seed}"), waiting)?;
        if !file.exists() {
            let path = parents.join(format!("seed-{seed}.checkpoint.safetensors"));
            let checkpoint = Checkpointing { path: path.clone(), resume: true };
            let config = bench.recipe.train.clone();
            let (graph, seconds) =
                bench.train_timed("train", &start.graph, &start.normalise, &config, Some(checkpoint))?;
            files::write_atomic(&seconds_file(folder, seed), format!("{seconds}\n").as_bytes())?;
            files::write_atomic(&file, &models::to_onnx(&graph)?)?;
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(sentei_graph::passes::for_training(models::read(&file)?)?.graph)
}

/// How long the training of [`dense`] took, whichever job did it; `None` when nobody wrote it down.
pub fn seconds(folder: &JobFolder, seed: u64) -> Option<f64> {
    std::fs::read_to_string(seconds_file(folder, seed)).ok()?.trim().parse().ok()
}

fn seconds_file(folder: &JobFolder, seed: u64) -> PathBuf {
    folder.path().join("parents").join(format!("seed-{seed}.seconds.txt"))
}

//! `sweep k8s`: the plan as a Kubernetes Indexed Job. The manifest is JSON, which Kubernetes reads as it reads YAML.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::plan::SweepPlan;
use crate::bench::at_least_one;
use crate::data_recipe::EMBEDDED;
use crate::exit::usage;
use crate::jobs::JobFolder;

/// Attempts per job before its index counts as failed; the others go on.
const ATTEMPTS: usize = 3;

/// Prints a manifest for `kubectl apply -f`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the plan, as this machine and the pods both see it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Image with the sentei program on its path
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// Jobs at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    parallelism: usize,
    /// Persistent volume claim that holds the folder and the images; must allow many writers
    #[arg(long, value_name = "NAME", default_value = "sentei-sweep")]
    claim: String,
    /// Where the claim is mounted in the pods [default: the folder that DIR lies in]
    #[arg(long, value_name = "PATH")]
    mount: Option<PathBuf>,
    /// Name of the Job
    #[arg(long, value_name = "NAME", default_value = "sentei-sweep")]
    name: String,
    /// Cores per job; also the number of threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    cpus: usize,
    /// Memory per job, as Kubernetes writes it
    #[arg(long, value_name = "SIZE", default_value = "2Gi")]
    memory: String,
}

/// Runs the step.
pub fn run(args: Args) -> Result<()> {
    let folder = JobFolder::open(&args.folder)?;
    let plan = SweepPlan::of(&folder)?;
    let path = std::path::absolute(&args.folder)?;
    let mount = args.mount.clone().or_else(|| path.parent().map(Path::to_path_buf)).unwrap_or_else(|| "/".into());
    let source = Path::new(&plan.recipe.data.source);
    let split = plan.recipe.data.split_file.as_deref().map(|file| ("the split file of the plan", file));
    for (what, path) in [("the sweep", path.as_path()), ("the images of the plan", source)].into_iter().chain(split) {
        if path != Path::new(EMBEDDED) && !path.starts_with(&mount) {
            return usage(format!(
                "{what} at {} would not be in the pods: the volume is mounted at {} (choose with --mount)",
                path.display(),
                mount.display()
            ));
        }
    }
    let manifest = manifest(&args, folder.jobs(), &path, &mount);
    println!("{}", serde_json::to_string_pretty(&manifest).context("writing the manifest")?);
    Ok(())
}

/// The Job: one completion per planned job; finished ones end at once.
fn manifest(args: &Args, jobs: usize, folder: &Path, mount: &Path) -> Value {
    let folder = folder.display().to_string();
    // A `$(` in a path would be expanded by the kubelet; doubled it stands for itself.
    let folder = folder.replace('$', "$$");
    let resources = json!({ "cpu": args.cpus.to_string(), "memory": args.memory });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": args.name },
        "spec": {
            "completions": jobs,
            "parallelism": args.parallelism.min(jobs.max(1)),
            "completionMode": "Indexed",
            "backoffLimitPerIndex": ATTEMPTS,
            "maxFailedIndexes": jobs,
            "template": {
                "metadata": { "labels": { "app": args.name } },
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "sweep",
                        "image": args.image,
                        "command": ["sentei", "sweep", "run", folder, "--index", "$(JOB_COMPLETION_INDEX)"],
                        "env": [
                            {
                                "name": "JOB_COMPLETION_INDEX",
                                "valueFrom": { "fieldRef": {
                                    "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"
                                } },
                            },
                            { "name": "RAYON_NUM_THREADS", "value": args.cpus.to_string() },
                        ],
                        "resources": { "requests": resources, "limits": resources },
                        "volumeMounts": [{ "name": "shared", "mountPath": mount }],
                    }],
                    "volumes": [{ "name": "shared", "persistentVolumeClaim": { "claimName": args.claim } }],
                },
            },
        },
    })
}

//! `sentei run`: images in, verdicts out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sentei_runtime::{HostTensor, LoadOptions};
use serde_json::json;

use crate::bench::at_least_one;
use crate::files;
use crate::measure::EngineName;
use crate::ort_args::OrtArgs;
use crate::output::Output;
use crate::preprocessing::Preprocessing;
use crate::sidecar;

/// Classifies images with a model made by sentei (its classes and pixel scaling are in the file).
#[derive(clap::Args)]
pub struct Args {
    /// ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Images (PNG, JPEG, BMP, PNM), or folders of them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Engine that runs the model
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "tract")]
    engine: EngineName,
    /// Threads of the engine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// Tie every thread of the tract engine to a core of its own
    #[arg(long)]
    pin: bool,
    /// Classes to print per image, best first
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one)]
    top: usize,
    /// Most seconds that loading the model may take; TensorRT may need minutes
    #[arg(long, value_name = "S", default_value_t = 60)]
    time_budget: u64,
    #[command(flatten)]
    ort: OrtArgs,
    /// ONNX Runtime library to use instead of searching for one
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let ort = args.ort.resolve(args.engine)?;
    let bytes = files::read(&args.model)?;
    let metadata = sentei_runtime::metadata(&bytes).with_context(|| format!("reading {}", args.model.display()))?;
    let Some(preprocessing) = Preprocessing::read(&metadata)? else {
        bail!(
            "{} does not say its classes and pixel scaling (write them with `sentei compile --classes --mean --std`)",
            args.model.display()
        );
    };
    let options = LoadOptions {
        threads: args.threads,
        pin: args.pin,
        time_budget: Duration::from_secs(args.time_budget),
        ort,
        library: args.ort_library.clone(),
        ..LoadOptions::default()
    };
    let (options, note) = sidecar::follow(&options, args.engine, &args.model, &bytes);
    note.into_iter().for_each(|note| out.note(format!("note: {note}")));
    let mut session =
        args.engine.engine()?.load(&bytes, &options).with_context(|| format!("loading {}", args.model.display()))?;
    session.facts().notes.iter().for_each(|note| out.note(format!("note: {note}")));
    let shape: Vec<usize> = session.inputs()[0].shape.iter().map(|d| d.unwrap_or(1)).collect();
    let [_, channels, height, width] = shape[..] else {
        bail!("{} takes input of shape {shape:?}, expected [1, channels, height, width]", args.model.display());
    };
    let mut verdicts = Vec::new();
    for path in images(&args.images)? {
        let picture = sentei_data::read_picture(&path, channels, (height, width))?;
        let tensor = HostTensor::new(vec![1, channels, height, width], preprocessing.normalise.image(&picture.pixels))?;
        let started = Instant::now();
        let outputs = session.run(&[tensor])?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let ranked = rank(&outputs[0].data, &preprocessing.classes)?;
        let top: Vec<String> = ranked.iter().take(args.top).map(|(c, p)| format!("{c} {:.1} %", p * 100.0)).collect();
        out.say(format!("{}: {}", path.display(), top.join(", ")));
        let classes: serde_json::Map<String, serde_json::Value> =
            ranked.iter().map(|(class, p)| (class.clone(), json!(p))).collect();
        verdicts.push(json!({ "image": path, "class": ranked[0].0, "probabilities": classes, "ms": milliseconds }));
    }
    let facts = session.facts();
    out.object(&json!({ "model": args.model, "engine": facts.engine.name, "provider": facts.engine.provider, "verdicts": verdicts }));
    Ok(())
}

/// Classes with their softmax probability, most probable first.
fn rank(logits: &[f32], classes: &[String]) -> Result<Vec<(String, f64)>> {
    if logits.len() != classes.len() {
        bail!("the model has {} outputs for {} classes", logits.len(), classes.len());
    }
    let mut ranked: Vec<(String, f64)> =
        classes.iter().cloned().zip(probabilities(logits).into_iter().map(f64::from)).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(ranked)
}

/// Softmax of one row of logits.
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|z| f64::from(z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / sum) as f32).collect()
}

/// The files named, and the images inside the folders named, in name order.
fn images(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let is_image = |path: &Path| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| ["png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pnm"].contains(&e.as_str()))
    };
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
            let mut inside: Vec<PathBuf> =
                entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_image(p)).collect();
            inside.sort();
            if inside.is_empty() {
                bail!("{} holds no PNG, JPEG, BMP or PNM image", path.display());
            }
            found.extend(inside);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_even_for_huge_logits() {
        let p = probabilities(&[1e4, 1e4, -1e4]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_most_probable_class_comes_first() {
        let ranked = rank(&[0.0, 2.0, 1.0], &["a".into(), "b".into(), "c".into()]).expect("fits");
        assert_eq!(ranked.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert!(rank(&[0.0], &[]).is_err());
    }
}

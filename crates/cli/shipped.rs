//! What a finished model file is worth: its verdicts on images, its work, its layers.
//! The file that ships is judged, in the engine that runs it; not the network that training held.

use anyhow::{Context, Result};
use sentei_convert::Inspection;
use sentei_data::{Dataset, Normalise, Split};
use sentei_report::record::{LayerRow, Predictions, Work};
use sentei_runner::classify::probabilities;
use sentei_runtime::{Facts, HostTensor, KernelChoice, LoadOptions, NodeTime};

use crate::files;
use crate::measure::{EngineName, Subject, owner};

/// Images per inference while verdicts are collected.
const BATCH: usize = 32;

/// Probabilities of every sample of `split`, from the file itself, run as `model` says.
///
/// # Errors
/// When the file cannot be loaded or run.
pub fn predictions(model: &Subject, data: &Dataset, split: Split, normalise: &Normalise) -> Result<Predictions> {
    let path = &model.path;
    // nothing is timed, and zeros or bytes decide
    let kernel_choice = match model.kernels {
        KernelChoice::Int8 => KernelChoice::Int8,
        _ => KernelChoice::AlwaysSparse,
    };
    let options = LoadOptions { batch: BATCH, kernel_choice, ..LoadOptions::default() };
    let mut session = EngineName::Tract
        .engine()?
        .load(&files::read(path)?, &options)
        .with_context(|| format!("loading {}", path.display()))?;
    let shape: Vec<usize> = session.inputs()[0].shape.iter().map(|d| d.unwrap_or(BATCH)).collect();
    let (indices, len) = (data.indices(split), data.image_len());
    let mut found = Predictions::default();
    for chunk in indices.chunks(BATCH) {
        let mut images = vec![0.0; BATCH * len];
        for (slot, index) in images.chunks_exact_mut(len).zip(chunk) {
            slot.copy_from_slice(&normalise.image(data.image(*index)));
        }
        let outputs = session.run(&[HostTensor::new(shape.clone(), images)?])?;
        let rows = outputs[0].data.chunks_exact(data.classes.len());
        for (index, row) in chunk.iter().zip(rows) {
            found.samples.push(data.sample_names[*index].clone());
            found.labels.push(data.labels[*index] as usize);
            found.scores.push(probabilities(row));
        }
    }
    Ok(found)
}

/// The work of a model, and one row per layer with the kernel that ran and its time.
pub fn layers(inspection: &Inspection, facts: &Facts, times: &[NodeTime]) -> (Work, Vec<LayerRow>) {
    let names = || inspection.layers.iter().map(|layer| layer.name.as_str());
    let time_of = |layer: &str| {
        let mut parts = times.iter().filter(|t| owner(&t.name, names()) == Some(layer)).map(|t| t.time_ns).peekable();
        parts.peek().is_some().then(|| parts.sum())
    };
    let rows = inspection.layers.iter().map(|layer| {
        let kernel = facts.kernels.iter().find(|k| k.name == layer.name);
        let weights: u64 = layer.shape.iter().map(|d| *d as u64).product();
        LayerRow {
            name: layer.name.clone(),
            op: layer.op.clone(),
            shape: layer.shape.clone(),
            weights,
            nonzero: (layer.density * weights as f64).round() as u64,
            bytes: layer.bytes,
            macs: layer.macs.unwrap_or(0),
            dense_macs: layer.dense_macs.unwrap_or(0),
            kernel: Some(kernel.map_or("tract".into(), |k| k.kernel.clone())),
            time_ns: time_of(&layer.name),
            reason: kernel.map(|k| k.reason.clone()),
        }
    });
    let work = Work {
        params: inspection.params,
        nonzero: inspection.nonzero,
        macs: inspection.macs.unwrap_or(0),
        dense_macs: inspection.dense_macs.unwrap_or(0),
    };
    (work, rows.collect())
}

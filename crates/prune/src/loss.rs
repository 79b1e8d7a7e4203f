//! Softmax cross-entropy on logits.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::PruneError;

/// The mean softmax cross-entropy of `logits` `[N, classes]` against `labels`, a scalar to call `backward` on.
///
/// * `labels`: one class per row, each below `classes`.
/// * `smoothing`: share of the target spread evenly over all classes, in `[0, 1)`; 0 is the plain loss.
/// * `weights`: one weight per class, not negative; the mean is then weighted by the weight of each row's label, as in PyTorch.
///
/// Exact for logits of any size: the largest one is subtracted first. The gradient cannot be differentiated again.
///
/// # Errors
/// [`PruneError::Tensor`] when lengths do not fit or a label names no class.
pub fn cross_entropy(
    logits: &Tensor,
    labels: &[u32],
    smoothing: f32,
    weights: Option<&[f32]>,
) -> std::result::Result<Tensor, PruneError> {
    let (rows, classes) = logits.dims2()?;
    let op = CrossEntropy::new(rows, classes, labels, smoothing, weights)?;
    let cpu = logits.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    Ok(cpu.apply_op1(op)?)
}

struct CrossEntropy {
    /// Target of every row and class, already times the weight and the share of the mean; rows sum to their weight.
    targets: Vec<f32>,
    classes: usize,
}

impl CrossEntropy {
    fn new(rows: usize, classes: usize, labels: &[u32], smoothing: f32, weights: Option<&[f32]>) -> Result<Self> {
        if labels.len() != rows || weights.is_some_and(|w| w.len() != classes) {
            let weights = weights.map_or(0, <[f32]>::len);
            bail!("{rows} rows of {classes} logits met {} labels and {weights} class weights", labels.len());
        }
        if !(0.0..1.0).contains(&smoothing) {
            bail!("label smoothing {smoothing} is outside [0, 1)");
        }
        if let Some(label) = labels.iter().find(|l| **l as usize >= classes) {
            bail!("label {label} names none of {classes} classes");
        }
        let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
        let total: f32 = labels.iter().map(|l| weight(*l as usize)).sum();
        let share = if total > 0.0 { 1.0 / total } else { 0.0 };
        let mut targets = Vec::with_capacity(rows * classes);
        for label in labels {
            for class in 0..classes {
                let hard = if class == *label as usize { 1.0 - smoothing } else { 0.0 };
                targets.push((hard + smoothing / classes as f32) * weight(class) * share);
            }
        }
        Ok(CrossEntropy { targets, classes })
    }

    fn rows<'a>(&'a self, logits: &'a [f32]) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        logits.chunks(self.classes.max(1)).zip(self.targets.chunks(self.classes.max(1)))
    }
}

/// The largest logit and the logarithm of the sum of exponentials above it.
fn normaliser(row: &[f32]) -> (f32, f32) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (largest, row.iter().map(|v| (v - largest).exp()).sum::<f32>().ln())
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected contiguous logits") };
        let mut loss = 0.0;
        for (row, targets) in self.rows(&logits.as_slice::<f32>()?[start..end]) {
            let (largest, log_sum) = normaliser(row);
            // `0 * inf` would poison the loss of a class that nothing aims at.
            let terms = row.iter().zip(targets).filter(|(_, t)| **t != 0.0);
            loss += terms.map(|(v, t)| f64::from(t * (log_sum - (v - largest)))).sum::<f64>();
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let outer = gradient.to_scalar::<f32>()?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let mut out = Vec::with_capacity(values.len());
        for (row, targets) in self.rows(&values) {
            let (largest, log_sum) = normaliser(row);
            let weight: f32 = targets.iter().sum();
            let terms = row.iter().zip(targets);
            out.extend(terms.map(|(v, t)| outer * (weight * (v - largest - log_sum).exp() - t)));
        }
        Tensor::from_vec(out, logits.shape(), logits.device()).map(Some)
    }
}

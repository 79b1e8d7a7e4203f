//! Softmax cross-entropy on logits.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};

use crate::PruneError;

/// The mean softmax cross-entropy of `logits` `[N, classes]` against `labels`, a scalar to call `backward` on.
///
/// * `labels`: one class per row, each below `classes`.
/// * `smoothing`: share of the target spread evenly over all classes, in `[0, 1)`; 0 is the plain loss.
/// * `weights`: one weight per class, not negative; the mean is then weighted by the weight of each row's label, as in PyTorch.
///
/// Exact for logits of any size: the largest one is subtracted first. Computed in the precision of the logits.
/// The gradient cannot be differentiated again.
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
    check(rows, classes, labels, smoothing, weights)?;
    if logits.dtype() == DType::F64 {
        let targets = targets(classes, labels, smoothing.into(), |class| weights.map_or(1.0, |w| w[class].into()));
        let targets = Tensor::from_vec(targets, (rows, classes), logits.device())?;
        let centred = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
        let log_sum = centred.exp()?.sum_keepdim(D::Minus1)?.log()?;
        return Ok((targets * log_sum.broadcast_sub(&centred)?)?.sum_all()?);
    }
    let cpu = logits.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    Ok(cpu.apply_op1(CrossEntropy::new(classes, labels, smoothing, weights))?)
}

/// Refuses labels, smoothing and class weights that do not fit `[rows, classes]` logits.
pub(crate) fn check(
    rows: usize,
    classes: usize,
    labels: &[u32],
    smoothing: f32,
    weights: Option<&[f32]>,
) -> Result<()> {
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
    Ok(())
}

/// Target of every row and class, already times the weight and the share of the mean; rows sum to their weight.
pub(crate) fn targets(classes: usize, labels: &[u32], smoothing: f64, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let total: f64 = labels.iter().map(|l| weight(*l as usize)).sum();
    let share = if total > 0.0 { 1.0 / total } else { 0.0 };
    let row = |label: usize| {
        let hard = move |class| if class == label { 1.0 - smoothing } else { 0.0 };
        (0..classes).map(move |class| hard(class) + smoothing / classes as f64)
    };
    let rows = labels.iter().map(|l| *l as usize);
    rows.flat_map(|label| row(label).zip(0..classes).map(|(t, c)| t * weight(c) * share).collect::<Vec<_>>()).collect()
}

/// The sum over `logits` `[N, classes]` of `-targets * log_softmax(logits)`, a scalar to call `backward` on.
///
/// * `targets`: not negative, flat in row-major order; whoever wants a mean divides them by `N`.
///
/// # Errors
/// [`PruneError::Tensor`] when there is not one target per logit.
pub(crate) fn soft_cross_entropy(logits: &Tensor, targets: Vec<f32>) -> std::result::Result<Tensor, PruneError> {
    let (rows, classes) = logits.dims2()?;
    if targets.len() != rows * classes {
        return Err(
            candle_core::Error::Msg(format!("{rows} rows of {classes} logits met {} targets", targets.len())).into()
        );
    }
    let cpu = logits.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    Ok(cpu.apply_op1(CrossEntropy { targets, classes })?)
}

struct CrossEntropy {
    /// Target of every row and class, already times the weight and the share of the mean; rows sum to their weight.
    targets: Vec<f32>,
    classes: usize,
}

impl CrossEntropy {
    fn new(classes: usize, labels: &[u32], smoothing: f32, weights: Option<&[f32]>) -> Self {
        let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
        let total: f32 = labels.iter().map(|l| weight(*l as usize)).sum();
        let share = if total > 0.0 { 1.0 / total } else { 0.0 };
        let mut targets = Vec::with_capacity(labels.len() * classes);
        for label in labels {
            for class in 0..classes {
                let hard = if class == *label as usize { 1.0 - smoothing } else { 0.0 };
                targets.push((hard + smoothing / classes as f32) * weight(class) * share);
            }
        }
        CrossEntropy { targets, classes }
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

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn gradient(logits: &[[f32; 3]], labels: &[u32], smoothing: f32, weights: Option<&[f32]>) -> (f32, Vec<Vec<f32>>) {
        let logits = Var::from_vec(logits.concat(), (logits.len(), 3), &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, labels, smoothing, weights).unwrap();
        let gradient = loss.backward().unwrap().get(&logits).unwrap().to_vec2().unwrap();
        (loss.to_scalar().unwrap(), gradient)
    }

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_classes() {
        let (loss, gradient) = gradient(&[[0.0; 3]], &[2], 0.0, None);
        assert!((loss - 3f32.ln()).abs() < 1e-6);
        for (found, expected) in gradient[0].iter().zip([1.0 / 3.0, 1.0 / 3.0, -2.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn huge_logits_stay_finite() {
        let (loss, gradient) = gradient(&[[1e30, -1e30, 0.0], [88.0, 1000.0, -1000.0]], &[0, 0], 0.0, None);
        assert_eq!(loss, 456.0);
        assert!(gradient.iter().flatten().all(|g| g.is_finite()));
    }

    #[test]
    fn a_class_of_weight_zero_does_not_count() {
        let (loss, gradient) = gradient(&[[1.0, 2.0, 3.0], [5.0, 0.0, 1.0]], &[0, 1], 0.0, Some(&[1.0, 0.0, 1.0]));
        assert!((loss - 2.407_606).abs() < 1e-5, "{loss}");
        assert_eq!(gradient[1], [0.0; 3]);
        assert!(gradient[0].iter().sum::<f32>().abs() < 1e-6);
    }

    #[test]
    fn lengths_and_labels_are_checked() {
        let logits = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let message = |labels: &[u32], smoothing, weights| {
            cross_entropy(&logits, labels, smoothing, weights).unwrap_err().to_string()
        };
        assert!(message(&[0], 0.0, None).contains("1 labels"));
        assert!(message(&[0, 3], 0.0, None).contains("label 3 names none of 3 classes"));
        assert!(message(&[0, 1], 0.0, Some(&[1.0][..])).contains("1 class weights"));
        assert!(message(&[0, 1], 1.0, None).contains("outside [0, 1)"));
    }
}

//! First and second derivatives of a loss over batches, at the point where a network stands: exact gradients and exact
//! Hessian-vector products. The network is left as it was, bit for bit.
//!
//! A finite difference of gradients is no substitute: the gradient of a ReLU network jumps, and a step that is large enough to
//! beat rounding crosses jumps.

mod product;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Tensor, Var};

use crate::loss::cross_entropy;
use crate::net::Direction;
use crate::{Net, PruneError};

pub use product::hessian_vector;

/// The loss that is differentiated: the mean softmax cross-entropy over all samples of all batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// What the logits are divided by before the softmax; 1 is the plain loss. Positive.
    pub temperature: f64,
    /// Whether batch norm takes the statistics of each batch, as in training, and not the running ones.
    pub batch_statistics: bool,
    /// Share of the target spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f32,
}

impl Default for Objective {
    fn default() -> Self {
        Objective { temperature: 1.0, batch_statistics: false, label_smoothing: 0.0 }
    }
}

/// A loss and its gradient.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// Mean loss over all samples.
    pub loss: f64,
    /// One tensor per parameter asked for, of its shape, on the network's device and in its precision.
    pub grads: Vec<Tensor>,
}

/// Loss and gradient of `objective` over `batches`.
///
/// * `params`: names of trainable initializers, each once; only these are differentiated by.
/// * `batches`: images as in [`Net::forward`] and one class per image; every sample weighs the same, whatever its batch.
///
/// With batch statistics the loss depends on how samples are dealt to batches. Dropout is off.
/// The cross-entropy itself is computed in f64.
///
/// # Errors
/// [`PruneError::Missing`] for an unknown parameter, [`PruneError::NoSamples`] without samples,
/// [`PruneError::Temperature`] for one that is not positive, whatever [`Net::forward`] and [`cross_entropy`] report.
pub fn gradient(
    net: &mut Net,
    params: &[String],
    batches: &[(Tensor, Vec<u32>)],
    objective: &Objective,
) -> Result<Gradient, PruneError> {
    let vars = variables(net, params)?;
    let samples = check(batches, objective)?;
    let (tangents, tracked) = (HashMap::new(), names(params));
    let still = Direction { tangents: &tangents, tracked: &tracked, batch_statistics: objective.batch_statistics };
    let mut totals = Totals::zeros(&vars)?;
    let mut loss = 0.0;
    for (images, labels) in batches {
        let logits = net.push(images, &still)?.value.to_dtype(DType::F64)?.affine(1.0 / objective.temperature, 0.0)?;
        let share = labels.len() as f64 / samples;
        let part = cross_entropy(&logits, labels, objective.label_smoothing, None)?.affine(share, 0.0)?;
        loss += part.to_scalar::<f64>()?;
        totals.add(&part)?;
    }
    Ok(Gradient { loss, grads: totals.sums })
}

/// The variables of that name, in that order.
fn variables(net: &Net, params: &[String]) -> Result<Vec<Var>, PruneError> {
    let find = |name: &String| match net.var(name) {
        Some(param) => Ok(param.var.clone()),
        None => Err(PruneError::Missing { kind: "parameter", name: name.clone() }),
    };
    params.iter().map(find).collect()
}

/// The number of samples of a loss that can be taken.
fn check(batches: &[(Tensor, Vec<u32>)], objective: &Objective) -> Result<f64, PruneError> {
    if !(objective.temperature > 0.0 && objective.temperature.is_finite()) {
        return Err(PruneError::Temperature(objective.temperature));
    }
    match batches.iter().map(|(_, labels)| labels.len()).sum::<usize>() {
        0 => Err(PruneError::NoSamples),
        samples => Ok(samples as f64),
    }
}

/// Gradients summed over batches.
struct Totals<'a> {
    vars: &'a [Var],
    sums: Vec<Tensor>,
}

impl<'a> Totals<'a> {
    fn zeros(vars: &'a [Var]) -> Result<Self, PruneError> {
        let sums = vars.iter().map(|v| v.as_tensor().zeros_like()).collect::<candle_core::Result<_>>()?;
        Ok(Totals { vars, sums })
    }

    /// Adds the gradient of the scalar `part`.
    fn add(&mut self, part: &Tensor) -> Result<(), PruneError> {
        let grads = part.backward()?;
        for (sum, var) in self.sums.iter_mut().zip(self.vars) {
            if let Some(gradient) = grads.get(var.as_tensor()) {
                *sum = (&*sum + gradient)?;
            }
        }
        Ok(())
    }
}

/// The names as a set, for the passes that track some parameters only.
fn names(params: &[String]) -> HashSet<&str> {
    params.iter().map(String::as_str).collect()
}

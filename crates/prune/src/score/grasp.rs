//! GraSP: keeps the weights whose removal would take away gradient.
//!
//! Source: Wang, Zhang, Grosse 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow"
//! (arXiv:2002.07376), eq. 8.

use candle_core::Tensor;

use super::{Images, Score, ScoreInput, on_host, parameter};
use crate::curvature::{Objective, gradient, hessian_vector};
use crate::net::Net;
use crate::train::TrainError;

/// `w * (H g)`: minus the change of the squared gradient norm when the weight is removed, halved.
///
/// The paper writes `S = -w * (H g)` and removes the highest; here higher means "keep", so the sign is turned. Batch norm
/// uses the statistics of each batch.
#[derive(Clone, Copy, Debug)]
pub struct Grasp {
    /// What it looks at.
    pub images: Images,
    /// Logits are divided by it before the softmax; above about 200 the ranking does not change any more.
    pub temperature: f64,
    /// Keep the largest `|w * (H g)|` instead (Frankle et al. 2021).
    pub absolute: bool,
}

impl Score for Grasp {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        let batches = self.images.draw(input.net, input.data, input.seed, "grasp")?;
        let names: Vec<String> = input.layers.iter().map(|l| l.name.clone()).collect();
        let products = hessian_gradient(input.net, &names, &batches, self.temperature)?;
        let mut scores = Vec::with_capacity(names.len());
        for (layer, hg) in input.layers.iter().zip(&products) {
            scores.push(on_host(&self.rule(parameter(input.net, &layer.name)?, hg)?)?);
        }
        Ok(scores)
    }
}

impl Grasp {
    /// The score of weights `w` with `H g` at the same place.
    pub(crate) fn rule(&self, w: &Tensor, hg: &Tensor) -> Result<Tensor, TrainError> {
        let kept = (w * hg)?;
        Ok(if self.absolute { kept.abs()? } else { kept })
    }
}

/// `H g` of each parameter: the Hessian of the loss times its gradient.
pub(crate) fn hessian_gradient(
    net: &mut Net,
    names: &[String],
    batches: &[(Tensor, Vec<u32>)],
    temperature: f64,
) -> Result<Vec<Tensor>, TrainError> {
    let objective = Objective { temperature, batch_statistics: true, ..Objective::default() };
    let g = gradient(net, names, batches, &objective)?.grads;
    Ok(hessian_vector(net, names, batches, &g, &objective)?)
}

//! SNIP: how much the loss changes when a weight is scaled.
//!
//! Source: Lee, Ajanthan, Torr 2019, "SNIP: Single-shot network pruning based on connection sensitivity"
//! (arXiv:1810.02340), eq. 5.

use candle_core::Tensor;

use super::{Images, Score, ScoreInput, on_host, products};
use crate::curvature::{Objective, gradient};
use crate::net::Net;
use crate::train::TrainError;

/// `|w * dL/dw|`, with the gradient averaged over all images before the absolute value is taken.
///
/// Batch norm uses the statistics of each batch. The paper divides by the sum, which changes no ranking.
#[derive(Clone, Copy, Debug)]
pub struct Snip {
    /// What it looks at.
    pub images: Images,
}

impl Score for Snip {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        let batches = self.images.draw(input.net, input.data, input.seed, "snip")?;
        let names: Vec<String> = input.layers.iter().map(|l| l.name.clone()).collect();
        let signed = sensitivities(input.net, &names, &batches)?;
        signed.iter().map(|t| on_host(&t.abs()?)).collect()
    }
}

/// `w * dL/dw` of each parameter, the derivative of the loss by a factor on each weight. It obeys the conservation laws.
pub(crate) fn sensitivities(
    net: &mut Net,
    names: &[String],
    batches: &[(Tensor, Vec<u32>)],
) -> Result<Vec<Tensor>, TrainError> {
    let objective = Objective { temperature: 1.0, batch_statistics: true, ..Objective::default() };
    let gradient = gradient(net, names, batches, &objective)?;
    products(net, names, &gradient.grads)
}

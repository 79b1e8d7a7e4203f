//! Batch norm in candle's own ops, for devices other than the CPU and for double precision: the gradient by hand, because candle's
//! would go through the statistics a second time and add up over the whole batch with one block of threads per channel.

use candle_core::{Result, Tensor};

use super::{Statistics, beside};
use crate::conv::channel_sum;
use crate::given::given;
use crate::lower::{Piecewise, piecewise};

/// As [`super::normalise`].
pub(super) fn normalise(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    batch: &Statistics,
    epsilon: f32,
    activation: Option<Piecewise>,
) -> Result<Tensor> {
    let (mean, share) = (batch.mean.detach(), 1.0 / batch.count.max(1) as f64);
    let inverse = batch.variance.detach().affine(1.0, f64::from(epsilon))?.sqrt()?.recip()?;
    let line = Tensor::stack(&[gamma, beta], 0)?;
    let scale = (gamma.detach() * &inverse)?;
    let centred = x.detach().broadcast_sub(&beside(&mean, x)?)?;
    let value = centred.broadcast_mul(&beside(&scale, x)?)?.broadcast_add(&beside(&beta.detach(), x)?)?;
    let y = given(x, &line, value, move |x, line, g| {
        let centred = x.detach().broadcast_sub(&beside(&mean, x)?)?;
        let to_beta = channel_sum(g)?;
        let to_gamma = (channel_sum(&(g * &centred)?)? * &inverse)?;
        let outer = (line.detach().get(0)? * &inverse)?;
        // outer (g - mean(g) - h mean(h g)) for h = centred * inverse
        let tilt = ((&outer * &inverse)? * &to_gamma)?.affine(-share, 0.0)?;
        let offset = (&outer * &to_beta)?.affine(-share, 0.0)?;
        let flat = g.broadcast_mul(&beside(&outer, x)?)?.broadcast_add(&beside(&offset, x)?)?;
        let to_x = (flat + centred.broadcast_mul(&beside(&tilt, x)?)?)?;
        Ok((Some(to_x), Some(Tensor::stack(&[&to_gamma, &to_beta], 0)?)))
    })?;
    activation.map_or(Ok(y.clone()), |f| piecewise(&y, f))
}

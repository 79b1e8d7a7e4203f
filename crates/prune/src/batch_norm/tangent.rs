//! The tangent of batch norm, in ops that can be differentiated once more.

use candle_core::{Result, Tensor};

use super::{beside, fused_tangent, mean_of};
use crate::conv::has_custom_ops;
use crate::lower::{Dual, Piecewise, piecewise_tangent};

/// How the normalised `x` moves with `x`, `gamma` and `beta`; `None` when none of them moves.
///
/// * `fixed`: running mean and variance; without them the statistics are those of `x` and move with it.
/// * `activation`: what follows, and its output, which shows its slope.
///
/// The result can be differentiated once in every argument. With `c = x - mean` and `s = 1 / sqrt(variance + epsilon)`
/// it is `A dx + B c + K` with one number per channel: `A = gamma s`, `B = s dgamma + gamma ds`, `K = dbeta - A mean(dx)`,
/// where `ds = -s^3 mean(c dx)`.
pub(crate) fn tangent(
    x: &Dual,
    gamma: &Dual,
    beta: &Dual,
    fixed: Option<(&Tensor, &Tensor)>,
    epsilon: f32,
    activation: Option<(Piecewise, &Tensor)>,
) -> Result<Option<Tensor>> {
    if has_custom_ops(&x.value) && x.tangent.is_some() {
        return fused_tangent::tangent(x, gamma, beta, fixed, epsilon, activation).map(Some);
    }
    let tangent = composed(x, gamma, beta, fixed, epsilon)?;
    match activation {
        Some((f, y)) => tangent.map(|t| piecewise_tangent(y, &t, f)).transpose(),
        None => Ok(tangent),
    }
}

/// The same without activation, of candle's own ops.
fn composed(
    x: &Dual,
    gamma: &Dual,
    beta: &Dual,
    fixed: Option<(&Tensor, &Tensor)>,
    epsilon: f32,
) -> Result<Option<Tensor>> {
    let value = &x.value;
    let mean = fixed.map_or_else(|| mean_of(value), |(mean, _)| Ok(mean.clone()))?;
    let centred = value.broadcast_sub(&beside(&mean, value)?)?;
    let variance = fixed.map_or_else(|| mean_of(&centred.sqr()?), |(_, variance)| Ok(variance.clone()))?;
    let inverse = variance.affine(1.0, f64::from(epsilon))?.sqrt()?.recip()?;
    let slope = (&gamma.value * &inverse)?;
    let mut tilt = gamma.tangent.as_ref().map(|dgamma| dgamma * &inverse).transpose()?;
    let mut shift = beta.tangent.clone();
    if let (Some(dx), None) = (&x.tangent, fixed) {
        let steepening = ((&slope * inverse.sqr()?)? * mean_of(&(&centred * dx)?)?)?.neg()?;
        tilt = Some(tilt.map_or(Ok(steepening.clone()), |t| t + &steepening)?);
        let settling = (&slope * mean_of(dx)?)?.neg()?;
        shift = Some(shift.map_or(Ok(settling.clone()), |t| t + &settling)?);
    }
    let mut total = x.tangent.as_ref().map(|dx| dx.broadcast_mul(&beside(&slope, value)?)).transpose()?;
    if let Some(tilt) = tilt {
        let term = centred.broadcast_mul(&beside(&tilt, value)?)?;
        total = Some(total.map_or(Ok(term.clone()), |t| t + &term)?);
    }
    if let Some(shift) = shift {
        let shift = beside(&shift, value)?;
        total = Some(total.map_or_else(|| shift.broadcast_as(value.shape()), |t| t.broadcast_add(&shift))?);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::noise;

    fn random(shape: &[usize], name: &str, offset: f32, dtype: DType) -> Var {
        let data: Vec<f32> = (0..shape.iter().product()).map(|i| noise(name, i) + offset).collect();
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        Var::from_tensor(&tensor).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f64> {
        t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// The tangent and its gradients by everything it is made of.
    fn everything(
        shape: &[usize],
        dtype: DType,
        fixed: bool,
        activation: Option<Piecewise>,
        scale_moves: bool,
    ) -> Vec<Vec<f64>> {
        let channels = &shape[1..2];
        let (x, dx) = (random(shape, "x", 0.4, dtype), random(shape, "dx", 0.0, dtype));
        let (gamma, dgamma) = (random(channels, "gamma", 1.5, dtype), random(channels, "dgamma", 0.0, dtype));
        let dbeta = random(channels, "dbeta", 0.0, dtype);
        let (mean, variance) = (random(channels, "mean", 0.0, dtype), random(channels, "variance", 1.5, dtype));
        let y = random(shape, "y", 0.0, dtype).as_detached_tensor();
        let dual = |value: &Var, tangent: Option<&Var>| Dual {
            value: value.as_tensor().clone(),
            tangent: tangent.map(|t| t.as_tensor().clone()),
        };
        let tangent = tangent(
            &dual(&x, Some(&dx)),
            &dual(&gamma, scale_moves.then_some(&dgamma)),
            &dual(&dgamma, scale_moves.then_some(&dbeta)),
            fixed.then_some((mean.as_tensor(), variance.as_tensor())),
            1e-3,
            activation.map(|f| (f, &y)),
        );
        let tangent = tangent.unwrap().unwrap();
        let weights = random(shape, "weights", 0.0, dtype).as_detached_tensor();
        let grads = (&tangent * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let vars = [&x, &dx, &gamma, &dgamma, &dbeta];
        let grads = vars.iter().map(|v| grads.get(v.as_tensor()).map(values).unwrap_or_default());
        std::iter::once(values(&tangent)).chain(grads).collect()
    }

    /// f64 runs in candle's own ops, f32 in ours.
    #[test]
    fn the_fused_tangent_and_its_gradients_are_those_of_plain_ops() {
        let activations = [None, Some(Piecewise::Leaky { alpha: 0.2 }), Some(Piecewise::Clip { min: -0.3, max: 0.6 })];
        for shape in [[5, 3, 7, 3].as_slice(), &[6, 3], &[2, 2, 33]] {
            for activation in activations {
                for (fixed, scale_moves) in [(false, true), (true, true), (false, false), (true, false)] {
                    let ours = everything(shape, DType::F32, fixed, activation, scale_moves);
                    let expected = everything(shape, DType::F64, fixed, activation, scale_moves);
                    for (part, (a, b)) in ours.iter().zip(&expected).enumerate() {
                        let largest = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                        if fixed && !scale_moves && part == 1 {
                            assert!(a.iter().chain(b).all(|v| *v == 0.0), "x has no part in a scaled tangent");
                            continue;
                        }
                        assert_eq!(a.len(), b.len(), "{shape:?} part {part} fixed {fixed} moves {scale_moves}");
                        for (a, b) in a.iter().zip(b) {
                            let close = (a - b).abs() <= 1000.0 * f64::from(f32::EPSILON) * largest;
                            assert!(close, "{shape:?}, {activation:?}, fixed {fixed}, part {part}: {a} is not {b}");
                        }
                    }
                }
            }
        }
    }
}

//! Exact Hessian-vector products by one reverse pass over a graph of tangents.
//!
//! The forward pass carries each value `z` together with its speed `dz` when the parameters move along `v`. With `L` the loss,
//! `dL = v . grad L`, so an ordinary gradient of the scalar `dL` is `H v`.

use std::collections::HashMap;

use candle_core::{D, DType, Tensor};

use super::{Objective, Totals, check, names, variables};
use crate::loss::targets;
use crate::net::Direction;
use crate::{Net, PruneError};

/// `H v`, where `H` is the Hessian of `objective` over `batches` by `params`.
///
/// * `params`: names of trainable initializers, each once; the Hessian is that of these alone, the others are constants.
/// * `batches`: as in [`gradient`](super::gradient).
/// * `vector`: one tensor per parameter, of its shape, in any precision.
///
/// The result has the shapes of `vector`, on the network's device and in its precision. Exact but for rounding. At a corner of
/// ReLU, clip or max pool the slope is that of the gradient of this crate; second derivatives there are zero.
///
/// One batch at a time is in memory. Measured with batches of 64 on two cores: 3.3 gradients of time on the `inspect` net and
/// 3.6 to 3.9 on `resnet20`, about 2.5 times the memory (`tests/speed.rs`).
///
/// Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
///
/// # Errors
/// As [`gradient`](super::gradient); [`PruneError::Direction`] and [`PruneError::Shape`] when `vector` does not fit `params`.
pub fn hessian_vector(
    net: &mut Net,
    params: &[String],
    batches: &[(Tensor, Vec<u32>)],
    vector: &[Tensor],
    objective: &Objective,
) -> Result<Vec<Tensor>, PruneError> {
    let vars = variables(net, params)?;
    let samples = check(batches, objective)?;
    if vector.len() != params.len() {
        return Err(PruneError::Direction { expected: params.len(), found: vector.len() });
    }
    let mut tangents = HashMap::new();
    for ((name, var), v) in params.iter().zip(&vars).zip(vector) {
        if v.dims() != var.dims() {
            let (expected, found) = (var.dims().to_vec(), v.dims().to_vec());
            return Err(PruneError::Shape { name: name.clone(), expected, found });
        }
        tangents.insert(name.clone(), v.detach().to_device(net.device())?.to_dtype(net.dtype())?.contiguous()?);
    }
    let tracked = names(params);
    let direction = Direction { tangents: &tangents, tracked: &tracked, batch_statistics: objective.batch_statistics };
    let mut totals = Totals::zeros(&vars)?;
    for (images, labels) in batches {
        let logits = net.push(images, &direction)?;
        let Some(speed) = &logits.tangent else { continue };
        let share = labels.len() as f64 / samples;
        totals.add(&loss_tangent(&logits.value, speed, labels, objective)?.affine(share, 0.0)?)?;
    }
    Ok(totals.sums)
}

/// How fast the mean cross-entropy moves: `sum_nc (p_nc - target_nc) dz_nc / (T N)`, a scalar in f64.
///
/// The probabilities are part of what is differentiated: their gradient is the Gauss-Newton part of the Hessian.
fn loss_tangent(z: &Tensor, dz: &Tensor, labels: &[u32], objective: &Objective) -> Result<Tensor, PruneError> {
    let (rows, classes) = z.dims2()?;
    crate::loss::check(rows, classes, labels, objective.label_smoothing, None)?;
    let cool = |t: &Tensor| t.to_dtype(DType::F64)?.affine(1.0 / objective.temperature, 0.0);
    let (z, dz) = (cool(z)?, cool(dz)?);
    let exp = z.broadcast_sub(&z.detach().max_keepdim(D::Minus1)?)?.exp()?;
    let share = 1.0 / rows.max(1) as f64;
    let probabilities = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.affine(share, 0.0)?;
    let targets = targets(classes, labels, objective.label_smoothing.into(), |_| 1.0);
    let targets = Tensor::from_vec(targets, (rows, classes), z.device())?;
    Ok(((probabilities - targets)? * dz)?.sum_all()?)
}

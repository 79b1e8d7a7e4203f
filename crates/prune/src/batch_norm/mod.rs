//! Batch normalisation over axis 1: one fused op on the CPU for training, another for evaluation, and the tangents of both.

mod affine;
mod elsewhere;
mod fused_tangent;
mod tangent;

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::conv::{channel_sum, has_custom_ops};
use crate::lower::Piecewise;

pub(crate) use affine::affine;
pub(crate) use tangent::tangent;

/// Mean and variance of one batch, per channel.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    /// `[C]`.
    pub mean: Tensor,
    /// Biased (divided by the count), `[C]`; it normalises the batch.
    pub variance: Tensor,
    /// Values per channel.
    pub count: usize,
}

impl Statistics {
    /// The unbiased variance, which the running one is made of, as in PyTorch.
    pub fn unbiased_variance(&self) -> Result<Tensor> {
        self.variance.affine(self.count as f64 / self.count.saturating_sub(1).max(1) as f64, 0.0)
    }
}

/// Channels and pixels of `[N, C, ..]`.
fn lengths(dims: &[usize]) -> Result<(usize, usize)> {
    match dims {
        [_, channels, rest @ ..] => Ok((*channels, rest.iter().product())),
        _ => bail!("batch norm takes [N, C, ..], found {dims:?}"),
    }
}

/// `v` `[C]` shaped to broadcast against `x` `[N, C, ..]`.
fn beside(v: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[1] = x.dim(1)?;
    v.reshape(shape)
}

/// Mean and variance of `x` over every axis but 1; no gradient flows through them, [`normalise`] accounts for it.
pub(crate) fn statistics(x: &Tensor) -> Result<Statistics> {
    let (channels, plane) = lengths(x.dims())?;
    let count = x.dim(0)? * plane;
    let x = x.detach().contiguous()?;
    if !has_custom_ops(&x) {
        let share = 1.0 / count.max(1) as f64;
        let mean = channel_sum(&x)?.affine(share, 0.0)?;
        let variance = channel_sum(&x.broadcast_sub(&beside(&mean, &x)?)?.sqr()?)?.affine(share, 0.0)?;
        return Ok(Statistics { mean, variance, count });
    }
    let (storage, layout) = x.storage_and_layout();
    let data = cpu(&storage, layout)?;
    let moments: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let planes = || data.chunks(channels * plane).map(|image| &image[c * plane..][..plane]);
            let share = 1.0 / count.max(1) as f64;
            let mean = (planes().map(|p| lanes(p, |v| v)).sum::<f64>() * share) as f32;
            let squares = planes().map(|p| lanes(p, |v| (v - mean) * (v - mean))).sum::<f64>();
            (mean, (squares * share) as f32)
        })
        .collect();
    let (mean, variance): (Vec<f32>, Vec<f32>) = moments.into_iter().unzip();
    let tensor = |v: Vec<f32>| Tensor::from_vec(v, channels, x.device());
    Ok(Statistics { mean: tensor(mean)?, variance: tensor(variance)?, count })
}

/// `x` normalised by the statistics of its own batch, scaled and shifted, and put through `activation` if there is one.
///
/// The gradient takes into account that the statistics depend on `x`. The gradient itself cannot be differentiated again.
pub(crate) fn normalise(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    batch: &Statistics,
    epsilon: f32,
    activation: Option<Piecewise>,
) -> Result<Tensor> {
    if !has_custom_ops(x) {
        return elsewhere::normalise(x, gamma, beta, batch, epsilon, activation);
    }
    let inverse = batch.variance.to_vec1::<f32>()?.into_iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
    let op = Normalise { mean: batch.mean.to_vec1()?.into(), inverse, count: batch.count, activation };
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)
}

fn mean_of(x: &Tensor) -> Result<Tensor> {
    let (channels, _) = lengths(x.dims())?;
    channel_sum(x)?.affine(channels as f64 / x.elem_count().max(1) as f64, 0.0)
}

/// The sum of `f` over `values`, in sixteen interleaved lanes.
fn lanes(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += f(*v));
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// `f(scale * x + shift)` of `x` `[N, C, ..]`.
///
/// * `line`: scale and shift of a channel.
fn per_channel(
    x: &[f32],
    dims: &[usize],
    activation: Option<Piecewise>,
    line: impl Fn(usize) -> (f32, f32) + Sync,
) -> Result<Vec<f32>> {
    let (channels, plane) = lengths(dims)?;
    let mut y = vec![0.0; x.len()];
    if !y.is_empty() {
        let planes = y.par_chunks_mut(plane).zip(x.par_chunks(plane)).with_min_len(8).enumerate();
        planes.for_each(|(index, (y, x))| {
            let (scale, shift) = line(index % channels);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale + shift);
            if let Some(f) = activation {
                f.apply_in_place(y);
            }
        });
    }
    Ok(y)
}

/// `(x, gamma, beta) -> y`.
struct Normalise {
    mean: Arc<[f32]>,
    /// `1 / sqrt(variance + epsilon)`.
    inverse: Arc<[f32]>,
    count: usize,
    activation: Option<Piecewise>,
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gamma, beta) = (floats(x, lx)?, floats(gamma, lg)?, floats(beta, lb)?);
        let line = |c: usize| {
            let scale = gamma[c] * self.inverse[c];
            (scale, beta[c] - self.mean[c] * scale)
        };
        let y = per_channel(x, lx.dims(), self.activation, line)?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        y: &Tensor,
        gy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gy = gy.contiguous()?;
        let (channels, plane) = lengths(x.dims())?;
        let (xs, gs, ss, ys) =
            (x.storage_and_layout(), gy.storage_and_layout(), gamma.storage_and_layout(), y.storage_and_layout());
        let (xv, gv, scale, yv) = (cpu(&xs.0, xs.1)?, cpu(&gs.0, gs.1)?, cpu(&ss.0, ss.1)?, cpu(&ys.0, ys.1)?);
        if xv.is_empty() {
            return Ok((Some(x.zeros_like()?), Some(gamma.zeros_like()?), Some(gamma.zeros_like()?)));
        }
        let slope = |out: &mut [f32], at: usize| {
            let range = at..at + out.len();
            match self.activation {
                None => out.copy_from_slice(&gv[range]),
                Some(f) => f.pull_back(&yv[range.clone()], &gv[range], out),
            }
        };
        let mut gx = vec![0.0; xv.len()];
        gx.par_chunks_mut(plane).with_min_len(8).enumerate().for_each(|(index, out)| slope(out, index * plane));
        let sums: Vec<(f32, f32)> = (0..channels)
            .into_par_iter()
            .map(|c| {
                let planes = (c * plane..xv.len()).step_by(channels * plane);
                let (mut to_gamma, mut to_beta) = (0.0, 0.0);
                for at in planes {
                    let (a, b) = moments(&xv[at..at + plane], &gx[at..at + plane], self.mean[c]);
                    to_gamma += a;
                    to_beta += b;
                }
                ((to_gamma * f64::from(self.inverse[c])) as f32, to_beta as f32)
            })
            .collect();
        let share = 1.0 / self.count.max(1) as f32;
        let planes = gx.par_chunks_mut(plane).zip(xv.par_chunks(plane)).with_min_len(8).enumerate();
        planes.for_each(|(index, (gx, x))| {
            let c = index % channels;
            let (to_gamma, to_beta) = sums[c];
            let (mean, inverse) = (self.mean[c], self.inverse[c]);
            let outer = scale[c] * inverse;
            let (offset, tilt) = (to_beta * share, to_gamma * share * inverse);
            gx.iter_mut().zip(x).for_each(|(g, x)| *g = outer * (*g - offset - (x - mean) * tilt));
        });
        let (to_gamma, to_beta): (Vec<f32>, Vec<f32>) = sums.into_iter().unzip();
        let tensor = |v: Vec<f32>| Tensor::from_vec(v, channels, x.device());
        Ok((Some(Tensor::from_vec(gx, x.shape(), x.device())?), Some(tensor(to_gamma)?), Some(tensor(to_beta)?)))
    }
}

/// The sums of `(x - mean) * g` and of `g`.
fn moments(x: &[f32], g: &[f32], mean: f32) -> (f64, f64) {
    let (mut products, mut sums) = ([0.0f32; 16], [0.0f32; 16]);
    let body = x.len() / 16 * 16;
    for (x, g) in x.chunks_exact(16).zip(g.chunks_exact(16)) {
        for i in 0..16 {
            products[i] += (x[i] - mean) * g[i];
            sums[i] += g[i];
        }
    }
    let rest = x[body..].iter().zip(&g[body..]);
    let (a, b) = rest.fold((0.0f32, 0.0f32), |(a, b), (x, g)| (a + (x - mean) * g, b + g));
    (f64::from(products.iter().sum::<f32>() + a), f64::from(sums.iter().sum::<f32>() + b))
}

fn cpu<'a>(storage: &'a candle_core::Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        candle_core::Storage::Cpu(storage) => floats(storage, layout),
        _ => bail!("batch norm mixes devices"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn noise(shape: &[usize], salt: f32) -> Var {
        let count: usize = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|i| ((i as f32 * 0.731 + salt).sin() * 43.7).fract() + 0.3).collect();
        Var::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in values(a).iter().zip(values(b)) {
            assert!((a - b).abs() <= 500.0 * f32::EPSILON * b.abs().max(1.0), "{a} is not {b}");
        }
    }

    /// The definition in candle's own ops, whose gradients are candle's.
    fn composed(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f32) -> Tensor {
        let mean = mean_of(x).unwrap();
        let centred = x.broadcast_sub(&beside(&mean, x).unwrap()).unwrap();
        let variance = mean_of(&centred.sqr().unwrap()).unwrap();
        let deviation = variance.affine(1.0, f64::from(epsilon)).unwrap().sqrt().unwrap();
        let scale = beside(&gamma.div(&deviation).unwrap(), x).unwrap();
        centred.broadcast_mul(&scale).unwrap().broadcast_add(&beside(beta, x).unwrap()).unwrap()
    }

    #[test]
    fn value_and_gradients_follow_the_definition_with_and_without_activation() {
        let activations = [None, Some(Piecewise::Leaky { alpha: 0.2 }), Some(Piecewise::Clip { min: -0.3, max: 0.6 })];
        for (shape, activation) in
            [[5, 3, 7, 3].as_slice(), &[5, 3], &[1, 2, 33]].iter().flat_map(|s| activations.map(|a| (s, a)))
        {
            let (x, gamma, beta) = (noise(shape, 0.1), noise(&shape[1..2], 0.2), noise(&shape[1..2], 0.9));
            let batch = statistics(&x).unwrap();
            let ours = normalise(&x, &gamma, &beta, &batch, 1e-3, activation).unwrap();
            let other = elsewhere::normalise(&x, &gamma, &beta, &batch, 1e-3, activation).unwrap();
            let plain = composed(&x, &gamma, &beta, 1e-3);
            let expected = activation.map_or(plain.clone(), |f| crate::lower::piecewise(&plain, f).unwrap());
            close(&ours, &expected);
            close(&other, &expected);
            let weights = noise(shape, 0.5).as_detached_tensor();
            let backward = |y: Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            let (ours, other, expected) = (backward(ours), backward(other), backward(expected));
            for var in [&x, &gamma, &beta] {
                close(ours.get(var).unwrap(), expected.get(var).unwrap());
                close(other.get(var).unwrap(), expected.get(var).unwrap());
            }
        }
    }

    #[test]
    fn the_running_variance_takes_the_unbiased_one() {
        let x = Tensor::new(&[[1f32, 5.0], [3.0, 5.0], [5.0, 5.0]], &Device::Cpu).unwrap();
        let batch = statistics(&x).unwrap();
        assert_eq!(batch.mean.to_vec1::<f32>().unwrap(), [3.0, 5.0]);
        assert_eq!(batch.unbiased_variance().unwrap().to_vec1::<f32>().unwrap(), [4.0, 0.0]);
    }

    #[test]
    fn a_single_value_per_channel_gives_the_shift_and_no_nan() {
        let (x, gamma, beta) = (noise(&[1, 4], 0.1), noise(&[4], 0.2), noise(&[4], 0.3));
        let batch = statistics(&x).unwrap();
        let y = normalise(&x, &gamma, &beta, &batch, 1e-5, None).unwrap();
        close(&y, &beta.reshape((1, 4)).unwrap());
        assert_eq!(batch.unbiased_variance().unwrap().to_vec1::<f32>().unwrap(), [0.0; 4]);
    }
}

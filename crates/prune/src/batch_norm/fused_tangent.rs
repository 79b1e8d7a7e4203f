//! The tangent of batch norm and the activation after it as one op, with its gradient by hand.
//!
//! Per channel, with `s = 1 / sqrt(variance + epsilon)`, `h = s (x - mean)` and `r = mean(h dx)` over a batch of `n` values:
//!
//! - fixed statistics: `dy = gamma s dx + dgamma h + dbeta`, where `s` and the mean are constants;
//! - those of the batch: `dy = gamma s w + dgamma h + dbeta`, where `w = P dx` and `P v = v - mean(v) - h mean(h v)`.
//!
//! For a gradient `g` of `dy` the second one gives, with `dh = s P dx`, `ds = -s^2 mean(h dx)` and `P` symmetric,
//! `to dx = gamma s P g` and `to x = s (dgamma - gamma s r) P g - gamma s^2 (h mean(g w) + w mean(g h))`.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{cpu, floats, lengths, statistics};
use crate::lower::{Dual, Piecewise};

/// As [`super::tangent`], for `x` in motion on the CPU in f32.
pub(super) fn tangent(
    x: &Dual,
    gamma: &Dual,
    beta: &Dual,
    fixed: Option<(&Tensor, &Tensor)>,
    epsilon: f32,
    activation: Option<(Piecewise, &Tensor)>,
) -> Result<Tensor> {
    let inverses = |variance: &Tensor| -> Result<Vec<f32>> {
        Ok(variance.to_vec1::<f32>()?.into_iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect())
    };
    let (mean, inverse) = match fixed {
        Some((mean, variance)) => (mean.to_vec1()?, inverses(variance)?),
        None => {
            let batch = statistics(&x.value)?;
            (batch.mean.to_vec1()?, inverses(&batch.variance)?)
        }
    };
    let or_still = |v: &Dual| v.tangent.clone().map_or_else(|| v.value.zeros_like(), Ok);
    let coefficients = Tensor::stack(&[&gamma.value, &or_still(gamma)?, &or_still(beta)?], 0)?.contiguous()?;
    let activation = activation.map(|(f, y)| (f, y.detach()));
    let op = Tangent { mean, inverse, moving: fixed.is_none(), activation };
    let dx = x.tangent.as_ref().expect("the caller has looked").contiguous()?;
    x.value.contiguous()?.apply_op3(&dx, &coefficients, op)
}

/// `(x, dx, [gamma, dgamma, dbeta]) -> dy`.
struct Tangent {
    mean: Vec<f32>,
    inverse: Vec<f32>,
    /// Whether mean and variance are those of `x` and move with it.
    moving: bool,
    /// What follows, and its output.
    activation: Option<(Piecewise, Tensor)>,
}

/// Means over one channel.
struct Means {
    /// Of `dx`.
    dx: f32,
    /// Of `h dx`.
    product: f32,
}

impl Tangent {
    /// Zero for fixed statistics, where nothing is projected out.
    fn means(&self, x: &[f32], dx: &[f32], channels: usize, plane: usize) -> Vec<Means> {
        let share = channels as f64 / x.len().max(1) as f64;
        let of = |c: usize| {
            if !self.moving {
                return Means { dx: 0.0, product: 0.0 };
            }
            let (mut products, mut sums) = (0.0, 0.0);
            for at in (c * plane..x.len()).step_by((channels * plane).max(1)) {
                let (a, b) = super::moments(&x[at..at + plane], &dx[at..at + plane], self.mean[c]);
                products += a;
                sums += b;
            }
            Means { dx: (sums * share) as f32, product: (products * share * f64::from(self.inverse[c])) as f32 }
        };
        (0..channels).into_par_iter().map(of).collect()
    }

    /// `gradient` times the slope of the activation at `range`.
    fn slope(&self, at: usize, gradient: &mut [f32]) -> Result<()> {
        if let Some((f, y)) = &self.activation {
            let (storage, layout) = y.storage_and_layout();
            let y = &cpu(&storage, layout)?[at..at + gradient.len()];
            let before = gradient.to_vec();
            f.pull_back(y, &before, gradient);
        }
        Ok(())
    }
}

impl CustomOp3 for Tangent {
    fn name(&self) -> &'static str {
        "batch-norm-tangent"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dx: &CpuStorage,
        ld: &Layout,
        coefficients: &CpuStorage,
        lc: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, dx, coefficients) = (floats(x, lx)?, floats(dx, ld)?, floats(coefficients, lc)?);
        let (channels, plane) = lengths(lx.dims())?;
        let means = self.means(x, dx, channels, plane);
        let mut dy = vec![0.0; x.len()];
        if !dy.is_empty() {
            let planes = dy.par_chunks_mut(plane).zip(x.par_chunks(plane).zip(dx.par_chunks(plane)));
            planes.with_min_len(8).enumerate().try_for_each(|(index, (dy, (x, dx)))| {
                let c = index % channels;
                let (gamma, dgamma, dbeta) =
                    (coefficients[c], coefficients[channels + c], coefficients[2 * channels + c]);
                let outer = gamma * self.inverse[c];
                let tilt = self.inverse[c] * (dgamma - outer * means[c].product);
                let (mean, shift) = (self.mean[c], dbeta - outer * means[c].dx);
                dy.iter_mut().zip(x.iter().zip(dx)).for_each(|(dy, (x, dx))| {
                    *dy = outer * dx + tilt * (x - mean) + shift;
                });
                self.slope(index * plane, dy)
            })?;
        }
        Ok((CpuStorage::F32(dy), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        dx: &Tensor,
        coefficients: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (channels, plane) = lengths(x.dims())?;
        let mut g = g.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        let (xs, ds, cs) = (x.storage_and_layout(), dx.storage_and_layout(), coefficients.storage_and_layout());
        let (xv, dv, coefs) = (cpu(&xs.0, xs.1)?, cpu(&ds.0, ds.1)?, cpu(&cs.0, cs.1)?);
        if g.is_empty() {
            return Ok((Some(x.zeros_like()?), Some(dx.zeros_like()?), Some(coefficients.zeros_like()?)));
        }
        let planes = g.par_chunks_mut(plane).with_min_len(8).enumerate();
        planes.try_for_each(|(index, g)| self.slope(index * plane, g))?;
        let means = self.means(xv, dv, channels, plane);
        // Sums over each channel of g, g (x - mean) and g (dx - mean(dx)).
        let sums: Vec<[f64; 3]> = (0..channels)
            .into_par_iter()
            .map(|c| {
                let mut sums = [0.0; 3];
                for at in (c * plane..xv.len()).step_by(channels * plane) {
                    let g = &g[at..at + plane];
                    let (with_x, alone) = super::moments(&xv[at..at + plane], g, self.mean[c]);
                    let (with_dx, _) = super::moments(&dv[at..at + plane], g, means[c].dx);
                    sums[0] += alone;
                    sums[1] += with_x;
                    sums[2] += with_dx;
                }
                sums
            })
            .collect();
        let mut to_coefficients = vec![0.0; 3 * channels];
        for (c, &[alone, with_x, with_dx]) in sums.iter().enumerate() {
            let inverse = f64::from(self.inverse[c]);
            let with_w = with_dx - f64::from(means[c].product) * inverse * with_x;
            to_coefficients[c] = (inverse * with_w) as f32;
            to_coefficients[channels + c] = (inverse * with_x) as f32;
            to_coefficients[2 * channels + c] = alone as f32;
        }
        let share = channels as f32 / xv.len() as f32;
        let moving = f32::from(u8::from(self.moving));
        // What the gradients of one channel are made of: see the top of the file.
        let parts = |c: usize| {
            let inverse = self.inverse[c];
            let [alone, with_x, with_dx] = sums[c].map(|s| s as f32 * share * moving);
            let (mean_g, mean_gh) = (alone, with_x * inverse);
            (mean_g, mean_gh, with_dx - means[c].product * mean_gh)
        };
        let write = |out: &mut [f32], each: &(dyn Fn(usize, usize, &mut [f32]) + Sync)| {
            out.par_chunks_mut(plane).with_min_len(8).enumerate().for_each(|(i, o)| each(i % channels, i * plane, o));
        };
        let mut gx = None;
        if x.track_op() {
            let mut out = vec![0.0; xv.len()];
            write(&mut out, &|c, at, out| {
                let (inverse, mean, mean_dx, r) = (self.inverse[c], self.mean[c], means[c].dx, means[c].product);
                let (mean_g, mean_gh, mean_gw) = parts(c);
                let outer = coefs[c] * inverse;
                let along = inverse * (coefs[channels + c] - outer * r);
                let bend = outer * inverse;
                let inputs = xv[at..].iter().zip(&dv[at..]).zip(&g[at..]);
                out.iter_mut().zip(inputs).for_each(|(o, ((x, dx), g))| {
                    let h = inverse * (x - mean);
                    let w = dx - mean_dx - r * h;
                    *o = along * (g - mean_g - h * mean_gh) - bend * (h * mean_gw + w * mean_gh);
                });
            });
            gx = Some(Tensor::from_vec(out, x.shape(), x.device())?);
        }
        let mut out = vec![0.0; xv.len()];
        write(&mut out, &|c, at, out| {
            let (inverse, mean) = (self.inverse[c], self.mean[c]);
            let (mean_g, mean_gh, _) = parts(c);
            let outer = coefs[c] * inverse;
            let inputs = xv[at..].iter().zip(&g[at..]);
            out.iter_mut().zip(inputs).for_each(|(o, (x, g))| {
                *o = outer * (g - mean_g - inverse * (x - mean) * mean_gh);
            });
        });
        let gdx = Some(Tensor::from_vec(out, x.shape(), x.device())?);
        Ok((gx, gdx, Some(Tensor::from_vec(to_coefficients, (3, channels), x.device())?)))
    }
}

//! Batch norm with fixed statistics: one scale and one shift per channel.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{beside, cpu, floats, lengths, per_channel};
use crate::conv::{has_custom_ops, lane_sum};
use crate::lower::{Piecewise, piecewise};

/// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` with fixed statistics, put through `activation` if there is one.
pub(crate) fn affine(
    x: &Tensor,
    [gamma, beta]: [&Tensor; 2],
    [mean, variance]: [&Tensor; 2],
    epsilon: f32,
    activation: Option<Piecewise>,
) -> Result<Tensor> {
    let scale = gamma.div(&variance.affine(1.0, f64::from(epsilon))?.sqrt()?)?;
    if has_custom_ops(x) {
        let shift = (beta - (mean * &scale)?)?;
        return x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, Affine { activation });
    }
    let y = x.broadcast_sub(&beside(mean, x)?)?.broadcast_mul(&beside(&scale, x)?)?;
    let y = y.broadcast_add(&beside(beta, x)?)?;
    activation.map_or(Ok(y.clone()), |f| piecewise(&y, f))
}

/// `(x, scale, shift) -> f(scale * x + shift)`, the last two one per channel.
struct Affine {
    activation: Option<Piecewise>,
}

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "channel-affine"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        scale: &CpuStorage,
        ls: &Layout,
        shift: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, scale, shift) = (floats(x, lx)?, floats(scale, ls)?, floats(shift, lt)?);
        let y = per_channel(x, lx.dims(), self.activation, |c| (scale[c], shift[c]))?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        y: &Tensor,
        gy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gy = gy.contiguous()?;
        if let Some(f) = self.activation {
            gy = crate::lower::piecewise_tangent(y, &gy, f)?;
        }
        let (channels, plane) = lengths(x.dims())?;
        let (xs, gs, ss) = (x.storage_and_layout(), gy.storage_and_layout(), scale.storage_and_layout());
        let (xv, gv, scales) = (cpu(&xs.0, xs.1)?, cpu(&gs.0, gs.1)?, cpu(&ss.0, ss.1)?);
        let (mut gx, mut gscale, mut gshift) = (None, None, None);
        if x.track_op() {
            let mut out = vec![0.0; gv.len()];
            let planes = out.par_chunks_mut(plane.max(1)).zip(gv.par_chunks(plane.max(1))).with_min_len(8).enumerate();
            planes.for_each(|(index, (out, g))| {
                let scale = scales[index % channels];
                out.iter_mut().zip(g).for_each(|(o, g)| *o = g * scale);
            });
            gx = Some(Tensor::from_vec(out, x.shape(), x.device())?);
        }
        if scale.track_op() || shift.track_op() {
            let sums: Vec<(f32, f32)> = (0..channels)
                .into_par_iter()
                .map(|c| {
                    let planes = (c * plane..xv.len()).step_by((channels * plane).max(1));
                    let (mut products, mut sums) = (0.0, 0.0);
                    for at in planes {
                        let (x, g) = (&xv[at..at + plane], &gv[at..at + plane]);
                        products += super::moments(x, g, 0.0).0;
                        sums += f64::from(lane_sum(g));
                    }
                    (products as f32, sums as f32)
                })
                .collect();
            let (products, sums): (Vec<f32>, Vec<f32>) = sums.into_iter().unzip();
            gscale = Some(Tensor::from_vec(products, channels, x.device())?);
            gshift = Some(Tensor::from_vec(sums, channels, x.device())?);
        }
        Ok((gx, gscale, gshift))
    }
}

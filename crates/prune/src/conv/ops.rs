//! The custom ops: forward, input gradient, weight gradient, bias and its gradient.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Geometry, dense, depthwise, has_custom_ops};
use crate::given::wanted;

/// The floats of a contiguous tensor.
pub(super) fn view<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (Some((start, end)), CpuStorage::F32(all)) = (layout.contiguous_offsets(), storage) else {
        bail!("expected a contiguous f32 tensor, found {:?} of {:?}", layout.shape(), storage_type(storage));
    };
    Ok(&all[start..end])
}

fn storage_type(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// `(x, weight) -> y`.
pub(super) struct Forward(pub Geometry);
/// `(gradient of y, weight) -> gradient of x`.
pub(super) struct InputGradient(pub Geometry);
/// `(x, gradient of y) -> gradient of weight`.
pub(super) struct WeightGradient(pub Geometry);

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (g, x, w) = (&self.0, view(x, lx)?, view(w, lw)?);
        let y = if g.is_depthwise() { depthwise::forward(g, x, w) } else { dense::forward(g, x, w) };
        Ok((CpuStorage::F32(y), Shape::from(&g.output_shape())))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, gy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gy = gy.contiguous()?;
        let gx = wanted(x, || gy.apply_op2(w, InputGradient(self.0)))?;
        Ok((gx, wanted(w, || x.apply_op2(&gy, WeightGradient(self.0)))?))
    }
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d-input-gradient"
    }

    fn cpu_fwd(&self, gy: &CpuStorage, lgy: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (g, gy, w) = (&self.0, view(gy, lgy)?, view(w, lw)?);
        let gx = if g.is_depthwise() { depthwise::input_gradient(g, gy, w) } else { dense::input_gradient(g, gy, w) };
        Ok((CpuStorage::F32(gx), Shape::from(&g.input_shape())))
    }

    fn bwd(&self, gy: &Tensor, w: &Tensor, _: &Tensor, ggx: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ggx = ggx.contiguous()?;
        let to_gy = wanted(gy, || ggx.apply_op2(w, Forward(self.0)))?;
        Ok((to_gy, wanted(w, || ggx.apply_op2(gy, WeightGradient(self.0)))?))
    }
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d-weight-gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, gy: &CpuStorage, lgy: &Layout) -> Result<(CpuStorage, Shape)> {
        let (g, x, gy) = (&self.0, view(x, lx)?, view(gy, lgy)?);
        let gw = if g.is_depthwise() { depthwise::weight_gradient(g, x, gy) } else { dense::weight_gradient(g, x, gy) };
        Ok((CpuStorage::F32(gw), Shape::from(&g.weight_shape())))
    }

    fn bwd(&self, x: &Tensor, gy: &Tensor, _: &Tensor, ggw: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ggw = ggw.contiguous()?;
        let to_x = wanted(x, || gy.apply_op2(&ggw, InputGradient(self.0)))?;
        Ok((to_x, wanted(gy, || x.apply_op2(&ggw, Forward(self.0)))?))
    }
}

/// `(y, bias) -> y + bias` over axis 1.
pub(super) struct AddBias;
/// `y -> sum over every axis but 1`.
struct ChannelSum;

/// The sum of `y` `[N, C, ..]` over every axis but 1, `[C]`.
pub(crate) fn channel_sum(y: &Tensor) -> Result<Tensor> {
    if has_custom_ops(y) {
        return y.contiguous()?.apply_op1(ChannelSum);
    }
    let (batch, channels) = (y.dim(0)?, y.dim(1)?);
    // In two steps, because a GPU adds up one number per block of threads.
    y.reshape((batch, channels, ()))?.sum(2)?.sum(0)
}

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, y: &CpuStorage, ly: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, b) = (view(y, ly)?, view(b, lb)?);
        let plane = ly.dims().iter().skip(2).product::<usize>();
        if plane == 0 || b.is_empty() {
            return Ok((CpuStorage::F32(Vec::new()), ly.shape().clone()));
        }
        let mut out = vec![0.0; y.len()];
        let image = plane * b.len();
        out.par_chunks_mut(image).zip(y.par_chunks(image)).for_each(|(out, y)| {
            for ((out, y), &b) in out.chunks_mut(plane).zip(y.chunks(plane)).zip(b) {
                out.iter_mut().zip(y).for_each(|(out, y)| *out = y + b);
            }
        });
        Ok((CpuStorage::F32(out), ly.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, bias: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(g.clone()), wanted(bias, || channel_sum(g))?))
    }
}

impl CustomOp1 for ChannelSum {
    fn name(&self) -> &'static str {
        "channel-sum"
    }

    fn cpu_fwd(&self, y: &CpuStorage, ly: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = view(y, ly)?;
        let channels = ly.dims()[1];
        let plane = ly.dims().iter().skip(2).product::<usize>();
        let sum = |c: usize| -> f32 {
            let planes = y.chunks(plane * channels).map(|image| &image[c * plane..][..plane]);
            planes.map(|p| f64::from(lane_sum(p))).sum::<f64>() as f32
        };
        let sums = if plane == 0 { vec![0.0; channels] } else { (0..channels).into_par_iter().map(sum).collect() };
        Ok((CpuStorage::F32(sums), channels.into()))
    }

    fn bwd(&self, y: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let mut shape = vec![1; y.rank()];
        shape[1] = y.dim(1)?;
        Ok(Some(g.reshape(shape)?.broadcast_as(y.shape())?.contiguous()?))
    }
}

/// The sum of `values` in sixteen interleaved lanes, an order that vector units can follow.
pub(crate) fn lane_sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
    }
    lanes.iter().sum::<f32>() + rest
}

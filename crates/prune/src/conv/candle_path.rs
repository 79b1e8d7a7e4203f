//! The same convolution with candle's own ops, for devices other than the CPU and for double precision.

use candle_core::{Result, Tensor};

use super::Geometry;

/// `x` convolved with `weight`, without bias.
///
/// candle knows one padding, one stride and one dilation for both axes, and its gradient assumes that the last window ends at
/// the last pixel; padding, cutting and thinning out around the call make up for all of that.
pub(super) fn conv2d(x: &Tensor, weight: &Tensor, g: &Geometry) -> Result<Tensor> {
    let [top, left, bottom, right] = g.window.pads;
    let mut x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    let same_stride = g.window.stride[0] == g.window.stride[1];
    let mut weight = weight.clone();
    let dilation = if g.window.dilation[0] == g.window.dilation[1] {
        g.window.dilation[0]
    } else {
        weight = spread(&spread(&weight, 2, g.window.dilation[0])?, 3, g.window.dilation[1])?;
        1
    };
    for axis in 0..2 {
        let span = (g.kernel[axis] - 1) * g.window.dilation[axis] + 1;
        x = x.narrow(axis + 2, 0, (g.output[axis] - 1) * g.window.stride[axis] + span)?;
    }
    let stride = if same_stride { g.window.stride[0] } else { 1 };
    let mut y = x.contiguous()?.conv2d(&weight.contiguous()?, 0, stride, dilation, g.groups)?;
    if !same_stride {
        for axis in 0..2 {
            let kept: Vec<u32> = (0..g.output[axis]).map(|i| (i * g.window.stride[axis]) as u32).collect();
            y = y.contiguous()?.index_select(&Tensor::new(kept, y.device())?, axis + 2)?;
        }
    }
    Ok(y)
}

/// Puts `dilation - 1` zeros between the taps along `axis`.
fn spread(weight: &Tensor, axis: usize, dilation: usize) -> Result<Tensor> {
    if dilation == 1 {
        return Ok(weight.clone());
    }
    let taps = weight.dim(axis)?;
    let mut shape = weight.dims().to_vec();
    shape[axis] = taps * dilation;
    let spread = weight.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, dilation - 1)?.reshape(shape)?;
    spread.narrow(axis, 0, (taps - 1) * dilation + 1)
}

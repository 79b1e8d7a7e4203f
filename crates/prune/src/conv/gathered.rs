//! The same convolution as matrix products over patches gathered by an index: for devices other than the CPU, and for double
//! precision.
//!
//! Two ops of candle are enough, `index_select` and `matmul`, whatever the groups, strides, paddings and dilations; candle's own
//! convolution loops over groups, and its input gradient uses one thread per pixel and no tiles. Images are the innermost axis,
//! `[C, pixels, N]`: patches of all of them are then one matrix per group, and neighbouring threads copy neighbouring floats.
//! The input gradient is the same product with the places that each input pixel was read from, so nothing is ever scattered,
//! and every sum has the order that the matrix product gives it.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DeviceLocation, Result, Tensor};

use super::Geometry;
use crate::given::{given, wanted};

/// Most elements of the patches in memory at a time: 1 GiB in single precision. candle's kernels count in 32 bits.
const PATCHES: usize = 1 << 28;

/// Stands for a place in the padding in an index: candle gathers a zero there.
const PADDING: u32 = u32::MAX;

/// Whose pixels a patch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    /// Those of the input, for every output pixel.
    Input,
    /// Those of the output, for every input pixel.
    Output,
}

thread_local! {
    /// Indices by geometry, on the device; a network has a few.
    static INDICES: RefCell<HashMap<(Geometry, Side, DeviceLocation), Tensor>> = RefCell::default();
}

/// `x` convolved with `weight`, without bias.
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, g: Geometry) -> Result<Tensor> {
    let value = forward(&g, &x.detach(), &weight.detach())?;
    given(x, weight, value, move |x, weight, gy| {
        let to_x = wanted(x, || input_gradient(&g, gy, &weight.detach()))?;
        Ok((to_x, wanted(weight, || weight_gradient(&g, &x.detach(), gy))?))
    })
}

fn forward(g: &Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let weight = weight.reshape((g.groups, g.group_out(), g.patch()))?;
    let part = |first, images| {
        let y = weight.matmul(&patches(g, Side::Input, &x.narrow(0, first, images)?)?)?;
        images_first(&y, g.out_channels, g.output)
    };
    Tensor::cat(&parts(g, Side::Input, part)?, 0)
}

fn input_gradient(g: &Geometry, gy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let taps = g.kernel[0] * g.kernel[1];
    let weight = weight.reshape((g.groups, g.group_out(), g.group_in(), taps))?.transpose(1, 2)?.contiguous()?;
    let weight = weight.reshape((g.groups, g.group_in(), g.group_out() * taps))?;
    let part = |first, images| {
        let gx = weight.matmul(&patches(g, Side::Output, &gy.narrow(0, first, images)?)?)?;
        images_first(&gx, g.in_channels, g.input)
    };
    Tensor::cat(&parts(g, Side::Output, part)?, 0)
}

fn weight_gradient(g: &Geometry, x: &Tensor, gy: &Tensor) -> Result<Tensor> {
    let part = |first, images| {
        let patches = patches(g, Side::Input, &x.narrow(0, first, images)?)?;
        let gy = images_last(&gy.narrow(0, first, images)?)?.reshape((g.groups, g.group_out(), ()))?;
        gy.matmul(&patches.t()?)
    };
    let mut parts = parts(g, Side::Input, part)?.into_iter();
    let first = parts.next().expect("there is a part, even of no image");
    parts.try_fold(first, |sum, part| sum + part)?.reshape(&g.weight_shape())
}

/// The results of `part(first image, images)` for parts of the batch whose patches fit into memory.
fn parts(g: &Geometry, from: Side, part: impl Fn(usize, usize) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let taps = g.kernel[0] * g.kernel[1];
    let per_image = match from {
        Side::Input => g.in_channels * taps * g.out_plane(),
        Side::Output => g.out_channels * taps * g.in_plane(),
    };
    let images = (PATCHES / per_image.max(1)).max(1);
    let starts = (0..g.batch.max(1)).step_by(images);
    starts.map(|first| part(first, images.min(g.batch - first))).collect()
}

/// The patches of `t` `[N, C, h, w]` as `[groups, C / groups * taps, pixels * N]`: rows are channel and tap, columns the pixels of
/// the other side.
fn patches(g: &Geometry, from: Side, t: &Tensor) -> Result<Tensor> {
    let t = images_last(t)?;
    let t = if g.is_pointwise() { t } else { t.index_select(&index(g, from, &t)?, 1)? };
    let (channels, columns) = match from {
        Side::Input => (g.group_in(), g.out_plane()),
        Side::Output => (g.group_out(), g.in_plane()),
    };
    let images = t.dim(2)?;
    t.reshape((g.groups, channels * g.kernel[0] * g.kernel[1], columns * images))
}

/// `[N, C, h, w]` as `[C, h * w, N]`.
fn images_last(t: &Tensor) -> Result<Tensor> {
    let (images, channels, h, w) = t.dims4()?;
    t.reshape((images, channels, h * w))?.permute((1, 2, 0))?.contiguous()
}

/// `[groups, C / groups, h * w * N]` as `[N, C, h, w]`.
fn images_first(t: &Tensor, channels: usize, [h, w]: [usize; 2]) -> Result<Tensor> {
    let images = t.elem_count() / (channels * h * w).max(1);
    t.reshape((channels, h * w, images))?.permute((2, 0, 1))?.contiguous()?.reshape((images, channels, h, w))
}

/// The index of `from`'s pixels, tap by tap, on the device of `t`.
fn index(g: &Geometry, from: Side, t: &Tensor) -> Result<Tensor> {
    let key = (Geometry { batch: 0, ..*g }, from, t.device().location());
    INDICES.with_borrow_mut(|known| {
        // The same GPU may have been opened again.
        if let Some(index) = known.get(&key).filter(|index| index.device().same_device(t.device())) {
            return Ok(index.clone());
        }
        let places = places(g, from);
        let count = places.len();
        let index = Tensor::from_vec(places, count, t.device())?;
        known.insert(key, index.clone());
        Ok(index)
    })
}

/// For every tap and every pixel of the other side: the pixel of `from` that the tap joins it with.
fn places(g: &Geometry, from: Side) -> Vec<u32> {
    let (here, there) = match from {
        Side::Input => (g.output, g.input),
        Side::Output => (g.input, g.output),
    };
    let mut places = Vec::with_capacity(g.kernel[0] * g.kernel[1] * here[0] * here[1]);
    for ky in 0..g.kernel[0] {
        for kx in 0..g.kernel[1] {
            for y in 0..here[0] {
                let row = place(g, from, 0, ky, y);
                places.extend((0..here[1]).map(|x| match (row, place(g, from, 1, kx, x)) {
                    (Some(row), Some(column)) => (row * there[1] + column) as u32,
                    _ => PADDING,
                }));
            }
        }
    }
    places
}

/// Along one axis, the position of `from` that tap `k` joins with position `i` of the other side: `o * stride + k * dilation - pad`
/// is the input position of output position `o`.
fn place(g: &Geometry, from: Side, axis: usize, k: usize, i: usize) -> Option<usize> {
    let (stride, pad) = (g.window.stride[axis], g.window.pads[axis]);
    let offset = k * g.window.dilation[axis];
    match from {
        Side::Input => (i * stride + offset).checked_sub(pad).filter(|place| *place < g.input[axis]),
        Side::Output => {
            let steps = (i + pad).checked_sub(offset).filter(|steps| steps % stride == 0)?;
            Some(steps / stride).filter(|place| *place < g.output[axis])
        }
    }
}

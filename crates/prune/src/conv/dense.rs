//! Grouped convolution as matrix products over patch matrices that stay in the second-level cache.

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{CpuStorage, Result};
use rayon::prelude::*;

use super::Geometry;
use super::columns::{gather, scatter};
use super::ops::View;
use super::product::{Matrix, product};

/// Floats of one patch matrix: 1 MiB, half of a usual second-level cache.
const PANEL: usize = 1 << 18;
/// Images whose weight gradients are summed apart, so that the order of the sum depends on the batch alone.
const PARTIAL_SUMS: usize = 8;
/// Rows of a fully connected layer that one task computes.
const LINEAR_ROWS: usize = 32;

thread_local! {
    static PATCHES: RefCell<CpuStorage> = const { RefCell::new(CpuStorage::F32(Vec::new())) };
    static GRADIENTS: RefCell<CpuStorage> = const { RefCell::new(CpuStorage::F32(Vec::new())) };
}

/// The first `length` floats of a scratch buffer; old contents stay.
fn scratch(storage: &mut CpuStorage, length: usize) -> &mut [f32] {
    if !matches!(storage, CpuStorage::F32(_)) {
        *storage = CpuStorage::F32(Vec::new());
    }
    let CpuStorage::F32(buffer) = storage else { unreachable!("set one line above") };
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// How a batch is cut: `images` whole images per panel, or `rows` output rows of one image.
#[derive(Clone, Copy)]
struct Cut {
    images: usize,
    rows: usize,
}

impl Cut {
    fn new(g: &Geometry) -> Cut {
        let pixels = (PANEL / g.patch().max(1)).clamp(64, 1024);
        if g.out_plane() >= pixels {
            return Cut { images: 1, rows: (pixels / g.output[1]).max(1) };
        }
        let images = (pixels / g.out_plane().max(1)).clamp(1, g.batch.div_ceil(PARTIAL_SUMS).max(1));
        Cut { images, rows: g.output[0] }
    }

    fn row_ranges(self, g: &Geometry) -> impl Iterator<Item = Range<usize>> {
        let end = g.output[0];
        (0..end).step_by(self.rows).map(move |first| first..(first + self.rows).min(end))
    }
}

/// `y` `[N, O, oh, ow]` from `x` and `weight`.
pub(super) fn forward(g: &Geometry, x: View, weight: View) -> Result<Vec<f32>> {
    let mut y = vec![0.0; g.output_shape().iter().product()];
    if y.is_empty() {
        return Ok(y);
    }
    if g.is_linear() {
        let features = g.patch();
        y.par_chunks_mut(LINEAR_ROWS * g.out_channels).enumerate().try_for_each(|(task, y)| -> Result<()> {
            let rows = y.len() / g.out_channels;
            let x = Matrix::rows(x.storage, x.offset + task * LINEAR_ROWS * features, features);
            let weight = Matrix::rows(weight.storage, weight.offset, features).t();
            y.copy_from_slice(&product(x, weight, [rows, g.out_channels, features])?);
            Ok(())
        })?;
        return Ok(y);
    }
    let cut = Cut::new(g);
    let (in_image, out_image) = (g.in_channels * g.in_plane(), g.out_channels * g.out_plane());
    y.par_chunks_mut(cut.images * out_image).enumerate().try_for_each(|(task, y)| {
        let first = task * cut.images;
        let images = y.len() / out_image;
        PATCHES.with_borrow_mut(|patches| {
            for group in 0..g.groups {
                let kernel = Matrix::rows(weight.storage, weight.offset + group * g.group_out() * g.patch(), g.patch());
                for rows in cut.row_ranges(g) {
                    let pixels = rows.len() * g.output[1];
                    let start = rows.start * g.output[1];
                    let columns = images * pixels;
                    let channel = (first * g.in_channels + group * g.group_in()) * g.in_plane();
                    let operand = if g.is_pointwise() && images == 1 {
                        Matrix::rows(x.storage, x.offset + channel + start, g.in_plane())
                    } else {
                        let panel = scratch(patches, g.patch() * columns);
                        for image in 0..images {
                            let planes = &x.data[channel + image * in_image..][..g.group_in() * g.in_plane()];
                            gather(g, planes, rows.clone(), &mut panel[image * pixels..], columns);
                        }
                        Matrix::rows(patches, 0, columns)
                    };
                    let out = product(kernel, operand, [g.group_out(), columns, g.patch()])?;
                    for (o, line) in out.chunks(columns).enumerate() {
                        for (image, line) in line.chunks(pixels).enumerate() {
                            let plane = (image * g.out_channels + group * g.group_out() + o) * g.out_plane();
                            y[plane + start..][..pixels].copy_from_slice(line);
                        }
                    }
                }
            }
            Ok::<_, candle_core::Error>(())
        })
    })?;
    Ok(y)
}

/// The gradient of `x` from the gradient of `y`.
pub(super) fn input_gradient(g: &Geometry, gy: View, weight: View) -> Result<Vec<f32>> {
    let mut gx = vec![0.0; g.input_shape().iter().product()];
    if gx.is_empty() {
        return Ok(gx);
    }
    if g.is_linear() {
        let features = g.patch();
        gx.par_chunks_mut(LINEAR_ROWS * features).enumerate().try_for_each(|(task, gx)| -> Result<()> {
            let rows = gx.len() / features;
            let gy = Matrix::rows(gy.storage, gy.offset + task * LINEAR_ROWS * g.out_channels, g.out_channels);
            let weight = Matrix::rows(weight.storage, weight.offset, features);
            gx.copy_from_slice(&product(gy, weight, [rows, features, g.out_channels])?);
            Ok(())
        })?;
        return Ok(gx);
    }
    let cut = Cut::new(g);
    let (in_image, out_image) = (g.in_channels * g.in_plane(), g.out_channels * g.out_plane());
    gx.par_chunks_mut(cut.images * in_image).enumerate().try_for_each(|(task, gx)| {
        let first = task * cut.images;
        let images = gx.len() / in_image;
        GRADIENTS.with_borrow_mut(|gradients| {
            for group in 0..g.groups {
                let offset = weight.offset + group * g.group_out() * g.patch();
                let kernel = Matrix::rows(weight.storage, offset, g.patch()).t();
                for rows in cut.row_ranges(g) {
                    let pixels = rows.len() * g.output[1];
                    let columns = images * pixels;
                    let panel = GradientPanel { gy, first, images, group, rows: rows.clone() };
                    let operand = panel.matrix(g, out_image, gradients);
                    let mut out = product(kernel, operand, [g.patch(), columns, g.group_out()])?;
                    for image in 0..images {
                        let channel = image * in_image + group * g.group_in() * g.in_plane();
                        let planes = &mut gx[channel..][..g.group_in() * g.in_plane()];
                        scatter(g, &mut out[image * pixels..], rows.clone(), columns, planes);
                    }
                }
            }
            Ok::<_, candle_core::Error>(())
        })
    })?;
    Ok(gx)
}

/// The gradient of `weight` from `x` and the gradient of `y`.
pub(super) fn weight_gradient(g: &Geometry, x: View, gy: View) -> Result<Vec<f32>> {
    let length = g.out_channels * g.patch();
    if length == 0 || gy.data.is_empty() {
        return Ok(vec![0.0; length]);
    }
    if g.is_linear() {
        let mut gw = vec![0.0; length];
        let features = g.patch();
        gw.par_chunks_mut(LINEAR_ROWS * features).enumerate().try_for_each(|(task, gw)| -> Result<()> {
            let rows = gw.len() / features;
            let gy = Matrix::rows(gy.storage, gy.offset + task * LINEAR_ROWS, g.out_channels).t();
            let x = Matrix::rows(x.storage, x.offset, features);
            gw.copy_from_slice(&product(gy, x, [rows, features, g.batch])?);
            Ok(())
        })?;
        return Ok(gw);
    }
    let share = g.batch.div_ceil(PARTIAL_SUMS);
    let starts: Vec<usize> = (0..g.batch).step_by(share).collect();
    let partial = |first: &usize| partial_weight_gradient(g, x, gy, *first..(first + share).min(g.batch));
    let partials = starts.par_iter().map(partial).collect::<Result<Vec<_>>>()?;
    let mut partials = partials.into_iter();
    let mut gw = partials.next().expect("a batch that is not empty has a first share");
    for other in partials {
        gw.iter_mut().zip(&other).for_each(|(a, b)| *a += b);
    }
    Ok(gw)
}

fn partial_weight_gradient(g: &Geometry, x: View, gy: View, share: Range<usize>) -> Result<Vec<f32>> {
    let cut = Cut::new(g);
    let (in_image, out_image) = (g.in_channels * g.in_plane(), g.out_channels * g.out_plane());
    let mut gw = vec![0.0; g.out_channels * g.patch()];
    PATCHES.with_borrow_mut(|patches| {
        GRADIENTS.with_borrow_mut(|gradients| {
            for first in share.clone().step_by(cut.images) {
                let images = cut.images.min(share.end - first);
                for (group, gw) in gw.chunks_mut(g.group_out() * g.patch()).enumerate() {
                    for rows in cut.row_ranges(g) {
                        let pixels = rows.len() * g.output[1];
                        let columns = images * pixels;
                        let channel = (first * g.in_channels + group * g.group_in()) * g.in_plane();
                        let operand = if g.is_pointwise() && images == 1 {
                            let start = rows.start * g.output[1];
                            Matrix::rows(x.storage, x.offset + channel + start, g.in_plane())
                        } else {
                            let panel = scratch(patches, g.patch() * columns);
                            for image in 0..images {
                                let planes = &x.data[channel + image * in_image..][..g.group_in() * g.in_plane()];
                                gather(g, planes, rows.clone(), &mut panel[image * pixels..], columns);
                            }
                            Matrix::rows(patches, 0, columns)
                        };
                        let panel = GradientPanel { gy, first, images, group, rows };
                        let gradient = panel.matrix(g, out_image, gradients);
                        let out = product(gradient, operand.t(), [g.group_out(), g.patch(), columns])?;
                        gw.iter_mut().zip(&out).for_each(|(a, b)| *a += b);
                    }
                }
            }
            Ok(gw)
        })
    })
}

/// A part of the gradient of `y` as a matrix of output channels by pixels.
struct GradientPanel<'a> {
    gy: View<'a>,
    first: usize,
    images: usize,
    group: usize,
    rows: Range<usize>,
}

impl<'a> GradientPanel<'a> {
    /// In place for one image, copied side by side into `buffer` for several.
    fn matrix(&self, g: &Geometry, out_image: usize, buffer: &'a mut CpuStorage) -> Matrix<'a> {
        let start = self.rows.start * g.output[1];
        let channel = self.first * out_image + self.group * g.group_out() * g.out_plane() + start;
        if self.images == 1 {
            return Matrix::rows(self.gy.storage, self.gy.offset + channel, g.out_plane());
        }
        let pixels = self.rows.len() * g.output[1];
        let columns = self.images * pixels;
        let panel = scratch(buffer, g.group_out() * columns);
        for (o, line) in panel.chunks_mut(columns).enumerate() {
            for (image, line) in line.chunks_mut(pixels).enumerate() {
                let from = channel + image * out_image + o * g.out_plane();
                line.copy_from_slice(&self.gy.data[from..][..pixels]);
            }
        }
        Matrix::rows(buffer, 0, columns)
    }
}

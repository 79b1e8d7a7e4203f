//! Grouped convolution as matrix products over patch matrices that stay in the second-level cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;
use sentei_kernels::product::{Matrix, Write, product};

use super::Geometry;
use super::columns::{gather, scatter};

/// Floats of one patch matrix: 1 MiB, half of a usual second-level cache.
const PANEL: usize = 1 << 18;
/// Images whose weight gradients are summed apart, so that the order of the sum depends on the batch alone.
const PARTIAL_SUMS: usize = 8;
/// Rows of a fully connected layer that one task computes.
const LINEAR_ROWS: usize = 32;

/// Panels of one worker thread; they grow to the largest one asked for and keep what the last task left in them.
#[derive(Default)]
struct Scratch {
    patches: Vec<f32>,
    gradients: Vec<f32>,
    products: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The first `length` floats of a scratch buffer; old contents stay.
fn panel(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
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
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; g.output_shape().iter().product()];
    if y.is_empty() {
        return y;
    }
    if g.is_linear() {
        let features = g.patch();
        y.par_chunks_mut(LINEAR_ROWS * g.out_channels).enumerate().for_each(|(task, y)| {
            let rows = y.len() / g.out_channels;
            let x = Matrix::rows(&x[task * LINEAR_ROWS * features..], features);
            let weight = Matrix::rows(weight, features).t();
            product([rows, g.out_channels, features], y, g.out_channels, Write::Replace, x, weight);
        });
        return y;
    }
    let cut = Cut::new(g);
    let out_image = g.out_channels * g.out_plane();
    y.par_chunks_mut(cut.images * out_image).enumerate().for_each(|(task, y)| {
        let images = y.len() / out_image;
        SCRATCH.with_borrow_mut(|scratch| {
            for group in 0..g.groups {
                let kernel = Matrix::rows(&weight[group * g.group_out() * g.patch()..], g.patch());
                for rows in cut.row_ranges(g) {
                    let part = Part { first: task * cut.images, images, group, rows };
                    let (pixels, columns) = (part.pixels(g), part.columns(g));
                    let patches = part.patches(g, x, &mut scratch.patches);
                    let sizes = [g.group_out(), columns, g.patch()];
                    let start = group * g.group_out() * g.out_plane() + part.rows.start * g.output[1];
                    if images == 1 {
                        product(sizes, &mut y[start..], g.out_plane(), Write::Replace, kernel, patches);
                        continue;
                    }
                    let out = panel(&mut scratch.products, g.group_out() * columns);
                    product(sizes, out, columns, Write::Replace, kernel, patches);
                    for (o, line) in out.chunks(columns).enumerate() {
                        for (image, line) in line.chunks(pixels).enumerate() {
                            y[start + image * out_image + o * g.out_plane()..][..pixels].copy_from_slice(line);
                        }
                    }
                }
            }
        });
    });
    y
}

/// The gradient of `x` from the gradient of `y`.
pub(super) fn input_gradient(g: &Geometry, gy: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut gx = vec![0.0; g.input_shape().iter().product()];
    if gx.is_empty() || gy.is_empty() {
        return gx;
    }
    if g.is_linear() {
        let features = g.patch();
        gx.par_chunks_mut(LINEAR_ROWS * features).enumerate().for_each(|(task, gx)| {
            let rows = gx.len() / features;
            let gy = Matrix::rows(&gy[task * LINEAR_ROWS * g.out_channels..], g.out_channels);
            let weight = Matrix::rows(weight, features);
            product([rows, features, g.out_channels], gx, features, Write::Replace, gy, weight);
        });
        return gx;
    }
    let cut = Cut::new(g);
    let in_image = g.in_channels * g.in_plane();
    gx.par_chunks_mut(cut.images * in_image).enumerate().for_each(|(task, gx)| {
        let images = gx.len() / in_image;
        SCRATCH.with_borrow_mut(|scratch| {
            for group in 0..g.groups {
                let kernel = Matrix::rows(&weight[group * g.group_out() * g.patch()..], g.patch()).t();
                for rows in cut.row_ranges(g) {
                    let part = Part { first: task * cut.images, images, group, rows };
                    let (pixels, columns) = (part.pixels(g), part.columns(g));
                    let gradient = part.gradient(g, gy, &mut scratch.gradients);
                    let sizes = [g.patch(), columns, g.group_out()];
                    let channel = group * g.group_in() * g.in_plane();
                    if g.is_pointwise() && images == 1 {
                        let planes = &mut gx[channel + part.rows.start * g.output[1]..];
                        product(sizes, planes, g.in_plane(), Write::Replace, kernel, gradient);
                        continue;
                    }
                    let out = panel(&mut scratch.products, g.patch() * columns);
                    product(sizes, out, columns, Write::Replace, kernel, gradient);
                    for image in 0..images {
                        let planes = &mut gx[image * in_image + channel..][..g.group_in() * g.in_plane()];
                        scatter(g, &mut out[image * pixels..], part.rows.clone(), columns, planes);
                    }
                }
            }
        });
    });
    gx
}

/// The gradient of `weight` from `x` and the gradient of `y`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let length = g.out_channels * g.patch();
    if length == 0 || gy.is_empty() {
        return vec![0.0; length];
    }
    if g.is_linear() {
        let mut gw = vec![0.0; length];
        let features = g.patch();
        gw.par_chunks_mut(LINEAR_ROWS * features).enumerate().for_each(|(task, gw)| {
            let rows = gw.len() / features;
            let gy = Matrix::rows(&gy[task * LINEAR_ROWS..], g.out_channels).t();
            product([rows, features, g.batch], gw, features, Write::Replace, gy, Matrix::rows(x, features));
        });
        return gw;
    }
    let share = g.batch.div_ceil(PARTIAL_SUMS);
    let mut partials = vec![0.0; g.batch.div_ceil(share) * length];
    partials.par_chunks_mut(length).enumerate().for_each(|(i, gw)| {
        add_weight_gradient(g, x, gy, i * share..((i + 1) * share).min(g.batch), gw);
    });
    let (gw, others) = partials.split_at_mut(length);
    for other in others.chunks(length) {
        gw.iter_mut().zip(other).for_each(|(a, b)| *a += b);
    }
    partials.truncate(length);
    partials
}

/// Adds what the images `share` contribute, in their order.
fn add_weight_gradient(g: &Geometry, x: &[f32], gy: &[f32], share: Range<usize>, gw: &mut [f32]) {
    let cut = Cut::new(g);
    SCRATCH.with_borrow_mut(|scratch| {
        for first in share.clone().step_by(cut.images) {
            let images = cut.images.min(share.end - first);
            for (group, gw) in gw.chunks_mut(g.group_out() * g.patch()).enumerate() {
                for rows in cut.row_ranges(g) {
                    let part = Part { first, images, group, rows };
                    let patches = part.patches(g, x, &mut scratch.patches).t();
                    let gradient = part.gradient(g, gy, &mut scratch.gradients);
                    let sizes = [g.group_out(), g.patch(), part.columns(g)];
                    product(sizes, gw, g.patch(), Write::Add, gradient, patches);
                }
            }
        }
    });
}

/// The output rows `rows` of one group in `images` images from `first` on: the columns of one product.
struct Part {
    first: usize,
    images: usize,
    group: usize,
    rows: Range<usize>,
}

impl Part {
    fn pixels(&self, g: &Geometry) -> usize {
        self.rows.len() * g.output[1]
    }

    fn columns(&self, g: &Geometry) -> usize {
        self.images * self.pixels(g)
    }

    /// The patches of `x` by pixels: in place where the input is its own patch matrix, gathered into `buffer` otherwise.
    fn patches<'a>(&self, g: &Geometry, x: &'a [f32], buffer: &'a mut Vec<f32>) -> Matrix<'a> {
        let channel = (self.first * g.in_channels + self.group * g.group_in()) * g.in_plane();
        if g.is_pointwise() && self.images == 1 {
            return Matrix::rows(&x[channel + self.rows.start * g.output[1]..], g.in_plane());
        }
        let (pixels, columns) = (self.pixels(g), self.columns(g));
        let patches = panel(buffer, g.patch() * columns);
        for image in 0..self.images {
            let planes = &x[channel + image * g.in_channels * g.in_plane()..][..g.group_in() * g.in_plane()];
            gather(g, planes, self.rows.clone(), &mut patches[image * pixels..], columns);
        }
        Matrix::rows(patches, columns)
    }

    /// The gradient of `y`, output channels by pixels: in place for one image, copied side by side into `buffer` for several.
    fn gradient<'a>(&self, g: &Geometry, gy: &'a [f32], buffer: &'a mut Vec<f32>) -> Matrix<'a> {
        let out_image = g.out_channels * g.out_plane();
        let start = self.rows.start * g.output[1];
        let channel = self.first * out_image + self.group * g.group_out() * g.out_plane() + start;
        if self.images == 1 {
            return Matrix::rows(&gy[channel..], g.out_plane());
        }
        let (pixels, columns) = (self.pixels(g), self.columns(g));
        let gradients = panel(buffer, g.group_out() * columns);
        for (o, line) in gradients.chunks_mut(columns).enumerate() {
            for (image, line) in line.chunks_mut(pixels).enumerate() {
                let from = channel + image * out_image + o * g.out_plane();
                line.copy_from_slice(&gy[from..][..pixels]);
            }
        }
        Matrix::rows(gradients, columns)
    }
}

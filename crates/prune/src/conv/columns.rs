//! The patch matrix of a convolution and its adjoint, plane by plane.

use super::Geometry;

/// The output positions `first..last` along one axis whose tap lands inside `length` input positions.
pub(super) fn valid(offset: usize, pad: usize, stride: usize, length: usize, positions: usize) -> (usize, usize) {
    // Tap position is `o * stride + offset - pad`.
    let first = pad.saturating_sub(offset).div_ceil(stride);
    let last = (length + pad).saturating_sub(offset).div_ceil(stride);
    (first.min(positions), last.min(positions))
}

/// Writes the patch matrix of `x` (planes of one image and group) for output rows `rows` into `columns`.
///
/// Row `r` of the matrix (channel, tap down, tap right) begins at `r * row_stride`; columns are output pixels of those rows.
pub(super) fn gather(g: &Geometry, x: &[f32], rows: std::ops::Range<usize>, columns: &mut [f32], row_stride: usize) {
    let [_, width] = g.input;
    let pixels = rows.len() * g.output[1];
    for (r, row) in columns.chunks_mut(row_stride).take(g.patch()).enumerate() {
        let (channel, ky, kx) = tap(g, r);
        let plane = &x[channel * g.in_plane()..][..g.in_plane()];
        let out = &mut row[..pixels];
        let (left, right) = valid(kx * g.window.dilation[1], g.window.pads[1], g.window.stride[1], width, g.output[1]);
        let (top, bottom) = vertical(g, ky, &rows);
        let per_row = g.output[1];
        out[..(top - rows.start) * per_row].fill(0.0);
        out[(bottom - rows.start) * per_row..].fill(0.0);
        let body = &mut out[(top - rows.start) * per_row..(bottom - rows.start) * per_row];
        if body.is_empty() {
            continue;
        }
        if g.window.stride == [1, 1] && per_row == width {
            shifted_copy(g, plane, (ky, kx), top, body);
            blank_edges(body, per_row, left, right);
            continue;
        }
        for (oy, line) in (top..bottom).zip(body.chunks_mut(per_row)) {
            line[..left].fill(0.0);
            line[right..].fill(0.0);
            if left < right {
                let source = &plane[source_row(g, oy, ky) * width + source_column(g, left, kx)..];
                copy_strided(&mut line[left..right], source, g.window.stride[1]);
            }
        }
    }
}

/// Adds the patch matrix `columns` back onto the planes of `x`: the adjoint of [`gather`]. Overwrites parts of `columns`.
pub(super) fn scatter(
    g: &Geometry,
    columns: &mut [f32],
    rows: std::ops::Range<usize>,
    row_stride: usize,
    x: &mut [f32],
) {
    let [_, width] = g.input;
    let per_row = g.output[1];
    for (r, row) in columns.chunks_mut(row_stride).take(g.patch()).enumerate() {
        let (channel, ky, kx) = tap(g, r);
        let plane = &mut x[channel * g.in_plane()..][..g.in_plane()];
        let (left, right) = valid(kx * g.window.dilation[1], g.window.pads[1], g.window.stride[1], width, g.output[1]);
        let (top, bottom) = vertical(g, ky, &rows);
        let body = &mut row[(top - rows.start) * per_row..(bottom - rows.start) * per_row];
        if body.is_empty() || left >= right {
            continue;
        }
        if g.window.stride == [1, 1] && per_row == width {
            blank_edges(body, per_row, left, right);
            let (skip, start) = shift(g, (ky, kx), top);
            let target = &mut plane[start..];
            target.iter_mut().zip(&body[skip..]).for_each(|(x, c)| *x += c);
            continue;
        }
        for (oy, line) in (top..bottom).zip(body.chunks(per_row)) {
            let target = &mut plane[source_row(g, oy, ky) * width + source_column(g, left, kx)..];
            let line = &line[left..right];
            match g.window.stride[1] {
                1 => target.iter_mut().zip(line).for_each(|(x, c)| *x += c),
                stride => target.iter_mut().step_by(stride).zip(line).for_each(|(x, c)| *x += c),
            }
        }
    }
}

fn tap(g: &Geometry, row: usize) -> (usize, usize, usize) {
    let taps = g.kernel[0] * g.kernel[1];
    (row / taps, row % taps / g.kernel[1], row % g.kernel[1])
}

fn vertical(g: &Geometry, ky: usize, rows: &std::ops::Range<usize>) -> (usize, usize) {
    let (top, bottom) = valid(ky * g.window.dilation[0], g.window.pads[0], g.window.stride[0], g.input[0], g.output[0]);
    let top = top.clamp(rows.start, rows.end);
    (top, bottom.clamp(top, rows.end))
}

fn source_row(g: &Geometry, oy: usize, ky: usize) -> usize {
    oy * g.window.stride[0] + ky * g.window.dilation[0] - g.window.pads[0]
}

fn source_column(g: &Geometry, ox: usize, kx: usize) -> usize {
    ox * g.window.stride[1] + kx * g.window.dilation[1] - g.window.pads[1]
}

/// For equal input and output width and no step, a tap is the plane shifted: how many pixels of the body to skip, and where in
/// the plane the first other one comes from.
fn shift(g: &Geometry, (ky, kx): (usize, usize), top: usize) -> (usize, usize) {
    let start = source_row(g, top, ky) * g.input[1] + kx * g.window.dilation[1];
    let pad = g.window.pads[1];
    (pad.saturating_sub(start), start.saturating_sub(pad))
}

fn shifted_copy(g: &Geometry, plane: &[f32], tap: (usize, usize), top: usize, body: &mut [f32]) {
    let (skip, start) = shift(g, tap, top);
    let skip = skip.min(body.len());
    let source = &plane[start.min(plane.len())..];
    let length = source.len().min(body.len() - skip);
    // What the shift drags in from the neighbouring lines, or leaves out at either end, is blanked by the caller.
    body[skip..skip + length].copy_from_slice(&source[..length]);
}

fn blank_edges(body: &mut [f32], per_row: usize, left: usize, right: usize) {
    if left == 0 && right == per_row {
        return;
    }
    for line in body.chunks_mut(per_row) {
        line[..left].fill(0.0);
        line[right.max(left)..].fill(0.0);
    }
}

fn copy_strided(line: &mut [f32], source: &[f32], stride: usize) {
    match stride {
        1 => line.copy_from_slice(&source[..line.len()]),
        2 => {
            let (last, body) = line.split_last_mut().expect("callers pass at least one pixel");
            body.iter_mut().zip(source.chunks_exact(2)).for_each(|(l, s)| *l = s[0]);
            *last = source[2 * body.len()];
        }
        _ => line.iter_mut().zip(source.iter().step_by(stride)).for_each(|(l, s)| *l = *s),
    }
}

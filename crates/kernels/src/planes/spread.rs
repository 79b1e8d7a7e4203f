//! How the input of a convolution is spread into copies, so that every kernel tap reads aligned pixels.
//!
//! One copy per distinct kernel column, row phase of the stride, and misalignment of the row: in a copy, the pixels under a tap
//! are a block of rows of `pitch` columns that starts on a line, or on half of one where vectors are no longer than that.
//! Padding is part of the copies. The copies hold what one piece of the output needs, not the whole image, and stay in the
//! second-level cache. A piece is a strip of `pitch` columns: a tile
//! of several rows of a narrow strip touches far fewer lines than one as long of a single row.

use std::sync::Arc;

use super::Kernels;
use super::fill::{Filling, RowCopies, Window};
use crate::conv::ConvGeometry;
use crate::{LINE, Map};

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    /// Column of the kernel times its dilation.
    column: usize,
    /// Row phase of the stride.
    phase: usize,
    /// Row of the phase that comes first.
    first: usize,
    /// Rows beyond the piece's own.
    below: usize,
    /// Of every strip.
    windows: Vec<Arc<[Window]>>,
}

/// The copies of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    geometry: ConvGeometry,
    input: Map,
    /// Columns of one strip.
    pub pitch: usize,
    /// Output rows of one piece.
    pub piece_rows: usize,
    /// Elements that every tap's pixels start on a multiple of: a line, or half of one where vectors are no longer.
    pub unit: usize,
    copies: Vec<Copy>,
    /// The rows of all copies, `[piece][strip]`.
    fillings: Vec<Vec<RowCopies>>,
    /// Elements of one copy.
    plane: usize,
    /// Copies that some weight of the channel needs, a bit each.
    needed: Vec<u64>,
}

/// More copies than bits are all made.
const ALL: u64 = u64::MAX;

impl Spread {
    /// Plans copies of strips of `pitch` columns (a multiple of 8) and pieces of `piece_rows` rows.
    pub fn new(geometry: &ConvGeometry, input: Map, pitch: usize, piece_rows: usize, lanes: usize) -> Self {
        let unit = unit(lanes);
        let mut copies: Vec<Copy> = Vec::new();
        for row in 0..geometry.kernel[0] {
            for column in 0..geometry.kernel[1] {
                let (column, phase, first, at) = place(geometry, pitch, unit, [row, column]);
                let same = |copy: &&mut Copy| (copy.column, copy.phase, copy.first) == (column, phase, first);
                match copies.iter_mut().find(same) {
                    Some(copy) => copy.below = copy.below.max(at - first),
                    None => {
                        let strips = (0..geometry.out_width()).step_by(pitch);
                        let windows =
                            strips.map(|strip| windows(geometry, strip, pitch, column, lanes).into()).collect();
                        copies.push(Copy { column, phase, first, below: at - first, windows });
                    }
                }
            }
        }
        let below = copies.iter().map(|copy| copy.below).max().unwrap_or(0);
        let plane = (below * pitch).next_multiple_of(unit) + (piece_rows * pitch).next_multiple_of(unit);
        let needed = vec![0; geometry.in_channels];
        let geometry = geometry.clone();
        let mut spread = Self { geometry, input, pitch, piece_rows, unit, copies, fillings: Vec::new(), plane, needed };
        let (height, strips) = (spread.geometry.out_height(), spread.geometry.out_width().div_ceil(pitch));
        for first_row in (0..height).step_by(piece_rows) {
            for strip in 0..strips {
                let rows = |(index, copy)| spread.rows(index, copy, strip, first_row);
                let filling = spread.copies.iter().enumerate().map(rows).collect();
                spread.fillings.push(filling);
            }
        }
        spread
    }

    /// Where the rows of copy `index` come from, for a strip of the output rows from `first_row` on.
    fn rows(&self, index: usize, copy: &Copy, strip: usize, first_row: usize) -> RowCopies {
        let (geometry, pitch) = (&self.geometry, self.pitch);
        let step = geometry.stride[0];
        let count = self.piece_rows.min(geometry.out_height() - first_row) + copy.below;
        // image row of the first copied row; rows `inside` of the copy lie in the image
        let source = ((first_row + copy.first) * step + copy.phase) as isize - geometry.pads[0] as isize;
        let inside = inside(source, step, geometry.in_height, count);
        // an empty range may lie outside of the image
        let from = (source + (inside.start * step) as isize).max(0) as usize;
        RowCopies {
            windows: copy.windows[strip].clone(),
            to: index * self.plane,
            above: inside.start * pitch,
            rows: inside.len(),
            below: (count - inside.end) * pitch,
            from: from * geometry.in_width,
        }
    }

    /// Where the pixels of `channel` under kernel tap `tap` start in the copies; marks the copy as needed.
    pub fn offset(&mut self, channel: usize, tap: [usize; 2]) -> usize {
        let (column, phase, first, at) = place(&self.geometry, self.pitch, self.unit, tap);
        let same = |copy: &Copy| (copy.column, copy.phase, copy.first) == (column, phase, first);
        let copy = self.copies.iter().position(same).expect("there is a copy for every tap");
        self.needed[channel] |= if copy < 64 { 1 << copy } else { ALL };
        (channel * self.copies.len() + copy) * self.plane + (at - first) * self.pitch
    }

    /// Elements of the copies; full vectors may be written past the last row.
    pub fn len(&self) -> usize {
        self.geometry.in_channels * self.copies.len() * self.plane + LINE
    }

    /// Makes the copies for strip `strip` of the piece that begins with output row `first_row`.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn fill(&self, kernels: &Kernels, x: &[f32], strip: usize, first_row: usize, copies: &mut [f32]) {
        assert!(x.len() >= self.input.len() && copies.len() >= self.len(), "lengths of input and copies");
        let strips = self.geometry.out_width().div_ceil(self.pitch);
        let filling = Filling {
            copies: &self.fillings[first_row / self.piece_rows * strips + strip],
            needed: &self.needed,
            step: self.geometry.stride[1],
            from: x.as_ptr(),
            from_channel: self.input.stride,
            from_row: self.geometry.stride[0] * self.geometry.in_width,
            to: copies.as_mut_ptr(),
            to_channel: self.copies.len() * self.plane,
            to_row: self.pitch,
        };
        // SAFETY: by `rows` a copy has at most the rows of `plane`, past the last of which `len` leaves a vector; the rows copied
        // lie in the image, and by `windows` the lanes of a window inside of an image row.
        unsafe { kernels.fill(&filling) }
    }
}

/// Elements that the pixels under every tap start on a multiple of in the copies for vectors of `lanes`.
pub(crate) fn unit(lanes: usize) -> usize {
    lanes.clamp(LINE / 2, LINE)
}

/// Those of `count` rows, `step` image rows apart from row `first` on, that lie in an image of `height` rows.
fn inside(first: isize, step: usize, height: usize, count: usize) -> std::ops::Range<usize> {
    let before = |row: isize| ((row - first).max(0) as usize).div_ceil(step).min(count);
    before(0)..before(height as isize)
}

/// Column, row phase, first row and row of a tap's pixels.
fn place(geometry: &ConvGeometry, pitch: usize, unit: usize, tap: [usize; 2]) -> (usize, usize, usize, usize) {
    let row = tap[0] * geometry.dilation[0];
    let (phase, at) = (row % geometry.stride[0], row / geometry.stride[0]);
    // rows of a copy start on a unit every `period` rows
    let period = unit / gcd(pitch, unit);
    (tap[1] * geometry.dilation[1], phase, at % period, at)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The windows of a copy whose column 0 lies under kernel column `column` (dilated) of output column `strip`.
fn windows(geometry: &ConvGeometry, strip: usize, pitch: usize, column: usize, lanes: usize) -> Vec<Window> {
    let start = (column + strip * geometry.stride[1]) as isize - geometry.pads[1] as isize;
    let count = pitch.min(geometry.out_width() - strip);
    Window::row(pitch, count, start, geometry.stride[1], geometry.in_width, lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Every tap of every channel and piece reads the right pixels, whatever the layout.
    #[test]
    fn copies_hold_the_pixels_under_every_tap() {
        let base = |h, w, k| ConvGeometry::new(2, [h, w], 1, [k, k]);
        let geometries = [
            ConvGeometry { pads: [1; 4], ..base(7, 7, 3) },
            ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(9, 13, 3) },
            ConvGeometry { pads: [3; 4], stride: [2, 2], ..base(22, 21, 7) },
            ConvGeometry { pads: [2, 0, 1, 3], dilation: [2, 1], ..base(8, 33, 3) },
            ConvGeometry { stride: [3, 3], ..base(10, 40, 2) },
            ConvGeometry { stride: [2, 1], ..base(5, 5, 1) },
        ];
        for isa in Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here()) {
            let kernels = Kernels::of(isa);
            for geometry in &geometries {
                let input = Map {
                    stride: geometry.in_height * geometry.in_width + 5,
                    ..Map::tight(2, geometry.in_height, geometry.in_width)
                };
                let x: Vec<f32> = (0..input.len()).map(|i| i as f32 + 1.0).collect();
                let width = geometry.out_width();
                for pitch in [8, 16, 24, width.next_multiple_of(8), width.next_multiple_of(16)] {
                    for piece_rows in [1, 2, geometry.out_height()] {
                        check(&kernels, geometry, input, &x, pitch, piece_rows);
                    }
                }
            }
        }
    }

    fn check(kernels: &Kernels, geometry: &ConvGeometry, input: Map, x: &[f32], pitch: usize, piece_rows: usize) {
        let mut spread = Spread::new(geometry, input, pitch, piece_rows, kernels.lanes);
        let [rows, columns] = geometry.kernel;
        let taps: Vec<_> =
            (0..2 * rows * columns).map(|i| (i / (rows * columns), [i / columns % rows, i % columns])).collect();
        let offsets: Vec<usize> = taps.iter().map(|(channel, tap)| spread.offset(*channel, *tap)).collect();
        let mut copies = vec![f32::NAN; spread.len()];
        let pieces = (0..geometry.out_height())
            .step_by(piece_rows)
            .flat_map(|first| (0..geometry.out_width().div_ceil(pitch)).map(move |strip| (first, strip)));
        for (first, strip) in pieces {
            spread.fill(kernels, x, strip, first, &mut copies);
            for ((channel, tap), offset) in taps.iter().zip(&offsets) {
                assert_eq!(offset % kernels.lanes, 0);
                for row in 0..piece_rows.min(geometry.out_height() - first) {
                    for column in 0..pitch.min(geometry.out_width() - strip * pitch) {
                        let at = |axis: usize, out: usize, pad: usize, size: usize| {
                            let at = out * geometry.stride[axis] + tap[axis] * geometry.dilation[axis];
                            at.checked_sub(pad).filter(|at| *at < size)
                        };
                        let pixel = at(0, first + row, geometry.pads[0], geometry.in_height).zip(at(
                            1,
                            strip * pitch + column,
                            geometry.pads[1],
                            geometry.in_width,
                        ));
                        let expected =
                            pixel.map_or(0.0, |(r, c)| x[channel * input.stride + r * geometry.in_width + c]);
                        let found = copies[offset + row * pitch + column];
                        assert_eq!(found, expected, "{geometry:?} pitch {pitch} rows {piece_rows} tap {tap:?}");
                    }
                }
            }
        }
    }
}

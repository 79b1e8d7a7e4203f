//! Padded copies of a convolution's input: one per channel and phase of the stride.
//!
//! In a copy, the pixels under a kernel tap are one long row that starts anywhere, in the middle of a cache line too. Without a
//! stride, the padding at the end of a row is that at the beginning of the next.

use std::sync::Arc;

use super::Kernels;
use super::fill::{Filling, RowCopies, Window};
use crate::conv::ConvGeometry;
use crate::{LINE, Map};

/// How the rows of one piece of the output are copied.
#[derive(Clone, Debug)]
pub(crate) struct Padded {
    geometry: ConvGeometry,
    input: Map,
    /// Elements from one row to the next.
    pub pitch: usize,
    /// Output rows of one piece.
    piece_rows: usize,
    /// Row phases with the rows that each has beyond the piece's own.
    rows: Vec<(usize, usize)>,
    /// Column phases with their windows.
    columns: Vec<(usize, Arc<[Window]>)>,
    /// What to copy of a channel, by piece.
    fillings: Vec<Vec<RowCopies>>,
    /// One for every channel that is copied at once: all of it is needed.
    needed: Vec<u64>,
    /// Elements of one phase of one channel.
    plane: usize,
}

impl Padded {
    /// Plans copies for pieces of `piece_rows` rows of the output, of at most `channels` channels at a time.
    pub fn new(geometry: &ConvGeometry, input: Map, piece_rows: usize, channels: usize, lanes: usize) -> Self {
        let pitch = pitch(geometry);
        let last = |axis: usize| (geometry.kernel[axis] - 1) * geometry.dilation[axis];
        let phases = |axis: usize| {
            let step = geometry.stride[axis];
            let tap = |phase: usize| {
                (0..geometry.kernel[axis]).map(|tap| tap * geometry.dilation[axis]).filter(move |at| at % step == phase)
            };
            (0..step).filter_map(move |phase| Some((phase, tap(phase).max()? / step))).collect::<Vec<_>>()
        };
        let rows = phases(0);
        let columns: Vec<_> =
            phases(1).into_iter().map(|(phase, _)| (phase, windows(geometry, pitch, phase, lanes).into())).collect();
        let below = rows.iter().map(|(_, below)| *below).max().unwrap_or(0);
        // beyond the last row: the columns of its last tap, or what is left of a vector
        let plane = (piece_rows + below) * pitch + (last(1) / geometry.stride[1]).max(LINE);
        let plane = crate::map::spaced(plane);
        let (fillings, needed) = (Vec::new(), vec![u64::MAX; channels]);
        let mut copies =
            Self { geometry: geometry.clone(), input, pitch, piece_rows, rows, columns, fillings, needed, plane };
        let pieces = (0..geometry.out_height()).step_by(piece_rows);
        copies.fillings = pieces.map(|first_row| copies.filling(first_row)).collect();
        copies
    }

    /// What to copy of a channel for the piece that begins with output row `first_row`.
    fn filling(&self, first_row: usize) -> Vec<RowCopies> {
        let (geometry, step) = (&self.geometry, self.geometry.stride[0]);
        let rows = self.piece_rows.min(geometry.out_height() - first_row);
        let mut filling = Vec::new();
        for (row_phase, below) in &self.rows {
            // image row of the first copied row
            let source = (first_row * step + row_phase) as isize - geometry.pads[0] as isize;
            let before = |row: isize| ((row - source).max(0) as usize).div_ceil(step).min(rows + below);
            let (start, end) = (before(0), before(geometry.in_height as isize));
            for (_, windows) in &self.columns {
                filling.push(RowCopies {
                    windows: windows.clone(),
                    to: filling.len() * self.plane,
                    above: start * self.pitch,
                    rows: end - start,
                    below: self.plane - end * self.pitch,
                    // no rows may lie outside of the image
                    from: (source + (start * step) as isize).max(0) as usize * geometry.in_width,
                });
            }
        }
        filling
    }

    /// What is copied of a channel for piece `piece`.
    pub fn copies(&self, piece: usize) -> &[RowCopies] {
        &self.fillings[piece]
    }

    /// Elements of the copies of one channel.
    pub fn per_channel(&self) -> usize {
        self.rows.len() * self.columns.len() * self.plane
    }

    /// Where the pixels under kernel tap `tap` start in the copies of a channel.
    pub fn offset(&self, tap: [usize; 2]) -> usize {
        let at = [0, 1].map(|axis| tap[axis] * self.geometry.dilation[axis]);
        let step = self.geometry.stride;
        let row = self.rows.iter().position(|(phase, _)| *phase == at[0] % step[0]).expect("every tap has a phase");
        let column =
            self.columns.iter().position(|(phase, _)| *phase == at[1] % step[1]).expect("every tap has a phase");
        (row * self.columns.len() + column) * self.plane + at[0] / step[0] * self.pitch + at[1] / step[1]
    }

    /// Copies what piece `piece` reads of `channels` channels from `first` on.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn fill(&self, kernels: &Kernels, x: &[f32], piece: usize, first: usize, channels: usize, to: &mut [f32]) {
        assert!(x.len() >= self.input.len() && first + channels <= self.input.channels, "length of the input");
        assert!(to.len() >= channels * self.per_channel() + LINE, "length of the copies");
        let filling = Filling {
            copies: &self.fillings[piece],
            needed: &self.needed[..channels],
            step: self.geometry.stride[1],
            from: x[first * self.input.stride..].as_ptr(),
            from_channel: self.input.stride,
            from_row: self.geometry.stride[0] * self.geometry.in_width,
            to: to.as_mut_ptr(),
            to_channel: self.per_channel(),
            to_row: self.pitch,
        };
        // SAFETY: by `filling` every copy has the elements of `plane`, past the last of which there is a vector; the rows copied
        // lie in the image, and by `windows` the lanes of a window inside of an image row.
        unsafe { kernels.fill(&filling) }
    }
}

/// Elements from one copied row to the next.
pub(crate) fn pitch(geometry: &ConvGeometry) -> usize {
    let [_, left, _, right] = geometry.pads;
    if geometry.stride[1] == 1 {
        (geometry.in_width + left.max(right)).max(geometry.out_width())
    } else {
        geometry.out_width() + (geometry.kernel[1] - 1) * geometry.dilation[1] / geometry.stride[1]
    }
}

/// The windows of a row of column phase `phase`.
fn windows(geometry: &ConvGeometry, pitch: usize, phase: usize, lanes: usize) -> Vec<Window> {
    let start = phase as isize - geometry.pads[1] as isize;
    Window::row(pitch, pitch, start, geometry.stride[1], geometry.in_width, lanes)
}

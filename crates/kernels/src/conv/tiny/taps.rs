//! Which pixel of a small plane lies under a kernel tap, for every pixel of the output.

use super::MOST_PIXELS;
use crate::conv::ConvGeometry;

/// The taps of a kernel that meet the image anywhere, and what they read there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taps {
    /// `[tap][output pixel]`: a pixel of the input plane, or -1 for padding and beyond the output.
    pub index: Vec<[i32; MOST_PIXELS]>,
    /// Of every tap of the kernel its place among those, if it is one.
    pub place: Vec<Option<usize>>,
}

impl Taps {
    /// Of a geometry whose planes have at most [`MOST_PIXELS`] pixels.
    pub fn of(geometry: &ConvGeometry) -> Self {
        let [rows, columns] = geometry.kernel;
        let (mut index, mut place) = (Vec::new(), Vec::new());
        for tap in 0..rows * columns {
            let pixels = under(geometry, [tap / columns, tap % columns]);
            let live = pixels.iter().any(|pixel| *pixel >= 0);
            place.push(live.then_some(index.len()));
            if live {
                index.push(pixels);
            }
        }
        Self { index, place }
    }

    /// Number of them.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

fn under(geometry: &ConvGeometry, tap: [usize; 2]) -> [i32; MOST_PIXELS] {
    let mut pixels = [-1; MOST_PIXELS];
    let sizes = [geometry.in_height, geometry.in_width];
    let at = |axis: usize, out: usize| {
        let at = out * geometry.stride[axis] + tap[axis] * geometry.dilation[axis];
        at.checked_sub(geometry.pads[axis]).filter(|at| *at < sizes[axis])
    };
    for row in 0..geometry.out_height() {
        for column in 0..geometry.out_width() {
            if let Some((r, c)) = at(0, row).zip(at(1, column)) {
                pixels[row * geometry.out_width() + column] = (r * geometry.in_width + c) as i32;
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_of_a_padded_2x2_map_sees_some_of_it() {
        let taps = Taps::of(&ConvGeometry { pads: [1; 4], ..ConvGeometry::new(1, [2, 2], 1, [3, 3]) });
        assert_eq!((taps.len(), taps.index[0][..5].to_vec()), (9, vec![-1, -1, -1, 0, -1]));
        assert_eq!(
            (taps.index[4][..5].to_vec(), taps.index[5][..4].to_vec()),
            (vec![0, 1, 2, 3, -1], vec![1, -1, 3, -1])
        );
    }

    #[test]
    fn taps_that_only_see_padding_are_dropped() {
        let taps = Taps::of(&ConvGeometry { pads: [1; 4], ..ConvGeometry::new(1, [1, 1], 1, [3, 3]) });
        assert_eq!((taps.len(), taps.place[4], taps.place[3]), (1, Some(0), None));
    }
}

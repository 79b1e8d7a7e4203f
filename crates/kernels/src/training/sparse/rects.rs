//! Where the same taps count: stretches of an axis, and the rectangles they make.

use crate::training::ConvGeometry;

/// Pixels of the result along one axis, evenly apart, that the same taps reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first pixel.
    pub to: usize,
    /// From one to the next.
    pub to_step: usize,
    /// How many.
    pub count: usize,
    /// From the source of one pixel to that of the next.
    pub from_step: usize,
    /// What each tap reads for the first pixel; nothing if it lies outside or between pixels.
    pub taps: Vec<Option<usize>>,
}

/// The stretches of the output: output `o` reads input `o * stride + tap * dilation - pad`.
pub(super) fn of_outputs(geometry: &ConvGeometry, axis: usize) -> Vec<Stretch> {
    let (stride, pad, dilation) = (geometry.stride[axis], geometry.pads[axis], geometry.dilation[axis]);
    let taps: Vec<_> = (0..geometry.kernel[axis]).map(|tap| Some((tap * dilation) as i64 - pad as i64)).collect();
    let whole = Stretch { to: 0, to_step: 1, count: geometry.output[axis], from_step: stride, taps: Vec::new() };
    cut(&whole, &taps, geometry.input[axis])
}

/// The stretches of the input for its gradient: input `i` reads output `(i + pad - tap * dilation) / stride`, if that is whole. So
/// pixels that are equal modulo the stride go together.
pub(super) fn of_inputs(geometry: &ConvGeometry, axis: usize) -> Vec<Stretch> {
    let (input, stride, dilation) = (geometry.input[axis], geometry.stride[axis], geometry.dilation[axis]);
    let mut stretches = Vec::new();
    for to in 0..stride.min(input) {
        let above = |tap: usize| (to + geometry.pads[axis]) as i64 - (tap * dilation) as i64;
        let whole = |distance: i64| (distance.rem_euclid(stride as i64) == 0).then_some(distance / stride as i64);
        let taps: Vec<_> = (0..geometry.kernel[axis]).map(|tap| whole(above(tap))).collect();
        let count = (input - to).div_ceil(stride);
        let phase = Stretch { to, to_step: stride, count, from_step: 1, taps: Vec::new() };
        stretches.extend(cut(&phase, &taps, geometry.output[axis]));
    }
    stretches
}

/// Cuts `whole` where a tap begins or ceases to count; the source of pixel `i` is `i * from_step + tap`, below `len`.
fn cut(whole: &Stretch, taps: &[Option<i64>], len: usize) -> Vec<Stretch> {
    let (step, len, count) = (whole.from_step as i64, len as i64, whole.count as i64);
    let ceil = |a: i64| (a + step - 1).div_euclid(step);
    let reach = |tap: &i64| (ceil(-tap).clamp(0, count), ceil(len - tap).clamp(0, count));
    let mut cuts = vec![0, count];
    cuts.extend(taps.iter().flatten().map(reach).filter(|(from, to)| from < to).flat_map(|(from, to)| [from, to]));
    cuts.sort_unstable();
    cuts.dedup();
    let stretch = |pair: &[i64]| {
        let source = |tap: i64| pair[0] * step + tap;
        let inside = |tap: &i64| reach(tap).0 <= pair[0] && pair[1] <= reach(tap).1;
        Stretch {
            to: whole.to + pair[0] as usize * whole.to_step,
            to_step: whole.to_step,
            count: (pair[1] - pair[0]) as usize,
            from_step: whole.from_step,
            taps: taps.iter().map(|tap| tap.filter(inside).map(|tap| source(tap) as usize)).collect(),
        }
    };
    cuts.windows(2).map(stretch).collect()
}

/// A rectangle of the result.
#[derive(Clone, Debug)]
pub(super) struct Rect {
    pub down: Stretch,
    pub right: Stretch,
}

impl Rect {
    /// Every rectangle of `down` and `right`.
    pub fn all(down: &[Stretch], right: &[Stretch]) -> Vec<Self> {
        let of_row = |down: &Stretch| {
            let down = down.clone();
            right.iter().map(move |right| Self { down: down.clone(), right: right.clone() })
        };
        down.iter().flat_map(of_row).collect()
    }

    /// Its pixels.
    pub fn pixels(&self) -> usize {
        self.down.count * self.right.count
    }

    /// For every tap, the pixel of a source of `width` columns that it reads for the first pixel.
    pub fn taps(&self, width: usize) -> Vec<Option<usize>> {
        let of_row = |row: Option<usize>| self.right.taps.iter().map(move |col| Some(row? * width + (*col)?));
        self.down.taps.iter().flat_map(|row| of_row(*row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: ConvGeometry = ConvGeometry {
        groups: 1,
        in_channels: 1,
        out_channels: 1,
        input: [4, 5],
        output: [4, 3],
        kernel: [3, 3],
        stride: [1, 2],
        pads: [1, 1],
        dilation: [1, 1],
    };

    #[test]
    fn outputs_at_the_border_miss_a_tap() {
        let found = of_outputs(&GEOMETRY, 0);
        let taps: Vec<_> = found.iter().map(|stretch| (stretch.to, stretch.count, stretch.taps.clone())).collect();
        let expected = [
            (0, 1, vec![None, Some(0), Some(1)]),
            (1, 2, vec![Some(0), Some(1), Some(2)]),
            (3, 1, vec![Some(2), Some(3), None]),
        ];
        assert_eq!(taps, expected);
    }

    #[test]
    fn inputs_of_a_strided_layer_alternate_between_taps() {
        let found = of_inputs(&GEOMETRY, 1);
        let taps: Vec<_> = found.iter().map(|stretch| (stretch.to, stretch.count, stretch.taps.clone())).collect();
        // inputs 0, 2, 4 are read by the middle tap of outputs 0, 1, 2; inputs 1 and 3 by the outer taps
        let expected = [(0, 3, vec![None, Some(0), None]), (1, 2, vec![Some(1), None, Some(0)])];
        assert_eq!(taps, expected);
        assert!(found.iter().all(|stretch| (stretch.to_step, stretch.from_step) == (2, 1)));
    }
}

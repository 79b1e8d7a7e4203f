//! Which taps reach which pixels along one axis: runs of pixels that the same taps reach, so that no loop ever asks.

use crate::training::ConvGeometry;

/// Pixels in equal steps along one axis of what is written, all reached by the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first pixel written.
    pub first: usize,
    /// From one pixel written to the next.
    pub step: usize,
    /// Pixels written.
    pub count: usize,
    /// Number of each tap, ascending, and the pixel it reads for the first pixel written.
    pub taps: Vec<(usize, usize)>,
    /// From what a tap reads for one pixel to what it reads for the next.
    pub source_step: usize,
}

/// Outputs along `axis` and the inputs their taps read.
pub(super) fn forward(geometry: &ConvGeometry, axis: usize) -> Vec<Stretch> {
    let (stride, pad, dilation) = (geometry.stride[axis], geometry.pads[axis], geometry.dilation[axis]);
    let taps = |pixel: usize| {
        let reads = move |tap: usize| (tap, pixel * stride + tap * dilation - pad);
        (0..geometry.kernel[axis]).filter(|tap| geometry.reached(axis, *tap).contains(&pixel)).map(reads).collect()
    };
    stretches((0..geometry.output[axis]).map(|pixel| (pixel, taps(pixel))), 1, stride)
}

/// Inputs along `axis` and the outputs that their taps reach. Taps reach an input by its remainder modulo the stride, so inputs of
/// one remainder stand together.
pub(super) fn gradient(geometry: &ConvGeometry, axis: usize) -> Vec<Stretch> {
    let (stride, pad, dilation) = (geometry.stride[axis], geometry.pads[axis], geometry.dilation[axis]);
    let output = |pixel: usize, tap: usize| {
        let distance = (pixel + pad).checked_sub(tap * dilation)?;
        let output = distance / stride;
        (distance % stride == 0 && output < geometry.output[axis]).then_some((tap, output))
    };
    let taps = |pixel: usize| (0..geometry.kernel[axis]).filter_map(|tap| output(pixel, tap)).collect();
    let phase = |phase: usize| (phase..geometry.input[axis]).step_by(stride).map(|pixel| (pixel, taps(pixel)));
    (0..stride.min(geometry.input[axis])).flat_map(|first| stretches(phase(first), stride, 1)).collect()
}

/// Joins neighbours that the same taps reach.
fn stretches(
    pixels: impl Iterator<Item = (usize, Vec<(usize, usize)>)>,
    step: usize,
    source_step: usize,
) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (first, taps) in pixels {
        let numbers = |taps: &[(usize, usize)]| taps.iter().map(|(tap, _)| *tap).collect::<Vec<_>>();
        match all.last_mut().filter(|last| numbers(&last.taps) == numbers(&taps)) {
            Some(last) => last.count += 1,
            None => all.push(Stretch { first, step, count: 1, taps, source_step }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize, kernel: usize, stride: usize, pad: usize) -> ConvGeometry {
        ConvGeometry {
            groups: 1,
            in_channels: 1,
            out_channels: 1,
            input: [input, 1],
            output: [output, 1],
            kernel: [kernel, 1],
            stride: [stride, 1],
            pads: [pad, 0],
            dilation: [1, 1],
        }
    }

    #[test]
    fn the_border_of_a_padded_kernel_lacks_a_tap() {
        let stretch = |first, count, taps: &[_]| Stretch { first, step: 1, count, taps: taps.to_vec(), source_step: 1 };
        let expected = [
            stretch(0, 1, &[(1, 0), (2, 1)]),
            stretch(1, 3, &[(0, 0), (1, 1), (2, 2)]),
            stretch(4, 1, &[(0, 3), (1, 4)]),
        ];
        assert_eq!(forward(&axis(5, 5, 3, 1, 1), 0), expected);
    }

    #[test]
    fn of_a_stride_the_taps_of_a_gradient_depend_on_the_remainder() {
        let stretch = |first, count, taps: &[_]| Stretch { first, step: 2, count, taps: taps.to_vec(), source_step: 1 };
        // output o reads inputs 2o - 1, 2o, 2o + 1
        let expected = [stretch(0, 2, &[(1, 0)]), stretch(1, 1, &[(0, 1), (2, 0)]), stretch(3, 1, &[(2, 1)])];
        assert_eq!(gradient(&axis(4, 2, 3, 2, 1), 0), expected);
    }

    #[test]
    fn an_input_between_the_steps_of_a_kernel_of_one_has_no_tap() {
        let all = gradient(&axis(4, 2, 1, 2, 0), 0);
        assert_eq!(all.iter().map(|stretch| stretch.taps.len()).collect::<Vec<_>>(), [1, 0]);
    }
}

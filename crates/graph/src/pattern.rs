//! Regular patterns in the zeros of a weight: what hardware or kernels could use.

use std::fmt;

use crate::Tensor;

/// A rule that the zeros of a weight keep to, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// At most `n` of every `m` weights in a row along axis 1, the input channels, are not zero, for each output channel
    /// and kernel position; at most `ceil(n * rest / m)` of a group at the end with only `rest` weights.
    NM {
        /// Most non-zeros of a group.
        n: usize,
        /// Weights of a group.
        m: usize,
    },
    /// `rows` neighbouring output channels and `columns` neighbouring input channels, from multiples of both on, are zero together, at
    /// every kernel position.
    Blocks {
        /// Output channels of a block; the last block has what is left.
        rows: usize,
        /// Input channels of a block, likewise.
        columns: usize,
    },
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::NM { n, m } => write!(f, "{n}:{m}"),
            Pattern::Blocks { rows, columns: 1 } => write!(f, "blocks of {rows}"),
            Pattern::Blocks { rows, columns } => write!(f, "blocks of {rows}x{columns}"),
        }
    }
}

/// The patterns that hold exactly for `weight` `[out, in, ...]`: the sparsest N:4, the largest blocks of 8, 4 or 2 outputs, and of
/// 4 inputs, which kernels skip, with as many of those outputs.
///
/// A weight without zeros or without anything else has none. One that is very sparse keeps to N:4 by itself, and tensor
/// cores may use that as well; the pattern says nothing about how it came about.
pub fn patterns(weight: &Tensor) -> Vec<Pattern> {
    if weight.shape.len() < 2 || weight.nonzero() == 0 || weight.nonzero() == weight.len() {
        return Vec::new();
    }
    let n_m = (1..4).find(|n| keeps_to(weight, *n, 4)).map(|n| Pattern::NM { n, m: 4 });
    let largest = |sizes: &[usize], columns: usize| {
        sizes
            .iter()
            .find(|rows| in_blocks(weight, **rows, columns))
            .map(|rows| Pattern::Blocks { rows: *rows, columns })
    };
    let blocks = largest(&[8, 4, 2], 1).into_iter().chain(largest(&[8, 4, 2, 1], 4));
    n_m.into_iter().chain(blocks).collect()
}

fn keeps_to(weight: &Tensor, n: usize, m: usize) -> bool {
    weight.shape[1] >= m && first_broken_group(weight, n, m).is_none()
}

/// A group of weights with too many non-zeros for [`Pattern::NM`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenGroup {
    /// Output channel.
    pub output: usize,
    /// Position in the kernel, row by row, and whether there is more than one.
    pub position: (usize, bool),
    /// First input channel.
    pub first: usize,
    /// Weights of the group.
    pub len: usize,
    /// Those that are not zero.
    pub nonzero: usize,
    /// How many may be.
    pub most: usize,
}

impl fmt::Display for BrokenGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BrokenGroup { output, position, first, len, nonzero, most } = *self;
        write!(f, "output channel {output}, ")?;
        if let (position, true) = position {
            write!(f, "kernel position {position}, ")?;
        }
        let last = first + len - 1;
        write!(f, "input channels {first} to {last}: {nonzero} of {len} weights are not zero, {most} may be")
    }
}

/// The first group of `weight` `[out, in, ...]`, in order of output channel, kernel position and input channel, that has
/// more than `n` of `m` non-zeros; `None` when [`Pattern::NM`] holds.
///
/// * `m`: at least 1; a group at the end with fewer weights may keep `ceil(n * rest / m)` of them.
pub fn first_broken_group(weight: &Tensor, n: usize, m: usize) -> Option<BrokenGroup> {
    let [outputs, inputs, ..] = weight.shape[..] else { return None };
    let kernel: usize = weight.shape[2..].iter().product();
    let places = (0..outputs).flat_map(|output| (0..kernel).map(move |position| (output, position)));
    let groups = places.flat_map(|(o, p)| (0..inputs).step_by(m).map(move |first| (o, p, first)));
    groups
        .map(|(output, position, first)| {
            let group = first..inputs.min(first + m);
            let (len, most) = (group.len(), (n * group.len()).div_ceil(m));
            let nonzero = group.filter(|i| weight.data[(output * inputs + i) * kernel + position] != 0.0).count();
            BrokenGroup { output, position: (position, kernel > 1), first, len, nonzero, most }
        })
        .find(|group| group.nonzero > group.most)
}

fn in_blocks(weight: &Tensor, rows: usize, columns: usize) -> bool {
    let [outputs, inputs, ..] = weight.shape[..] else { return false };
    let taps: usize = weight.shape[2..].iter().product();
    let alike = |(at, value): (usize, &f32)| {
        let (output, input, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
        let first = (output / rows * rows * inputs + input / columns * columns) * taps + tap;
        (*value == 0.0) == (weight.data[first] == 0.0)
    };
    outputs >= rows && inputs >= columns && weight.data.iter().enumerate().all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shape: &[usize], kept: impl Fn(usize) -> bool) -> String {
        let data = (0..shape.iter().product()).map(|i| if kept(i) { 1.0 } else { 0.0 }).collect();
        let names: Vec<String> = patterns(&Tensor::new(shape, data)).iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    #[test]
    fn a_pattern_is_named_only_when_it_holds_everywhere() {
        assert_eq!(found(&[3, 8], |i| i % 4 < 2), "2:4, blocks of 2");
        assert_eq!(found(&[3, 8], |i| i % 4 < 2 || i == 15), "3:4");
        assert_eq!(found(&[3, 8], |i| [1, 6, 9, 15, 16, 20].contains(&i)), "1:4");
        assert_eq!(found(&[3, 8], |_| true), "");
        assert_eq!(found(&[3, 8], |_| false), "");
        assert_eq!(found(&[3, 3], |i| i == 0), "", "fewer than 4 inputs");
        // Five inputs: the one at the end may stay.
        assert_eq!(found(&[1, 5], |i| [0, 2, 4].contains(&i)), "2:4");
    }

    #[test]
    fn groups_run_along_the_input_channels_of_each_kernel_position() {
        // [out 1, in 4, 1, 3]: position p of channel c is index 3 c + p.
        assert_eq!(found(&[1, 4, 1, 3], |i| i / 3 < 2), "2:4");
        assert_eq!(found(&[1, 4, 1, 3], |i| i % 3 == 0), "blocks of 1x4", "all four channels at one position");
    }

    #[test]
    fn a_broken_group_is_found_where_it_is() {
        // [out 2, in 6, 1, 2]: output 1, position 1, inputs 4 and 5 keep 1 of 2.
        let mut tensor = Tensor::full([2, 6, 1, 2], 0.0);
        assert_eq!(first_broken_group(&tensor, 2, 4), None);
        for input in [4, 5] {
            tensor.data[(6 + input) * 2 + 1] = -1.0;
        }
        let found = first_broken_group(&tensor, 2, 4).unwrap();
        assert_eq!(found, BrokenGroup { output: 1, position: (1, true), first: 4, len: 2, nonzero: 2, most: 1 });
        let text = "output channel 1, kernel position 1, input channels 4 to 5: 2 of 2 weights are not zero, 1 may be";
        assert_eq!(found.to_string(), text);
    }

    #[test]
    fn blocks_of_input_channels_are_told_from_those_of_outputs() {
        // [out 2, in 8, 1, 3]: 24 weights per output, three per input
        assert_eq!(found(&[2, 8, 1, 3], |i| i == i % 12 && i % 3 == 1), "blocks of 1x4");
        assert_eq!(found(&[2, 8, 1, 3], |i| i % 24 < 12 && i % 3 == 1), "blocks of 2, blocks of 2x4");
        assert_eq!(found(&[2, 6], |i| i / 4 == 1), "3:4", "inputs 4 and 5 of one output and 0 and 1 of the other");
        assert_eq!(found(&[1, 6], |i| i > 3), "3:4, blocks of 1x4", "the last block may be smaller");
    }

    #[test]
    fn the_last_block_may_be_smaller() {
        assert_eq!(found(&[6, 2], |i| i / 8 == i % 2), "blocks of 4");
        assert_eq!(found(&[6, 2], |i| i / 8 == i % 2 || i == 8), "", "the last block is torn");
    }
}

//! Weights as words of four input channels, in the order that tiles read them.

use std::ops::Range;

use super::Kernels;
use crate::conv::ConvGeometry;

/// Which words are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of them.
    Dense,
    /// Those of which at least one of four neighbouring outputs is not zero.
    Fours,
    /// Those that are not zero.
    Ones,
}

/// Some outputs that are computed together, from the same words of the input.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// First output.
    pub first: usize,
    /// Outputs that exist.
    pub outputs: usize,
    /// Outputs that the kernel computes: those beyond have zeros for weights.
    pub size: usize,
    /// Channel group of the convolution.
    pub channels: usize,
    /// Its part of [`Words::offsets`], one per word of an output.
    pub entries: Range<usize>,
    /// Its first byte in [`Words::bytes`].
    pub bytes: usize,
}

/// The weights of a layer.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub form: Form,
    pub groups: Vec<Group>,
    /// Where the words of the input lie that the stored ones are multiplied with.
    pub offsets: Vec<u32>,
    /// By group, entry, output of the group and channel.
    pub bytes: Vec<i8>,
}

impl Words {
    /// * `weights`: as the geometry says, outputs first, one byte each.
    /// * `offsets`: where the words of the input lie, by four channels and tap.
    pub fn new(kernels: &Kernels, geometry: &ConvGeometry, weights: &[i8], offsets: &[u32]) -> Self {
        let matrix = Matrix::new(geometry, weights);
        let (_, form) = matrix.cheapest(geometry.out_channels / geometry.groups);
        let sizes: Vec<usize> = kernels.shapes.iter().map(|(size, _)| *size).collect();
        let most = match form {
            Form::Dense => sizes[0],
            Form::Fours => 4,
            Form::Ones => 1,
        };
        let of_channels = geometry.out_channels / geometry.groups;
        let dense = form == Form::Dense;
        let offsets_of_all = if dense { offsets.to_vec() } else { Vec::new() };
        let mut words = Self { form, groups: Vec::new(), offsets: offsets_of_all, bytes: Vec::new() };
        for channels in 0..geometry.groups {
            let (mut first, end) = (channels * of_channels, (channels + 1) * of_channels);
            while first < end {
                let whole =
                    sizes.iter().copied().find(|size| *size <= most && *size <= end - first && *size >= most.min(4));
                // a rest of less than four is computed as four
                let size = whole.unwrap_or(most.min(4));
                let outputs = first..(first + size).min(end);
                let (start, bytes) = (words.offsets.len(), words.bytes.len());
                let stored = |entry: &usize| dense || outputs.clone().any(|output| matrix.any(output, *entry));
                for entry in (0..matrix.entries).filter(stored) {
                    if !dense {
                        words.offsets.push(offsets[entry]);
                    }
                    for output in first..first + size {
                        let word = if outputs.contains(&output) { matrix.word(output, entry) } else { [0; 4] };
                        words.bytes.extend(word);
                    }
                }
                let entries = if dense { 0..offsets.len() } else { start..words.offsets.len() };
                words.groups.push(Group { first, outputs: outputs.len(), size, channels, entries, bytes });
                first = outputs.end;
            }
        }
        words
    }

    /// Groups in at least `wanted` parts of about as much work each, as far as there are groups.
    pub fn segments(&self, wanted: usize) -> Vec<Range<usize>> {
        let work = |group: &Group| (group.entries.len() * group.size + 1) as u64;
        let share = self.groups.iter().map(work).sum::<u64>().div_ceil(wanted.max(1) as u64);
        let mut segments = Vec::new();
        let (mut start, mut sum) = (0, 0);
        for (index, group) in self.groups.iter().enumerate() {
            sum += work(group);
            if sum >= share {
                segments.push(start..index + 1);
                (start, sum) = (index + 1, 0);
            }
        }
        if start < self.groups.len() {
            segments.push(start..self.groups.len());
        }
        segments
    }

    /// Work of the groups `segment`, in products per pixel.
    pub fn cost(&self, segment: Range<usize>) -> usize {
        self.groups[segment].iter().map(|group| group.entries.len() * group.size).sum()
    }
}

/// Whether a layer is expected to take fewer instructions in bytes than in numbers, on a processor with dot products of bytes: inputs that few
/// outputs use do not pay for being rounded. Like the form, it depends on the weights alone, so that every machine decides alike.
///
/// * `weights`: as the geometry says, as many as it says.
pub(super) fn pays(geometry: &ConvGeometry, weights: &[i8]) -> bool {
    // quarters of an instruction per vector of pixels, as `tools/neon-cost` counts them for aarch64: per word of the input that is rounded, per
    // non-zero of a sparse layer in numbers, per weight of a dense one
    const ROUNDING: usize = 180;
    const NONZERO: usize = 9;
    const WEIGHT: usize = 5;
    // a stride may leave rows out
    let rows = geometry.in_height * geometry.kernel[0].min(geometry.stride[0]) / geometry.stride[0];
    let [inside, outside] = [rows * geometry.in_width, geometry.out_height() * geometry.out_width()];
    let (products, _) = Matrix::new(geometry, weights).cheapest(geometry.out_channels / geometry.groups);
    let rounding = ROUNDING * geometry.in_channels.div_ceil(4) * inside / outside.max(1);
    let nonzeros = weights.iter().filter(|weight| **weight != 0).count();
    products + rounding < (NONZERO * nonzeros).min(WEIGHT * weights.len())
}

/// Weights that are looked at word by word.
struct Matrix<'a> {
    weights: &'a [i8],
    inputs: usize,
    taps: usize,
    /// Words of an output.
    entries: usize,
}

impl<'a> Matrix<'a> {
    fn new(geometry: &ConvGeometry, weights: &'a [i8]) -> Self {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let inputs = geometry.in_channels / geometry.groups;
        Self { weights, inputs, taps, entries: inputs.div_ceil(4) * taps }
    }

    fn word(&self, output: usize, entry: usize) -> [i8; 4] {
        let (four, tap) = (entry / self.taps, entry % self.taps);
        std::array::from_fn(|i| {
            let input = 4 * four + i;
            if input < self.inputs { self.weights[(output * self.inputs + input) * self.taps + tap] } else { 0 }
        })
    }

    fn any(&self, output: usize, entry: usize) -> bool {
        self.word(output, entry) != [0; 4]
    }

    /// The form with the fewest instructions per vector of pixels, and quarters of those: a product each, and what the others are shared
    /// among.
    fn cheapest(&self, of_channels: usize) -> (usize, Form) {
        let outputs = self.weights.len() / (self.inputs * self.taps).max(1);
        let (mut ones, mut fours) = (0, 0);
        for start in (0..outputs).step_by(of_channels) {
            for first in (start..start + of_channels).step_by(4) {
                let four = first..(first + 4).min(start + of_channels);
                for entry in 0..self.entries {
                    let count = four.clone().filter(|output| self.any(*output, entry)).count();
                    ones += count;
                    fours += usize::from(count > 0);
                }
            }
        }
        // a load for eight products; four products and a load; product and load, and a weight for several vectors
        let costs = [(5 * outputs * self.entries, Form::Dense), (22 * fours, Form::Fours), (9 * ones, Form::Ones)];
        costs.into_iter().min_by_key(|(cost, _)| *cost).expect("there are three")
    }
}

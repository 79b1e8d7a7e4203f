//! The data set in memory: `u8` pixels, labels, names and which split each sample belongs to.

use crate::picture;
use sha2::{Digest, Sha256};

/// What a sample may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Weights are fitted to it.
    Train,
    /// Settings and the best epoch are chosen on it.
    Val,
    /// Read once, for the report.
    Test,
    /// Left out by the split file.
    Dropped,
}

impl Split {
    /// `train`, `val`, `test` or `dropped`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
            Split::Dropped => "dropped",
        }
    }
}

/// All samples of one data set; every image has the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Name for reports: the file or folder name, or `inspection`.
    pub name: String,
    /// Class names; a label indexes this list.
    pub classes: Vec<String>,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Pixels per column.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Pixels of all samples, `[sample, channel, row, column]`, row-major.
    pub images: Vec<u8>,
    /// Class index per sample.
    pub labels: Vec<u32>,
    /// Where each sample came from, for reports.
    pub sample_names: Vec<String>,
    /// Split per sample.
    pub splits: Vec<Split>,
    /// What the reader decided on its own and the user should know; one sentence each.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Number of samples, dropped ones included.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes (and values) per image: `channels * height * width`.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Pixels of sample `index`, `[channel, row, column]`.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.images[index * size..(index + 1) * size]
    }

    /// Indices of the samples of one split, ascending.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.splits[i] == split).collect()
    }

    /// Samples per class in one split, in class order.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for (&label, &of) in self.labels.iter().zip(&self.splits) {
            if of == split {
                counts[label as usize] += 1;
            }
        }
        counts
    }

    /// SHA-256, in hex, over shape, class names, sample names, labels, splits and pixels.
    ///
    /// Two data sets with the same hash train the same network; the name and the notes do not count.
    pub fn manifest_sha256(&self) -> String {
        let mut hash = Sha256::new();
        let number = |hash: &mut Sha256, value: usize| hash.update((value as u64).to_le_bytes());
        for value in [self.len(), self.classes.len(), self.channels, self.height, self.width] {
            number(&mut hash, value);
        }
        for text in self.classes.iter().chain(&self.sample_names) {
            number(&mut hash, text.len());
            hash.update(text);
        }
        for (&label, &split) in self.labels.iter().zip(&self.splits) {
            hash.update(label.to_le_bytes());
            hash.update([split as u8]);
        }
        hash.update(&self.images);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Mean and standard deviation per channel of `pixel / 255` over one split.
    ///
    /// Sums are exact integers, so the result does not depend on the order of samples.
    /// A split without samples gives mean 0 and standard deviation 1; so does a constant channel for the deviation.
    pub fn mean_std(&self, split: Split) -> (Vec<f32>, Vec<f32>) {
        let plane = self.height * self.width;
        let mut sums = vec![(0u64, 0u64); self.channels];
        let indices = self.indices(split);
        for &index in &indices {
            for (sum, pixels) in sums.iter_mut().zip(self.image(index).chunks_exact(plane.max(1))) {
                sum.0 += pixels.iter().map(|&p| u64::from(p)).sum::<u64>();
                sum.1 += pixels.iter().map(|&p| u64::from(p) * u64::from(p)).sum::<u64>();
            }
        }
        let count = (indices.len() * plane) as f64;
        sums.iter()
            .map(|&(sum, squares)| {
                if count == 0.0 {
                    return (0.0, 1.0);
                }
                let mean = sum as f64 / count;
                let deviation = (squares as f64 / count - mean * mean).max(0.0).sqrt();
                let deviation = if deviation == 0.0 { 255.0 } else { deviation };
                ((mean / 255.0) as f32, (deviation / 255.0) as f32)
            })
            .unzip()
    }

    /// Sample `index` as a PNG file, for reports.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn png(&self, index: usize) -> Vec<u8> {
        picture::png(self.image(index), self.channels, self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Dataset {
        Dataset {
            name: "tiny".into(),
            classes: vec!["a".into(), "b".into()],
            channels: 1,
            height: 1,
            width: 2,
            images: vec![0, 255, 255, 255, 7, 9],
            labels: vec![0, 1, 1],
            sample_names: vec!["x".into(), "y".into(), "z".into()],
            splits: vec![Split::Train, Split::Train, Split::Test],
            notes: vec![],
        }
    }

    #[test]
    fn mean_and_deviation_match_hand_computation() {
        let (mean, std) = tiny().mean_std(Split::Train);
        assert_eq!(mean, [0.75]);
        assert!((std[0] - (0.1875f32).sqrt()).abs() < 1e-6);
        assert_eq!(tiny().mean_std(Split::Val), (vec![0.0], vec![1.0]));
    }

    #[test]
    fn counts_and_indices_follow_the_splits() {
        assert_eq!(tiny().indices(Split::Train), [0, 1]);
        assert_eq!(tiny().class_counts(Split::Train), [1, 1]);
        assert_eq!(tiny().class_counts(Split::Test), [0, 1]);
    }

    #[test]
    fn manifest_changes_with_pixel_label_split_and_name_but_not_with_notes() {
        let base = tiny().manifest_sha256();
        assert_eq!(base.len(), 64);
        let changed = |edit: fn(&mut Dataset)| {
            let mut data = tiny();
            edit(&mut data);
            data.manifest_sha256()
        };
        assert_ne!(base, changed(|d| d.images[0] = 1));
        assert_ne!(base, changed(|d| d.labels[0] = 1));
        assert_ne!(base, changed(|d| d.splits[0] = Split::Val));
        assert_ne!(base, changed(|d| d.sample_names[0] = "w".into()));
        assert_eq!(base, changed(|d| d.notes.push("hello".into())));
    }

    #[test]
    fn png_decodes_to_the_same_pixels() {
        let data = tiny();
        let back = picture::decode("p", &data.png(0)).unwrap();
        assert_eq!((back.height, back.width, back.pixels), (1, 2, vec![0, 255]));
    }
}

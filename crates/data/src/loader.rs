//! Batches for training and evaluation, made one step ahead on a thread of their own: reading, variation and
//! standardising cost the training thread nothing, and what comes in which order is what it would be without that thread.

use crate::augment::Augment;
use crate::dataset::{Dataset, Split};
use crate::draws::{Draws, derive_seed};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches that may wait beside the one that the thread holds. With none of them, one batch is made while the consumer works
/// on the one before, and not more than these two are in memory.
const WAITING: usize = 0;

/// Bytes of images that are fetched from memory together: what stays in the first-level cache until it is used.
const TOGETHER: usize = 16 << 10;

/// Network input for each value of a byte.
type Levels = [f32; 256];

/// Per-channel standardisation of `pixel / 255`: `(value - mean) / std`.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    /// Mean per channel, of `pixel / 255`.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, of `pixel / 255`; above 0.
    pub std: Vec<f32>,
}

impl Normalise {
    /// Mean and deviation of one split, normally [`Split::Train`].
    pub fn of(dataset: &Dataset, split: Split) -> Normalise {
        let (mean, std) = dataset.mean_std(split);
        Normalise { mean, std }
    }

    /// Standardises values in place; `values` is `[channels, height, width]` of one image, already divided by 255.
    ///
    /// # Panics
    /// When `values` does not divide into one plane per channel.
    pub fn apply(&self, values: &mut [f32]) {
        assert_eq!(values.len() % self.mean.len(), 0, "one mean per channel");
        let plane = values.len() / self.mean.len();
        for ((values, mean), std) in values.chunks_exact_mut(plane.max(1)).zip(&self.mean).zip(&self.std) {
            for value in values {
                *value = (*value - mean) / std;
            }
        }
    }

    /// What each byte becomes, per channel: the same bits as [`Normalise::apply`] on `byte / 255`.
    fn levels(&self) -> Vec<Levels> {
        let channels = self.mean.iter().zip(&self.std);
        channels.map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)).collect()
    }

    /// One image, `[channels, height, width]` bytes, as network input.
    pub fn image(&self, pixels: &[u8]) -> Vec<f32> {
        let mut values: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
        self.apply(&mut values);
        values
    }
}

/// In which order samples come. Nothing else decides it: not threads, not timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the index list.
    Sequential,
    /// Shuffled anew in each epoch.
    Shuffled {
        /// Seed of the run or of its loader.
        seed: u64,
        /// Epoch, counted from 0.
        epoch: u64,
    },
}

/// Some samples, ready for the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Standardised values, `[sample, channel, row, column]`.
    pub images: Vec<f32>,
    /// Class per sample.
    pub labels: Vec<u32>,
    /// Index of each sample in its data set.
    pub indices: Vec<usize>,
}

/// Iterator over [`Batch`]es; made by [`batches`]. Dropping it stops its thread.
///
/// # Panics
/// [`Iterator::next`] passes a panic of the thread on, with what it said.
pub struct Loader {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
    samples_left: usize,
    batch_size: usize,
}

/// Starts to make batches of `indices` in the background.
///
/// The last batch may be short; [`Loader::drop_last`] leaves it out. Augmentation draws from the seed and epoch of
/// `order` and the sample's index; with [`Order::Sequential`] seed and epoch count as 0.
///
/// # Panics
/// When `batch_size` is 0, an index is outside the data set, or `normalise` has not one mean and one
/// deviation per channel.
pub fn batches(
    dataset: &Arc<Dataset>,
    indices: &[usize],
    batch_size: usize,
    order: Order,
    augment: Option<&Augment>,
    normalise: &Normalise,
) -> Loader {
    assert!(batch_size > 0, "a batch holds at least one sample");
    assert!(indices.iter().all(|&i| i < dataset.len()), "an index is outside the data set");
    assert_eq!(normalise.mean.len(), dataset.channels, "one mean per channel");
    assert_eq!(normalise.std.len(), dataset.channels, "one deviation per channel");
    let (seed, epoch) = match order {
        Order::Sequential => (0, 0),
        Order::Shuffled { seed, epoch } => (seed, epoch),
    };
    let mut indices = indices.to_vec();
    if order != Order::Sequential {
        Draws::new(derive_seed(seed, "shuffle", &epoch.to_string()), 0).shuffle(&mut indices);
    }
    let samples_left = indices.len();
    let maker = Maker {
        dataset: Arc::clone(dataset),
        augment: augment.copied().unwrap_or_default(),
        levels: normalise.levels(),
        normalise: normalise.clone(),
        augment_seed: Augment::seed(seed, epoch),
    };
    let (sender, receiver) = sync_channel(WAITING);
    let thread = std::thread::spawn(move || {
        for chunk in indices.chunks(batch_size) {
            // The consumer is gone: nobody wants the rest.
            if sender.send(maker.batch(chunk)).is_err() {
                return;
            }
        }
    });
    Loader { batches: Some(receiver), thread: Some(thread), samples_left, batch_size }
}

struct Maker {
    dataset: Arc<Dataset>,
    augment: Augment,
    levels: Vec<Levels>,
    normalise: Normalise,
    augment_seed: u64,
}

impl Maker {
    fn batch(&self, indices: &[usize]) -> Batch {
        let data = &self.dataset;
        let mut images = vec![0.0; indices.len() * data.image_len()];
        let len = data.image_len().max(1);
        let together = (TOGETHER / len).max(1);
        for (indices, out) in indices.chunks(together).zip(images.chunks_mut(together * len)) {
            indices.iter().for_each(|&index| fetch(data.image(index)));
            indices.iter().zip(out.chunks_exact_mut(len)).for_each(|(&index, out)| self.image(index, out));
        }
        let labels = indices.iter().map(|&index| data.labels[index]).collect();
        Batch { images, labels, indices: indices.to_vec() }
    }

    fn image(&self, index: usize, out: &mut [f32]) {
        let (pixels, height, width) = (self.dataset.image(index), self.dataset.height, self.dataset.width);
        let plane = (height * width).max(1);
        if self.augment == Augment::default() {
            let planes = pixels.chunks_exact(plane).zip(out.chunks_exact_mut(plane)).zip(&self.levels);
            planes.for_each(|((from, to), levels)| look_up(levels, from, to));
            return;
        }
        let variation = self.augment.draw(self.augment_seed, index);
        if variation.keeps_levels() {
            variation.gather(pixels, height, width, out, |channel, byte| self.levels[channel][usize::from(byte)]);
        } else {
            variation.apply(pixels, height, width, out);
            self.normalise.apply(out);
        }
    }
}

/// Reads a byte of each cache line, so that the lines of some images come from memory together: images in shuffled order are never
/// where the processor looks ahead by itself.
fn fetch(image: &[u8]) {
    std::hint::black_box(image.iter().step_by(64).fold(0, |sum, byte| sum ^ byte));
}

/// `to[i] = levels[from[i]]`, eight bytes per load.
fn look_up(levels: &Levels, from: &[u8], to: &mut [f32]) {
    let ((words, last), (eights, rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (word, eight) in words.iter().zip(eights) {
        let word = u64::from_le_bytes(*word);
        for (i, value) in eight.iter_mut().enumerate() {
            *value = levels[(word >> (8 * i)) as usize & 255];
        }
    }
    last.iter().zip(rest).for_each(|(&byte, value)| *value = levels[usize::from(byte)]);
}

impl Loader {
    /// Leaves out a last batch that is not full, so that batch statistics keep their size.
    pub fn drop_last(mut self) -> Self {
        self.samples_left -= self.samples_left % self.batch_size;
        self
    }
}

impl Iterator for Loader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.samples_left == 0 {
            return None;
        }
        let Ok(batch) = self.batches.as_ref()?.recv() else {
            // Batches are missing, so the thread did not end by itself.
            let panic = self.thread.take()?.join().err()?;
            std::panic::resume_unwind(panic)
        };
        self.samples_left = self.samples_left.saturating_sub(batch.labels.len());
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.samples_left.div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Loader {}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel first is what lets a waiting thread end.
        self.batches.take();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed; dropping must not panic again.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(samples: usize) -> Arc<Dataset> {
        Arc::new(Dataset {
            name: "ramp".into(),
            classes: vec!["even".into(), "odd".into()],
            channels: 1,
            height: 2,
            width: 2,
            images: (0..samples * 4).map(|v| v as u8).collect(),
            labels: (0..samples).map(|v| (v % 2) as u32).collect(),
            sample_names: (0..samples).map(|v| v.to_string()).collect(),
            splits: vec![Split::Train; samples],
            notes: vec![],
        })
    }

    fn plain() -> Normalise {
        Normalise { mean: vec![0.0], std: vec![1.0] }
    }

    fn order_of(seed: u64, epoch: u64, batch_size: usize) -> Vec<usize> {
        let data = ramp(23);
        let all: Vec<usize> = (0..23).collect();
        let order = Order::Shuffled { seed, epoch };
        batches(&data, &all, batch_size, order, None, &plain()).flat_map(|batch| batch.indices).collect()
    }

    #[test]
    fn order_depends_on_seed_and_epoch_and_not_on_the_batch_size() {
        assert_eq!(order_of(1, 0, 4), order_of(1, 0, 7));
        assert_ne!(order_of(1, 0, 4), order_of(1, 1, 4));
        assert_ne!(order_of(1, 0, 4), order_of(2, 0, 4));
        let mut sorted = order_of(1, 0, 4);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..23).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_short_batch_is_kept_or_dropped_as_asked() {
        let data = ramp(7);
        let sizes = |loader: Loader| (loader.len(), loader.map(|b| b.labels.len()).collect::<Vec<_>>());
        let make = || batches(&data, &[0, 1, 2, 3, 4], 2, Order::Sequential, None, &plain());
        assert_eq!(sizes(make()), (3, vec![2, 2, 1]));
        assert_eq!(sizes(make().drop_last()), (2, vec![2, 2]));
        assert_eq!(sizes(batches(&data, &[], 2, Order::Sequential, None, &plain())), (0, vec![]));
    }

    #[test]
    fn values_are_standardised_pixels_with_their_labels() {
        let data = ramp(3);
        let normalise = Normalise { mean: vec![0.5], std: vec![0.25] };
        let batch = batches(&data, &[2, 1], 8, Order::Sequential, None, &normalise).next().unwrap();
        assert_eq!((batch.labels, batch.indices), (vec![0, 1], vec![2, 1]));
        assert_eq!(batch.images[0], (8.0f32 / 255.0 - 0.5) / 0.25);
        assert_eq!(batch.images[4..], normalise.image(data.image(1)));
    }

    #[test]
    fn augmented_samples_do_not_depend_on_who_shares_their_batch() {
        let data = ramp(20);
        let augment = Augment { flip_horizontal: true, shift: 1, contrast: 0.3, ..Augment::default() };
        let values_of = |indices: &[usize], size| {
            let order = Order::Shuffled { seed: 9, epoch: 3 };
            batches(&data, indices, size, order, Some(&augment), &plain())
                .flat_map(|b| {
                    b.indices.clone().into_iter().zip(b.images.chunks(4).map(<[f32]>::to_vec).collect::<Vec<_>>())
                })
                .find(|(index, _)| *index == 5)
        };
        let all: Vec<usize> = (0..20).collect();
        assert!(values_of(&all, 3).is_some());
        assert_eq!(values_of(&all, 3), values_of(&[5, 6], 2));
    }

    #[test]
    fn batches_made_ahead_hold_the_bytes_of_images_made_one_by_one() {
        let size = 2 * 3 * 5;
        let data = Arc::new(Dataset {
            channels: 2,
            height: 3,
            width: 5,
            images: (0..23 * size).map(|v| (v * v % 251) as u8).collect(),
            ..(*ramp(23)).clone()
        });
        let normalise = Normalise { mean: vec![0.4, 0.3], std: vec![0.7, 0.2] };
        let moves = Augment { flip_horizontal: true, flip_vertical: true, shift: 2, ..Augment::default() };
        let all: Vec<usize> = (0..23).collect();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for augment in [Augment::default(), moves, Augment { contrast: 0.3, brightness: 0.1, ..moves }] {
            let order = Order::Shuffled { seed: 4, epoch: 2 };
            let mut loader = batches(&data, &all, 4, order, Some(&augment), &normalise);
            let mut shuffled = all.clone();
            Draws::new(derive_seed(4, "shuffle", "2"), 0).shuffle(&mut shuffled);
            for expected in shuffled.chunks(4) {
                let batch = loader.next().unwrap();
                let mut images = vec![0.0; expected.len() * size];
                for (&index, image) in expected.iter().zip(images.chunks_exact_mut(size)) {
                    augment.draw(Augment::seed(4, 2), index).apply(data.image(index), 3, 5, image);
                    normalise.apply(image);
                }
                assert_eq!(batch.indices, expected);
                assert_eq!(bits(&batch.images), bits(&images), "{augment:?}");
            }
            assert_eq!(loader.next(), None);
        }
    }

    #[test]
    fn a_panic_while_a_batch_is_made_reaches_the_consumer_after_the_batches_before_it() {
        let mut short = (*ramp(6)).clone();
        short.images.truncate(4 * 4);
        let mut loader = batches(&Arc::new(short), &[0, 1, 2, 3, 4, 5], 2, Order::Sequential, None, &plain());
        assert_eq!(loader.by_ref().take(2).flat_map(|batch| batch.indices).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let next = std::panic::AssertUnwindSafe(|| loader.next());
        let panic = std::panic::catch_unwind(next).expect_err("pixels are missing");
        assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("range")), "says what it was");
    }

    #[test]
    fn dropping_a_loader_early_ends_its_thread() {
        let data = ramp(60);
        let all: Vec<usize> = (0..60).collect();
        let mut loader = batches(&data, &all, 1, Order::Sequential, None, &plain());
        loader.next();
        drop(loader);
        assert_eq!(Arc::strong_count(&data), 1);
    }
}

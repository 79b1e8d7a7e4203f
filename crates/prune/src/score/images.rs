//! The labelled images that gradient scores look at: balanced by class, drawn by a seed, never augmented.

use candle_core::Tensor;
use sentei_data::{Order, Split, batches, derive_seed};

use super::ScoreData;
use crate::evaluate::to_tensors;
use crate::net::Net;
use crate::train::TrainError;

/// How many images a score looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Images of each class in a batch; a class that has fewer gives all it has.
    pub per_class: usize,
    /// Batches.
    pub batches: usize,
}

impl Images {
    /// Input and labels of every batch, from the train split.
    ///
    /// A class that runs out begins again from its first image, in a later batch.
    pub(super) fn draw(
        self,
        net: &Net,
        from: Option<ScoreData>,
        seed: u64,
        score: &'static str,
    ) -> Result<Vec<(Tensor, Vec<u32>)>, TrainError> {
        let ScoreData { data, normalise } = from.ok_or(TrainError::NoScoreData(score))?;
        let mut classes = vec![Vec::new(); data.classes.len()];
        for index in data.indices(Split::Train) {
            classes[data.labels[index] as usize].push(index);
        }
        classes.retain(|class| !class.is_empty());
        if classes.is_empty() {
            return Err(TrainError::NoTraining(data.name.clone()));
        }
        // Sorting by a seeded hash draws a subset that does not depend on anything else.
        for class in &mut classes {
            class.sort_by_cached_key(|i| derive_seed(seed, "images of a score", &i.to_string()));
        }
        let mut drawn = Vec::with_capacity(self.batches);
        for batch in 0..self.batches {
            let of_class = |class: &Vec<usize>| -> Vec<usize> {
                let count = self.per_class.min(class.len());
                (0..count).map(|i| class[(batch * count + i) % class.len()]).collect()
            };
            let indices: Vec<usize> = classes.iter().flat_map(of_class).collect();
            for batch in batches(data, &indices, indices.len(), Order::Sequential, None, normalise) {
                drawn.push(to_tensors(net, batch)?);
            }
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Harness};
    use candle_core::Device;

    #[test]
    fn batches_are_balanced_repeatable_and_without_repeats() {
        let harness = Harness::new();
        let net = Net::new(&testing::mlp(&[16, 6, 3], None), &Device::Cpu).unwrap();
        let data = ScoreData { data: &harness.data, normalise: &harness.normalise };
        let draw =
            |per_class, batches, seed| Images { per_class, batches }.draw(&net, Some(data), seed, "snip").unwrap();
        let two = draw(5, 2, 1);
        for (images, labels) in &two {
            assert_eq!(images.dims(), [15, 1, 4, 4]);
            assert!((0..3).all(|class| labels.iter().filter(|l| **l == class).count() == 5));
        }
        let rows = |batch: &(Tensor, Vec<u32>)| batch.0.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        let mut all: Vec<String> = two.iter().flat_map(rows).map(|row| format!("{row:?}")).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 30, "no image twice");
        assert_eq!(rows(&draw(5, 1, 1)[0]), rows(&two[0]));
        assert_ne!(rows(&draw(5, 1, 2)[0]), rows(&two[0]));
        assert_eq!(draw(100, 1, 1)[0].1.len(), 180, "a class gives no more than it has");
        let none = Images { per_class: 1, batches: 1 }.draw(&net, None, 0, "snip").unwrap_err();
        assert!(none.to_string().contains("`snip`"), "{none}");
    }
}

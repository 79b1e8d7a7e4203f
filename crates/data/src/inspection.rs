//! The embedded inspection set: photographs of metal surfaces that never existed, so that the whole flow runs with nothing to download.

use crate::dataset::{Dataset, Split};
use crate::defects::{crack, distract, inclusion, patch, pit, scratch};
use crate::draws::{Draws, derive_seed};
use crate::texture::{illuminate, photograph, surface};
use rayon::prelude::*;

/// Class names, in label order.
const CLASSES: [&str; 6] = ["ok", "scratch", "pit", "inclusion", "crack", "patch"];

/// Labels of 20 samples in a row: a quarter is `ok`, the defects share the rest evenly.
const LABELS: [u32; 20] = [0, 1, 2, 3, 0, 4, 5, 1, 0, 2, 3, 4, 0, 5, 1, 2, 0, 3, 4, 5];

/// Share of the defects that are nearly invisible. They bound the accuracy any network can reach.
const FAINT_SHARE: f32 = 0.02;
/// Contrast of a faint defect, as a fraction of a normal one.
const FAINT_STRENGTH: (f32, f32) = (0.1, 0.4);
/// Contrast of the other defects, likewise.
const STRENGTH: (f32, f32) = (1.3, 2.0);

/// Size of the set. The default is 4,800 / 600 / 900 grey images of 64x64 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectionSpec {
    /// Pixels per column.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Training samples.
    pub train: usize,
    /// Validation samples.
    pub val: usize,
    /// Test samples.
    pub test: usize,
}

impl Default for InspectionSpec {
    fn default() -> Self {
        InspectionSpec { height: 64, width: 64, train: 4800, val: 600, test: 900 }
    }
}

/// Generates the set: classes `ok`, `scratch`, `pit`, `inclusion`, `crack`, `patch` on brushed, rolled and cast metal.
///
/// A sample depends on `seed`, its split, its number within the split and the image size, and on nothing else: not on
/// the machine, the number of threads or how many samples are made. In every 20 samples 5 are `ok` and 3 belong to
/// each defect class. About 1 in 50 of the defects is so faint that it may pass for `ok`.
pub fn inspection(spec: &InspectionSpec, seed: u64) -> Dataset {
    let plan: Vec<(Split, usize)> = [(Split::Train, spec.train), (Split::Val, spec.val), (Split::Test, spec.test)]
        .into_iter()
        .flat_map(|(split, count)| (0..count).map(move |number| (split, number)))
        .collect();
    let label = |number: usize| LABELS[number % LABELS.len()];
    let mut images = vec![0u8; plan.len() * spec.height * spec.width];
    images.par_chunks_exact_mut((spec.height * spec.width).max(1)).zip(&plan).for_each(|(image, &(split, number))| {
        let seed = derive_seed(seed, "inspection", split.name());
        let mut draws = Draws::new(seed, number as u64);
        image.copy_from_slice(&sample(&mut draws, label(number), spec.height, spec.width));
    });
    Dataset {
        name: "inspection".into(),
        classes: CLASSES.map(String::from).to_vec(),
        channels: 1,
        height: spec.height,
        width: spec.width,
        images,
        labels: plan.iter().map(|&(_, number)| label(number)).collect(),
        sample_names: plan
            .iter()
            .map(|&(split, number)| format!("{}/{}/{number:05}", split.name(), CLASSES[label(number) as usize]))
            .collect(),
        splits: plan.iter().map(|&(split, _)| split).collect(),
        notes: vec![],
    }
}

/// One photograph of a surface with the defect of class `label`.
fn sample(draws: &mut Draws, label: u32, height: usize, width: usize) -> Vec<u8> {
    let mut part = surface(draws, height, width);
    distract(draws, &mut part, 1.0);
    let (low, high) = if draws.chance(FAINT_SHARE) { FAINT_STRENGTH } else { STRENGTH };
    let strength = draws.between(low, high);
    // An area shows at less contrast than a line of the same severity.
    let area = 0.85 * strength;
    match label {
        1 => scratch(draws, &mut part, strength),
        2 => pit(draws, &mut part, area),
        3 => inclusion(draws, &mut part, area),
        4 => crack(draws, &mut part, strength),
        5 => patch(draws, &mut part, area),
        _ => {}
    }
    illuminate(draws, &mut part.field);
    photograph(draws, &mut part.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: InspectionSpec = InspectionSpec { height: 64, width: 64, train: 60, val: 20, test: 20 };

    #[test]
    fn the_same_seed_gives_the_same_bytes_on_every_machine() {
        let hash = inspection(&SMALL, 7).manifest_sha256();
        assert_eq!(
            &hash[..16],
            "2c312f6877a0312a",
            "the generator changed: numbers measured on this set are no longer comparable"
        );
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool(1).install(|| inspection(&SMALL, 3)), pool(3).install(|| inspection(&SMALL, 3)));
    }

    #[test]
    fn seeds_and_splits_give_different_images() {
        let (a, b) = (inspection(&SMALL, 1), inspection(&SMALL, 2));
        assert_ne!(a.image(0), b.image(0));
        assert_ne!(a.image(0), a.image(60));
        assert_eq!(a.labels, b.labels);
    }

    #[test]
    fn a_larger_training_split_leaves_the_test_images_alone() {
        let more = InspectionSpec { train: 80, ..SMALL };
        let (a, b) = (inspection(&SMALL, 1), inspection(&more, 1));
        assert_eq!(a.image(85), b.image(105));
        assert_eq!(a.image(59), b.image(59));
    }

    #[test]
    fn a_quarter_is_ok_and_the_defects_are_balanced() {
        let data = inspection(&SMALL, 1);
        assert_eq!(data.class_counts(Split::Train), [15, 9, 9, 9, 9, 9]);
        assert_eq!(data.class_counts(Split::Val), [5, 3, 3, 3, 3, 3]);
        assert_eq!((data.len(), data.images.len()), (100, 100 * 64 * 64));
    }

    #[test]
    fn other_sizes_and_empty_splits_work() {
        let odd = InspectionSpec { height: 33, width: 96, train: 20, val: 0, test: 3 };
        assert_eq!(inspection(&odd, 1).images.len(), 23 * 33 * 96);
        assert!(inspection(&InspectionSpec { train: 0, test: 0, ..odd }, 1).is_empty());
        assert!(inspection(&InspectionSpec { height: 0, ..odd }, 1).images.is_empty());
    }

    #[test]
    fn images_use_the_grey_range_without_clipping_much() {
        let data = inspection(&SMALL, 5);
        let clipped = data.images.iter().filter(|&&p| p == 0 || p == 255).count();
        assert!(clipped * 50 < data.images.len(), "{clipped}");
        let (mean, std) = data.mean_std(Split::Train);
        assert!((0.35..0.65).contains(&mean[0]) && std[0] > 0.08, "{mean:?} {std:?}");
    }
}

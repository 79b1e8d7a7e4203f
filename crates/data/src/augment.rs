//! Random variation of one training image; the draw depends on (seed, epoch, sample) alone.

use crate::draws::{Draws, derive_seed};

/// Which variations may happen, and how strong. [`Augment::default`] does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left and right in half of the cases.
    pub flip_horizontal: bool,
    /// Mirror top and bottom in half of the cases.
    pub flip_vertical: bool,
    /// Largest shift along each axis, in pixels. Same as a random crop of the image padded by reflection.
    pub shift: usize,
    /// Largest brightness offset, as a fraction of full scale: pixel + U(-b, b).
    pub brightness: f32,
    /// Largest contrast change: distance from the image's mean times U(1 - c, 1 + c).
    pub contrast: f32,
}

/// One concrete variation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Variation {
    pub mirror_columns: bool,
    pub mirror_rows: bool,
    pub shift_rows: isize,
    pub shift_columns: isize,
    pub gain: f32,
    pub offset: f32,
}

impl Augment {
    /// The seed of all draws of one epoch.
    pub(crate) fn seed(run_seed: u64, epoch: u64) -> u64 {
        derive_seed(run_seed, "augment", &epoch.to_string())
    }

    /// The variation of sample `index` in the epoch of this [`Augment::seed`].
    pub(crate) fn draw(&self, epoch_seed: u64, index: usize) -> Variation {
        let mut draws = Draws::new(epoch_seed, index as u64);
        // Always the same number of draws, so that switching one variation on leaves the others alone.
        let (columns, rows) = (draws.chance(0.5), draws.chance(0.5));
        let mut shift = || draws.below(2 * self.shift + 1) as isize - self.shift as isize;
        let (shift_rows, shift_columns) = (shift(), shift());
        Variation {
            mirror_columns: self.flip_horizontal && columns,
            mirror_rows: self.flip_vertical && rows,
            shift_rows,
            shift_columns,
            gain: 1.0 + self.contrast * draws.between(-1.0, 1.0),
            offset: self.brightness * draws.between(-1.0, 1.0),
        }
    }
}

/// Index inside `0..size` of a position outside it, mirrored at the border pixel.
fn reflect(position: isize, size: usize) -> usize {
    if size == 1 {
        return 0;
    }
    let period = 2 * (size as isize - 1);
    let folded = position.rem_euclid(period);
    folded.min(period - folded) as usize
}

impl Variation {
    /// Whether pixels only move: none gets another value.
    pub(crate) fn keeps_levels(&self) -> bool {
        self.gain == 1.0 && self.offset == 0.0
    }

    /// Writes the moved image as `level(channel, pixel)` to `out`; both are `[channels, height, width]`.
    pub(crate) fn gather(
        &self,
        image: &[u8],
        height: usize,
        width: usize,
        out: &mut [f32],
        level: impl Fn(usize, u8) -> f32,
    ) {
        let source = |at: usize, shift: isize, mirror: bool, size: usize| {
            let shifted = reflect(at as isize - shift, size);
            if mirror { size - 1 - shifted } else { shifted }
        };
        let columns: Vec<usize> =
            (0..width).map(|x| source(x, self.shift_columns, self.mirror_columns, width)).collect();
        let planes = image.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width));
        for (channel, (plane, target)) in planes.enumerate() {
            for (y, row_out) in target.chunks_exact_mut(width).enumerate() {
                let row = &plane[source(y, self.shift_rows, self.mirror_rows, height) * width..][..width];
                for (value, &x) in row_out.iter_mut().zip(&columns) {
                    *value = level(channel, row[x]);
                }
            }
        }
    }

    /// Writes the varied image, as `pixel / 255` clamped to `[0, 1]`, to `out`; both are `[channels, height, width]`.
    pub(crate) fn apply(&self, image: &[u8], height: usize, width: usize, out: &mut [f32]) {
        self.gather(image, height, width, out, |_, pixel| f32::from(pixel) / 255.0);
        if !self.keeps_levels() {
            let mean = (out.iter().map(|&v| f64::from(v)).sum::<f64>() / out.len() as f64) as f32;
            for value in out.iter_mut() {
                *value = ((*value - mean) * self.gain + mean + self.offset).clamp(0.0, 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STILL: Variation = Variation {
        mirror_columns: false,
        mirror_rows: false,
        shift_rows: 0,
        shift_columns: 0,
        gain: 1.0,
        offset: 0.0,
    };

    fn apply(variation: Variation, image: &[u8], height: usize, width: usize) -> Vec<u8> {
        let mut out = vec![0.0; image.len()];
        variation.apply(image, height, width, &mut out);
        out.iter().map(|v| (v * 255.0).round() as u8).collect()
    }

    #[test]
    fn mirrors_and_shifts_match_hand_made_images() {
        let image = [1, 2, 3, 4, 5, 6];
        assert_eq!(apply(Variation { mirror_columns: true, ..STILL }, &image, 2, 3), [3, 2, 1, 6, 5, 4]);
        assert_eq!(apply(Variation { mirror_rows: true, ..STILL }, &image, 2, 3), [4, 5, 6, 1, 2, 3]);
        assert_eq!(apply(Variation { shift_columns: 1, ..STILL }, &image, 2, 3), [2, 1, 2, 5, 4, 5]);
        assert_eq!(apply(Variation { shift_rows: -1, ..STILL }, &image, 2, 3), [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn brightness_and_contrast_are_clamped_to_full_scale() {
        assert_eq!(apply(Variation { offset: 0.2, ..STILL }, &[0, 102, 255], 1, 3), [51, 153, 255]);
        assert_eq!(apply(Variation { gain: 0.5, ..STILL }, &[0, 100], 1, 2), [25, 75]);
        assert_eq!(apply(Variation { gain: 9.0, ..STILL }, &[0, 255], 1, 2), [0, 255]);
    }

    #[test]
    fn the_default_changes_nothing() {
        let image: Vec<u8> = (0..=255).collect();
        for index in 0..20 {
            assert_eq!(apply(Augment::default().draw(1, index), &image, 16, 16), image);
        }
    }

    #[test]
    fn the_draw_depends_on_seed_epoch_and_sample() {
        let augment = Augment { flip_horizontal: true, shift: 8, brightness: 0.1, ..Augment::default() };
        let draw = |seed, epoch, index| augment.draw(Augment::seed(seed, epoch), index);
        let base = draw(1, 1, 1);
        assert_eq!(base, draw(1, 1, 1));
        assert!(base != draw(2, 1, 1) && base != draw(1, 2, 1) && base != draw(1, 1, 2));
    }

    proptest! {
        #[test]
        fn mirroring_twice_is_the_identity(
            image in proptest::collection::vec(any::<u8>(), 30), rows: bool, columns: bool,
        ) {
            let mirror = Variation { mirror_rows: rows, mirror_columns: columns, ..STILL };
            prop_assert_eq!(apply(mirror, &apply(mirror, &image, 3, 5), 3, 5), image);
        }

        #[test]
        fn any_shift_stays_inside_and_within_the_stated_range(
            shift in 0usize..40, index in 0usize..1000, height in 1usize..6, width in 1usize..6,
        ) {
            let variation = Augment { shift, ..Augment::default() }.draw(3, index);
            prop_assert!(variation.shift_rows.unsigned_abs() <= shift && variation.shift_columns.unsigned_abs() <= shift);
            let image: Vec<u8> = (0..height * width).map(|v| v as u8 + 1).collect();
            let out = apply(variation, &image, height, width);
            prop_assert!(out.iter().all(|v| image.contains(v)));
        }
    }
}

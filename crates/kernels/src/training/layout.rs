//! From the usual order of a batch, image by image, to that of [`Lanes`] and back.

use super::planes::fits;
use super::simd::{Kernel, MAX_LANES, Simd, isa_of, run};
use super::{Lanes, Output};
use crate::team::Team;

/// Pixels (of any channel) that one task takes.
const TASK: usize = 1024;
/// Squares of pixels and images that are written to the images together.
const TILES: usize = 8;

/// Writes a batch `[N, C, H, W]` as `[N / L][C][H][W][L]`; lanes of images that do not count become 0.
///
/// * `pixels`: values of one image, `C * H * W`.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn to_lanes(team: &Team, lanes: Lanes, pixels: usize, images: &[f32], map: &mut [f32]) {
    fits("the batch", images.len(), lanes.batch * pixels);
    fits("the map", map.len(), lanes.len(pixels));
    let kernel = ToLanes { lanes, pixels, images, map: Output::new(map) };
    run(team, isa_of(lanes.lanes), lanes.blocks() * pixels.div_ceil(TASK), &kernel);
}

/// Gives the lanes of images that do not count what the first image of their block has, so that they stay as finite as that one.
///
/// # Panics
/// When the length does not fit.
pub fn repeat_first(lanes: Lanes, pixels: usize, map: &mut [f32]) {
    fits("the map", map.len(), lanes.len(pixels));
    let Some(last) = lanes.blocks().checked_sub(1) else { return };
    let images = lanes.images(last);
    for pixel in map[lanes.len(pixels) / lanes.blocks() * last..].chunks_exact_mut(lanes.lanes) {
        let first = pixel[0];
        pixel[images..].fill(first);
    }
}

/// Writes a map `[N / L][C][H][W][L]` as a batch `[N, C, H, W]`, without the lanes of images that do not count.
///
/// * `pixels`: values of one image, `C * H * W`.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn from_lanes(team: &Team, lanes: Lanes, pixels: usize, map: &[f32], images: &mut [f32]) {
    fits("the map", map.len(), lanes.len(pixels));
    fits("the batch", images.len(), lanes.batch * pixels);
    let kernel = FromLanes { lanes, pixels, map, images: Output::new(images) };
    run(team, isa_of(lanes.lanes), lanes.blocks() * pixels.div_ceil(TASK), &kernel);
}

struct ToLanes<'a> {
    lanes: Lanes,
    pixels: usize,
    images: &'a [f32],
    map: Output<'a>,
}

impl Kernel for ToLanes<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (block, from, to) = part(self.pixels, task);
        let count = self.lanes.images(block);
        // SAFETY: these pixels of this block belong to this task alone.
        let map = unsafe { self.map.part((block * self.pixels + from) * S::LANES, (to - from) * S::LANES) };
        let image = |i: usize| &self.images[(block * S::LANES + i) * self.pixels..][..self.pixels];
        let mut tiles = map.chunks_exact_mut(S::LANES * S::LANES);
        let mut at = from;
        for tile in &mut tiles {
            let mut rows = [s.splat(0.0); MAX_LANES];
            for (i, row) in rows.iter_mut().enumerate().take(count) {
                *row = s.load(&image(i)[at..]);
            }
            transpose(s, &mut rows);
            for i in 0..S::LANES {
                s.store(&mut tile[i * S::LANES..], rows[i]);
            }
            at += S::LANES;
        }
        for (offset, pixel) in tiles.into_remainder().chunks_exact_mut(S::LANES).enumerate() {
            pixel.fill(0.0);
            for (i, value) in pixel.iter_mut().enumerate().take(count) {
                *value = image(i)[at + offset];
            }
        }
    }
}

struct FromLanes<'a> {
    lanes: Lanes,
    pixels: usize,
    map: &'a [f32],
    images: Output<'a>,
}

impl Kernel for FromLanes<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (block, from, to) = part(self.pixels, task);
        let count = self.lanes.images(block);
        let map = &self.map[(block * self.pixels + from) * S::LANES..][..(to - from) * S::LANES];
        let tiles = map.chunks_exact(S::LANES * S::LANES);
        let rest = tiles.remainder();
        let mut at = from;
        // some tiles together: images lie far apart, often in the same place of the cache, so a line is better written at once
        let mut together = [[0.0; TILES * MAX_LANES]; MAX_LANES];
        let mut filled = 0;
        let whole = tiles.len();
        for (number, tile) in tiles.enumerate() {
            let mut rows = [s.splat(0.0); MAX_LANES];
            for i in 0..S::LANES {
                rows[i] = s.load(&tile[i * S::LANES..]);
            }
            transpose(s, &mut rows);
            for i in 0..S::LANES {
                s.store(&mut together[i][filled..], rows[i]);
            }
            filled += S::LANES;
            if filled == TILES * S::LANES || number + 1 == whole {
                for (i, values) in together.iter().enumerate().take(count) {
                    // SAFETY: these pixels of this image belong to this task alone.
                    let image = unsafe { self.images.part((block * S::LANES + i) * self.pixels + at, filled) };
                    image.copy_from_slice(&values[..filled]);
                }
                at += filled;
                filled = 0;
            }
        }
        for i in 0..count {
            // SAFETY: as above.
            let image = unsafe { self.images.part((block * S::LANES + i) * self.pixels + at, to - at) };
            for (value, pixel) in image.iter_mut().zip(rest.chunks_exact(S::LANES)) {
                *value = pixel[i];
            }
        }
    }
}

/// The block of a task, and its pixels from and to.
fn part(pixels: usize, task: usize) -> (usize, usize, usize) {
    let parts = pixels.div_ceil(TASK);
    let from = task % parts * TASK;
    (task / parts, from, (from + TASK).min(pixels))
}

/// Swaps rows and columns of the first `LANES` vectors: each interleaving moves the top bit of a row's number to the bottom of
/// the column's.
#[inline(always)]
fn transpose<S: Simd>(s: S, rows: &mut [S::V; MAX_LANES]) {
    let mut left = S::LANES;
    while left > 1 {
        let old = *rows;
        for i in 0..S::LANES / 2 {
            (rows[2 * i], rows[2 * i + 1]) = s.interleave(old[i], old[i + S::LANES / 2]);
        }
        left /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::testing::{every_isa, noise, threads};

    #[test]
    fn every_value_finds_its_lane_and_back() {
        for (isa, batch, pixels) in
            every_isa([15, 17, 1, 32]).flat_map(|(i, b)| [1, 7, 3 * 49, 1030].map(|p| (i, b, p)))
        {
            let lanes = Lanes::new(isa, batch);
            let images = noise(batch * pixels, 1);
            for team in threads() {
                let mut map = vec![f32::NAN; lanes.len(pixels)];
                to_lanes(&team, lanes, pixels, &images, &mut map);
                for (i, value) in map.iter().enumerate() {
                    let (image, pixel) =
                        (i / (pixels * lanes.lanes) * lanes.lanes + i % lanes.lanes, i / lanes.lanes % pixels);
                    let expected = if image < batch { images[image * pixels + pixel] } else { 0.0 };
                    assert_eq!(*value, expected, "{isa:?}, {batch} images, {pixels} pixels, place {i}");
                }
                let mut back = vec![f32::NAN; images.len()];
                from_lanes(&team, lanes, pixels, &map, &mut back);
                assert_eq!(back, images, "{isa:?}, {batch} images, {pixels} pixels");
            }
        }
    }
}

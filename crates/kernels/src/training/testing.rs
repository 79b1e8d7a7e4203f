//! What the tests of several files need: numbers, teams, and plain order.

use super::{Lanes, Planes};
use crate::Isa;
use crate::team::Team;

/// Numbers between -1 and 1 that look random, the same for the same `salt`.
pub(super) fn noise(count: usize, salt: u32) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Every instruction set that runs here, with every batch.
pub(super) fn every_isa<const N: usize>(batches: [usize; N]) -> impl Iterator<Item = (Isa, usize)> {
    let runs = |isa: &Isa| isa.runs_here() && isa.or_portable() == *isa;
    Isa::COMPILED.iter().copied().filter(runs).flat_map(move |isa| batches.map(|batch| (isa, batch)))
}

/// Teams of one, two and three.
pub(super) fn threads() -> [Team; 3] {
    [1, 2, 3].map(|threads| Team::new(threads, false).expect("a few threads"))
}

/// Noise as a map whose images that do not count hold `rest`.
pub(super) fn map(planes: Planes, salt: u32, rest: f32) -> Vec<f32> {
    let mut map = noise(planes.len(), salt);
    for (i, value) in map.iter_mut().enumerate() {
        if place(planes, i).0 >= planes.lanes.batch {
            *value = rest;
        }
    }
    map
}

/// Image, channel and pixel of element `i` of a map.
pub(super) fn place(planes: Planes, i: usize) -> (usize, usize, usize) {
    let Lanes { lanes, .. } = planes.lanes;
    let (block, rest) = (i / (planes.channels * planes.plane()), i % (planes.channels * planes.plane()));
    (block * lanes + rest % lanes, rest / planes.plane(), rest / lanes % planes.pixels)
}

/// Element of a map.
pub(super) fn at(planes: Planes, image: usize, channel: usize, pixel: usize) -> usize {
    let Lanes { lanes, .. } = planes.lanes;
    planes.at(image / lanes, channel) + pixel * lanes + image % lanes
}

/// Asserts that every value is within `rounding` of the expected one, relative to the larger of it and 1.
pub(super) fn close(what: &str, found: &[f32], expected: &[f64], rounding: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= rounding * expected.abs().max(1.0), "{what}: value {i} is {found}, expected {expected}");
    }
}

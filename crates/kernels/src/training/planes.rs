//! A map as planes: the pixels of one channel for one block of images.

use std::ops::Range;

use super::Lanes;

/// Channels that one task takes at most.
pub(super) const MAX_GROUP: usize = 16;
/// Values that one task should touch: enough to be worth handing out, few enough to stay in the second-level cache.
const TASK: usize = 1 << 13;

/// The lengths of a map in the layout of [`Lanes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planes {
    /// Images.
    pub lanes: Lanes,
    /// Channels.
    pub channels: usize,
    /// Pixels of one channel: height times width; 1 for a vector.
    pub pixels: usize,
}

impl Planes {
    /// Numbers of the map, those of images that do not count included.
    pub fn len(&self) -> usize {
        self.lanes.len(self.channels * self.pixels)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of one channel that count.
    pub(super) fn count(&self) -> usize {
        self.lanes.batch * self.pixels
    }

    /// Numbers of one plane.
    pub(super) fn plane(&self) -> usize {
        self.pixels * self.lanes.lanes
    }

    /// Planes in all: block by block, in each channel by channel.
    pub(super) fn planes(&self) -> usize {
        self.lanes.blocks() * self.channels
    }

    /// Where the plane of `channel` in `block` starts.
    pub(super) fn at(&self, block: usize, channel: usize) -> usize {
        (block * self.channels + channel) * self.plane()
    }

    /// Channels that one task takes, where a task takes channels of all blocks.
    fn group(&self) -> usize {
        (TASK / self.plane().max(1)).clamp(1, MAX_GROUP)
    }

    /// Tasks where each takes some channels of all blocks.
    pub(super) fn channel_tasks(&self) -> usize {
        self.channels.div_ceil(self.group())
    }

    /// The channels of such a task.
    pub(super) fn channels_of(&self, task: usize) -> Range<usize> {
        let first = task * self.group();
        first..(first + self.group()).min(self.channels)
    }

    /// Planes that one task takes, where a task takes planes that follow each other.
    fn run_of_planes(&self) -> usize {
        (TASK / self.plane().max(1)).max(1)
    }

    /// Tasks where each takes planes that follow each other.
    pub(super) fn plane_tasks(&self) -> usize {
        self.planes().div_ceil(self.run_of_planes())
    }

    /// The planes of such a task.
    pub(super) fn planes_of(&self, task: usize) -> Range<usize> {
        let first = task * self.run_of_planes();
        first..(first + self.run_of_planes()).min(self.planes())
    }
}

/// Asserts that `what` has as many values as it should.
pub(super) fn fits(what: &str, found: usize, expected: usize) {
    assert!(found == expected, "{what} has {found} values where {expected} are expected");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_channel_and_every_plane_once() {
        for (channels, pixels) in [(1, 1), (37, 1), (5, 49), (3, 4096)] {
            let planes = Planes { lanes: Lanes { batch: 33, lanes: 16 }, channels, pixels };
            let seen: Vec<usize> = (0..planes.channel_tasks()).flat_map(|task| planes.channels_of(task)).collect();
            assert_eq!(seen, (0..channels).collect::<Vec<_>>());
            let seen: Vec<usize> = (0..planes.plane_tasks()).flat_map(|task| planes.planes_of(task)).collect();
            assert_eq!(seen, (0..3 * channels).collect::<Vec<_>>());
        }
    }
}

//! Feature maps as they lie in memory.

/// Elements that planes are aligned to inside a region: one cache line, and the widest vector.
pub const LINE: usize = 16;

/// The feature map of one image: `channels` planes of `height * width` pixels, `stride` elements apart.
///
/// What lies between the last pixel of a plane and the next plane is initialised but means nothing; layers may overwrite it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Number of planes.
    pub channels: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Columns of a plane; rows lie one after another without a gap.
    pub width: usize,
    /// Elements from one plane to the next, at least `height * width`.
    pub stride: usize,
}

/// Planes of at most this many pixels are read whole, so that it does not matter which sets of a cache each begins in.
const SMALL: usize = 8 * LINE;

/// At least `len` elements, an odd number of lines: a tile reads the same few lines of many planes, which would fall into the same
/// sets of the first-level cache if planes were a power of two apart.
pub(crate) fn spaced(len: usize) -> usize {
    (len.div_ceil(LINE) | 1) * LINE
}

impl Map {
    /// Planes without gaps, as tensors outside of a region have them.
    pub fn tight(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, stride: height * width }
    }

    /// Planes that start on cache lines; a vector (one pixel per plane) stays tight.
    pub fn aligned(channels: usize, height: usize, width: usize) -> Self {
        let pixels = height * width;
        let stride = match pixels {
            1 => 1,
            ..=SMALL => pixels.next_multiple_of(LINE),
            _ => spaced(pixels),
        };
        Self { channels, height, width, stride }
    }

    /// Pixels of one plane.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Elements of all planes.
    pub fn len(&self) -> usize {
        self.channels * self.stride
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the planes have no gaps.
    pub fn is_tight(&self) -> bool {
        self.stride == self.pixels()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_planes_start_on_lines_and_vectors_stay_tight() {
        assert_eq!(Map::aligned(3, 7, 7), Map { channels: 3, height: 7, width: 7, stride: 64 });
        assert_eq!(Map::aligned(3, 4, 4), Map::tight(3, 4, 4));
        assert_eq!(Map::aligned(512, 1, 1), Map::tight(512, 1, 1));
        assert_eq!((Map::aligned(3, 32, 32).stride, Map::aligned(3, 28, 28).stride), (1024 + 16, 784));
        assert_eq!((Map::aligned(3, 7, 7).len(), Map::tight(3, 7, 7).is_tight()), (192, true));
    }
}

//! Feature maps as they lie in memory.

/// Elements that planes are aligned to inside a region: one cache line, and the widest vector.
pub const LINE: usize = 16;

/// The feature map of one image: `channels` planes of `height * width` pixels, `stride` elements apart.
///
/// Cut into several *slabs*, first all planes of the topmost rows lie there like a map of their own, then all of the rows below, and so
/// on. A thread that computes one slab shares no cache line with the others, and what its processor fetches in advance is its own.
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
    /// Elements from one plane of a slab to the next, at least `height / slabs * width`.
    pub stride: usize,
    /// Slabs of equally many rows; 1 unless a region's layers agree on more.
    pub slabs: usize,
    /// Rows at the top and at the bottom of every slab that lie once more behind its planes, channel after channel without gaps: what
    /// windows read from the slab beside is then in one place.
    pub edges: usize,
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
        Self { channels, height, width, stride: height * width, slabs: 1, edges: 0 }
    }

    /// Planes that start on cache lines; a vector (one pixel per plane) stays tight.
    pub fn aligned(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, stride: aligned(height * width), slabs: 1, edges: 0 }
    }

    /// The same map in `slabs` slabs with so many gathered rows, whose planes start on cache lines unless they are single pixels; `None` when slabs would differ in
    /// number of rows, or have fewer than those.
    pub fn in_slabs(self, slabs: usize, edges: usize) -> Option<Self> {
        let fits = slabs > 0 && self.height.is_multiple_of(slabs) && edges <= self.height / slabs;
        fits.then(|| Self { stride: aligned(self.height / slabs * self.width), slabs, edges, ..self })
    }

    /// Pixels of one plane.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Rows of one slab.
    pub fn slab_height(&self) -> usize {
        self.height / self.slabs
    }

    /// Elements from one slab to the next.
    pub fn slab_len(&self) -> usize {
        self.channels * self.stride + 2 * self.edge_len()
    }

    /// Elements of the gathered rows of one edge, the top or the bottom, of a slab.
    pub(crate) fn edge_len(&self) -> usize {
        (self.channels * self.edges * self.width).next_multiple_of(LINE)
    }

    /// First element of the gathered rows of `channel`, from the start of their slab: at the top or at the bottom.
    pub(crate) fn edge(&self, bottom: bool, channel: usize) -> usize {
        self.channels * self.stride + usize::from(bottom) * self.edge_len() + channel * self.edges * self.width
    }

    /// Elements of all planes.
    pub fn len(&self) -> usize {
        self.slabs * self.slab_len()
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all planes lie one after another, and nothing else.
    pub fn is_whole(&self) -> bool {
        self.slabs == 1 && self.edges == 0
    }

    /// Whether the planes have no gaps.
    pub fn is_tight(&self) -> bool {
        self.is_whole() && self.stride == self.pixels()
    }
}

/// Elements from one plane of so many pixels to the next, so that all start on cache lines.
fn aligned(pixels: usize) -> usize {
    match pixels {
        1 => 1,
        ..=SMALL => pixels.next_multiple_of(LINE),
        _ => spaced(pixels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_planes_start_on_lines_and_vectors_stay_tight() {
        assert_eq!(Map::aligned(3, 7, 7), Map { channels: 3, height: 7, width: 7, stride: 64, slabs: 1, edges: 0 });
        assert_eq!(Map::aligned(3, 4, 4), Map::tight(3, 4, 4));
        assert_eq!(Map::aligned(512, 1, 1), Map::tight(512, 1, 1));
        assert_eq!((Map::aligned(3, 32, 32).stride, Map::aligned(3, 28, 28).stride), (1024 + 16, 784));
        assert_eq!((Map::aligned(3, 7, 7).len(), Map::tight(3, 7, 7).is_tight()), (192, true));
    }

    #[test]
    fn slabs_have_equally_many_rows_and_planes_of_their_own() {
        let map = Map::aligned(3, 14, 14).in_slabs(2, 0).unwrap();
        assert_eq!((map.slab_height(), map.stride, map.slab_len(), map.len()), (7, 112, 336, 672));
        let map = Map::aligned(3, 14, 14).in_slabs(2, 1).unwrap();
        assert_eq!((map.edge(false, 1), map.edge(true, 0), map.slab_len()), (336 + 14, 336 + 48, 336 + 96));
        assert_eq!((Map::tight(3, 7, 7).in_slabs(2, 0), Map::tight(3, 4, 4).in_slabs(2, 3)), (None, None));
        assert!(!Map::tight(3, 4, 4).in_slabs(2, 0).unwrap().is_tight());
    }
}

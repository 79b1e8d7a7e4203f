//! How the activations of a batch lie in memory.

use crate::Isa;

/// `[N / L][C][H][W][L]`: `L` images side by side, the last block filled up with images that do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lanes {
    /// Images.
    pub batch: usize,
    /// Images per block: the lanes of a vector.
    pub lanes: usize,
}

impl Lanes {
    /// The layout of `batch` images for `isa`.
    pub fn new(isa: Isa, batch: usize) -> Self {
        Self { batch, lanes: isa.or_portable().lanes() }
    }

    /// Blocks of images.
    pub fn blocks(&self) -> usize {
        self.batch.div_ceil(self.lanes)
    }

    /// Images of block `block` that count.
    pub fn images(&self, block: usize) -> usize {
        (self.batch - block * self.lanes).min(self.lanes)
    }

    /// Numbers of a map with `pixels` values per image, those of images that do not count included.
    pub fn len(&self, pixels: usize) -> usize {
        self.blocks() * pixels * self.lanes
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.batch == 0
    }
}

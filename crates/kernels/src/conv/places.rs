//! How the pixels of a piece are cut into tiles, and where they belong in the output.

use std::ops::Range;

use crate::planes::tiles::Place;

/// Some rows of pixels that are computed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Number of rows.
    pub rows: usize,
    /// Pixels from one row to the next as the kernel counts them.
    pub pitch: usize,
    /// Pixels of a row that are kept.
    pub columns: usize,
    /// Elements of the output from one row to the next.
    pub width: usize,
    /// Element of the output where the first pixel belongs.
    pub start: usize,
    /// Element of the output from which on nothing may be overwritten.
    pub room: usize,
}

/// Some vectors of pixels whose sums are in registers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// First pixel of the piece.
    pub first: usize,
    /// Number of vectors.
    pub vectors: usize,
    /// Where the tile belongs, if all its pixels follow each other in the output.
    pub whole: Option<usize>,
    places: Range<usize>,
}

/// How many vectors a tile has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    /// At most so many are wanted.
    pub wanted: usize,
    /// Fewer than this do not keep the multipliers busy, and are summed up in another order: tiles are wider than wanted instead.
    pub least: usize,
    /// More than this there are no registers for.
    pub most: usize,
}

/// The tiles of a piece.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub tiles: Vec<Tile>,
    all: Vec<Place>,
}

impl Places {
    /// Tiles of about the same width in vectors of `lanes` pixels.
    pub fn new(lanes: usize, widths: Widths, piece: Piece) -> Self {
        let count = (piece.rows - 1) * piece.pitch + piece.columns;
        let vectors = count.div_ceil(lanes);
        let mut parts = vectors.div_ceil(widths.wanted);
        while parts > 1 && vectors / parts < widths.least && vectors.div_ceil(parts - 1) <= widths.most {
            parts -= 1;
        }
        let mut places = Self { tiles: Vec::with_capacity(parts), all: Vec::new() };
        let mut done = 0;
        for part in 0..parts {
            let width = (vectors - done).div_ceil(parts - part);
            let pixels = done * lanes..(done + width) * lanes;
            done += width;
            let before = places.all.len();
            let whole = piece.whole(pixels.clone(), count);
            if whole.is_none() {
                piece.push_places(pixels.start..pixels.end.min(count), lanes, &mut places.all);
            }
            let tile = Tile { first: pixels.start, vectors: width, whole, places: before..places.all.len() };
            places.tiles.push(tile);
        }
        places
    }

    /// Where the pixels of a tile belong that is not whole.
    pub fn of(&self, tile: &Tile) -> &[Place] {
        &self.all[tile.places.clone()]
    }
}

impl Piece {
    /// Where `pixels` belong if they follow each other in the output; those from `count` on may fall into what is free there.
    fn whole(&self, pixels: Range<usize>, count: usize) -> Option<usize> {
        let row = pixels.start / self.pitch;
        let one_row = pixels.end.min(count) <= row * self.pitch + self.columns;
        let gapless = self.columns == self.pitch && self.pitch == self.width;
        let element = self.start + row * self.width + pixels.start % self.pitch;
        let inside = pixels.end <= count || element + pixels.len() <= self.room;
        ((one_row || gapless) && inside).then_some(element)
    }

    /// Vectors along the rows of the output.
    fn push_places(&self, pixels: Range<usize>, lanes: usize, places: &mut Vec<Place>) {
        for row in pixels.start / self.pitch..pixels.end.div_ceil(self.pitch) {
            let begin = (row * self.pitch).max(pixels.start);
            let end = (row * self.pitch + self.columns).min(pixels.end);
            for first in (begin..end.max(begin)).step_by(lanes) {
                places.push(Place {
                    element: self.start + row * self.width + first - row * self.pitch,
                    first: (first - pixels.start) as u32,
                    count: (end - first).min(lanes) as u32,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels that are kept have one place each, and no other element below `room` is left out or written twice.
    #[test]
    fn every_pixel_that_is_kept_has_one_place() {
        for lanes in [4, 8, 16] {
            for (pitch, columns, width, rows) in [
                (8, 7, 7, 7),
                (16, 16, 56, 5),
                (16, 8, 56, 3),
                (24, 24, 30, 2),
                (32, 32, 32, 4),
                (57, 56, 56, 3),
                (49, 49, 49, 1),
            ] {
                for (wanted, least, start) in [(1, 1, 0), (3, 1, width - columns), (14, 1, width - columns), (3, 5, 0)]
                {
                    let widths = Widths { wanted, least, most: 8.max(wanted) };
                    let piece = Piece { rows, pitch, columns, width, start, room: 0 };
                    let places = Places::new(lanes, widths, piece);
                    let mut seen = vec![usize::MAX; start + rows * width];
                    let mut next = 0;
                    for tile in &places.tiles {
                        assert_eq!(tile.first, next);
                        assert!((1..=if least == 1 { wanted } else { widths.most }).contains(&tile.vectors));
                        next += tile.vectors * lanes;
                        let mut see = |element: usize, pixel: usize| {
                            assert_eq!(seen[element], usize::MAX, "element {element} twice");
                            seen[element] = pixel;
                        };
                        match tile.whole {
                            Some(element) => (0..tile.vectors * lanes).for_each(|i| see(element + i, tile.first + i)),
                            None => places.of(tile).iter().for_each(|place| {
                                let Place { element, first, count } = *place;
                                let [first, count] = [first, count].map(|number| number as usize);
                                assert!(count <= lanes && first + count <= tile.vectors * lanes);
                                (0..count).for_each(|i| see(element + i, tile.first + first + i));
                            }),
                        }
                    }
                    let mut expected = vec![usize::MAX; start + rows * width];
                    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                        expected[start + row * width + column] = row * pitch + column;
                    }
                    assert_eq!(seen, expected, "lanes {lanes} {widths:?} {piece:?}");
                }
            }
        }
    }

    #[test]
    fn pixels_that_follow_each_other_need_no_places() {
        let piece = Piece { rows: 4, pitch: 32, columns: 32, width: 32, start: 0, room: 0 };
        let at_most = |wanted: usize| Widths { wanted, least: 1, most: 14 };
        assert!(Places::new(16, at_most(3), piece).tiles.iter().all(|tile| tile.whole == Some(tile.first)));
        // the last of 49 pixels stand in a vector of their own, which may be written whole only where there is room
        let line = |room: usize| Piece { rows: 1, pitch: 49, columns: 49, width: 49, start: 0, room };
        assert_eq!(Places::new(16, at_most(4), line(64)).tiles[0].whole, Some(0));
        let places = Places::new(16, at_most(4), line(63));
        assert_eq!(places.tiles[0].whole, None);
        assert_eq!(places.of(&places.tiles[0])[3], Place { element: 48, first: 48, count: 1 });
    }

    #[test]
    fn tiles_are_wider_than_wanted_rather_than_idle() {
        let vectors = |pixels: usize, wanted: usize, most: usize| {
            let piece = Piece { rows: 1, pitch: pixels, columns: pixels, width: pixels, start: 0, room: 0 };
            let places = Places::new(8, Widths { wanted, least: 7, most }, piece);
            places.tiles.iter().map(|tile| tile.vectors).collect::<Vec<_>>()
        };
        assert_eq!(vectors(14 * 14, 10, 14), [9, 8, 8]);
        // half of that map: 7 and 6 would be
        assert_eq!(vectors(7 * 14, 10, 14), [13]);
        // no registers for 13, and no pixels for 7
        assert_eq!((vectors(7 * 14, 10, 12), vectors(40, 10, 14)), (vec![7, 6], vec![5]));
    }
}

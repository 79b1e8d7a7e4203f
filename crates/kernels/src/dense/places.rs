//! Where the pixels of a vector belong in the output.

/// Where some lanes of a vector of pixels belong in a plane of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Element of lane 0, which may lie before the first.
    pub offset: i32,
    /// First lane.
    pub from: u16,
    /// One past the last lane.
    pub to: u16,
}

/// Some vectors of pixels that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// First pixel of the long row.
    pub pixel: usize,
    /// Number of vectors.
    pub vectors: usize,
    /// Pixels from one vector to the next.
    pub step: usize,
    /// Vectors of the tiles before.
    pub before: usize,
    /// Where the first vector belongs, and how far from it the next, if all lanes of all vectors belong together.
    pub whole: Option<[usize; 2]>,
}

/// How a long row of pixels is computed and where they belong.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub tiles: Vec<Tile>,
    /// `per_vector` for every vector; those that are not used are empty.
    pub all: Vec<Place>,
    /// Rows that one vector spans, at most.
    pub per_vector: usize,
}

impl Places {
    /// Tiles of at most `most` vectors of `lanes` pixels for `rows` rows that begin every `pitch` pixels and of which `width` stay.
    pub fn new(lanes: usize, most: usize, pitch: usize, width: usize, rows: usize) -> Self {
        let count = (rows - 1) * pitch + width;
        // row by row where that takes no more vectors than all pixels in one go
        let by_row = pitch > width && rows * width.div_ceil(lanes) <= count.div_ceil(lanes);
        let mut places: Vec<Vec<Place>> = Vec::new();
        let mut tiles = Vec::new();
        // `number` vectors, `step` pixels apart, of which none goes beyond `end` pixels from its row on
        let mut add = |first: usize, number: usize, step: usize, end: &dyn Fn(usize) -> usize| {
            let (parts, mut done) = (number.div_ceil(most), 0);
            for part in 0..parts {
                let vectors = (number - done).div_ceil(parts - part);
                let pixel = first + done * step;
                let at = (0..vectors).map(|vector| pixel + vector * step);
                let new: Vec<_> = at.map(|at| of_vector(at, (at + lanes).min(end(at)), pitch, width)).collect();
                tiles.push(Tile { pixel, vectors, step, before: places.len(), whole: whole(lanes, &new) });
                places.extend(new);
                done += vectors;
            }
        };
        let per_row = width.div_ceil(lanes);
        if !by_row {
            add(0, count.div_ceil(lanes), lanes, &|_| count);
        } else if per_row < most {
            // a vector each of several rows
            let column = |column: usize| add(column * lanes, rows, pitch, &|at| at / pitch * pitch + width);
            (0..per_row).for_each(column);
        } else {
            (0..rows).for_each(|row| add(row * pitch, per_row, lanes, &|_| row * pitch + width));
        }
        let per_vector = places.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let none = Place { offset: 0, from: 0, to: 0 };
        let filled = places.into_iter().flat_map(|mut places| {
            places.resize(per_vector, none);
            places
        });
        Self { tiles, all: filled.collect(), per_vector }
    }

    /// Vectors of all tiles.
    pub fn vectors(&self) -> usize {
        self.all.len() / self.per_vector
    }
}

/// Where the first vector belongs, and how far from it the next, if that is all there is to say.
fn whole(lanes: usize, places: &[Vec<Place>]) -> Option<[usize; 2]> {
    let at = |vector: usize| match places[vector][..] {
        [place] if place.from == 0 && place.to as usize == lanes => usize::try_from(place.offset).ok(),
        _ => None,
    };
    let first = at(0)?;
    let step = if places.len() > 1 { at(1)? - first } else { 0 };
    (0..places.len()).all(|vector| at(vector) == Some(first + vector * step)).then_some([first, step])
}

/// Where the pixels `first..end` of one vector belong.
fn of_vector(first: usize, end: usize, pitch: usize, width: usize) -> Vec<Place> {
    let place = |row: usize| {
        let from = (row * pitch).max(first);
        let to = (row * pitch + width).min(end).max(from);
        // lane `l` is pixel `first + l`, column `first + l - row * pitch` of the row
        let offset = (row * width + first) as isize - (row * pitch) as isize;
        Place { offset: offset as i32, from: (from - first) as u16, to: (to - first) as u16 }
    };
    (first / pitch..end.div_ceil(pitch)).map(place).filter(|place| place.from < place.to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_that_stays_has_one_place() {
        for lanes in [1, 4, 8, 16] {
            for (pitch, width, rows) in
                [(1, 1, 3), (3, 2, 7), (8, 7, 7), (15, 14, 14), (57, 56, 3), (16, 16, 2), (33, 32, 3)]
            {
                for most in [1, 3] {
                    let places = Places::new(lanes, most, pitch, width, rows);
                    let mut seen = vec![usize::MAX; rows * width];
                    for tile in &places.tiles {
                        for vector in 0..tile.vectors {
                            for place in &places.all[(tile.before + vector) * places.per_vector..][..places.per_vector]
                            {
                                for lane in place.from..place.to {
                                    let at = (place.offset + i32::from(lane)) as usize;
                                    seen[at] = tile.pixel + vector * tile.step + lane as usize;
                                    assert!(
                                        tile.whole
                                            .is_none_or(|[first, step]| at == first + vector * step + lane as usize)
                                    );
                                }
                            }
                        }
                    }
                    let expected: Vec<usize> = (0..rows * width).map(|i| i / width * pitch + i % width).collect();
                    assert_eq!(seen, expected, "lanes {lanes} pitch {pitch} width {width}");
                }
            }
        }
    }

    #[test]
    fn rows_of_whole_vectors_are_stored_whole() {
        let places = Places::new(8, 3, 35, 32, 4);
        assert_eq!(places.tiles.iter().map(|tile| tile.vectors).collect::<Vec<_>>(), [2; 8]);
        assert!(places.tiles.iter().all(|tile| tile.whole.is_some()));
        let places = Places::new(8, 3, 9, 8, 5);
        assert_eq!(
            places.tiles.iter().map(|tile| (tile.vectors, tile.whole)).collect::<Vec<_>>(),
            [(3, Some([0, 8])), (2, Some([24, 8]))]
        );
    }
}

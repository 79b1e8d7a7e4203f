//! Where the vectors that a tile computes belong in the output.

use std::ops::Range;

use crate::planes::tiles::Place;

/// Where the vectors of a piece belong.
#[derive(Debug)]
pub(super) struct Places {
    per_vector: usize,
    /// Empty when all vectors follow each other in the output.
    all: Vec<Place>,
}

impl Places {
    /// Of `count` pixels that follow each other.
    pub fn line(lanes: usize, count: usize, room: usize) -> Self {
        Self::new(lanes, line_places(lanes, count), room)
    }

    /// Of `rows` rows of strip `strip`, `pitch` columns of an output of `width`.
    pub fn strip(lanes: usize, pitch: usize, rows: usize, width: usize, strip: usize, room: usize) -> Self {
        Self::new(lanes, strip_places(lanes, pitch, rows, width, strip), room)
    }

    /// As many `places` for every vector; the last vector may be written whole if it ends at most `room` elements from the
    /// start of the piece.
    fn new(lanes: usize, places: Vec<Vec<Place>>, room: usize) -> Self {
        let mut merged: Vec<Vec<Place>> = places.into_iter().map(merged).collect();
        if let Some([place]) = merged.last_mut().map(|places| &mut places[..])
            && (place.from == 0 && place.to > 0 && place.offset >= 0 && place.offset as usize + lanes <= room)
        {
            place.to = lanes;
        }
        let follows = |(vector, places): (usize, &Vec<Place>)| {
            places[..] == [Place { offset: (vector * lanes) as isize, from: 0, to: lanes }]
        };
        if merged.iter().enumerate().all(follows) {
            return Self { per_vector: 0, all: Vec::new() };
        }
        let per_vector = merged.iter().map(Vec::len).max().unwrap_or(1);
        let nowhere = Place { offset: 0, from: 0, to: 0 };
        merged.iter_mut().for_each(|places| places.resize(per_vector, nowhere));
        Self { per_vector, all: merged.concat() }
    }

    /// Of the vectors `vectors`, as many for each.
    pub fn of(&self, vectors: Range<usize>) -> &[Place] {
        &self.all[vectors.start * self.per_vector..vectors.end * self.per_vector]
    }
}

/// Makes one place of those that follow each other.
fn merged(places: Vec<Place>) -> Vec<Place> {
    let mut merged: Vec<Place> = Vec::new();
    for place in places {
        match merged.last_mut() {
            Some(last) if place.to == place.from => debug_assert!(last.to <= place.from),
            Some(last) if last.offset == place.offset && last.to == place.from => last.to = place.to,
            _ => merged.push(place),
        }
    }
    merged
}

/// Places of `count` pixels that follow each other.
fn line_places(lanes: usize, count: usize) -> Vec<Vec<Place>> {
    let place = |first: usize| vec![Place { offset: first as isize, from: 0, to: lanes.min(count - first) }];
    (0..count).step_by(lanes).map(place).collect()
}

/// Places of the vectors of `rows` rows of a strip, in an output of `width` columns.
fn strip_places(lanes: usize, pitch: usize, rows: usize, width: usize, strip: usize) -> Vec<Vec<Place>> {
    let mut vectors = Vec::new();
    for first in (0..rows * pitch).step_by(lanes) {
        let mut places = Vec::new();
        for lane in (0..lanes).step_by(pitch.min(lanes)) {
            let (row, column) = ((first + lane) / pitch, (first + lane) % pitch + strip * pitch);
            let inside = if row < rows {
                (pitch - (first + lane) % pitch).min(lanes).min(width.saturating_sub(column))
            } else {
                0
            };
            let offset = (row * width + column) as isize - lane as isize;
            places.push(Place { offset, from: lane, to: lane + inside });
        }
        vectors.push(places);
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_every_strip_has_one_place() {
        for (lanes, pitch, rows, width) in
            [(16, 8, 7, 7), (8, 16, 5, 56), (16, 16, 3, 19), (4, 24, 2, 30), (16, 32, 4, 32)]
        {
            let mut seen = vec![0; rows * width];
            for strip in 0..width.div_ceil(pitch) {
                let vectors = strip_places(lanes, pitch, rows, width, strip);
                for (vector, place) in
                    vectors.iter().enumerate().flat_map(|(v, places)| places.iter().map(move |p| (v, p)))
                {
                    for lane in place.from..place.to {
                        let pixel = vector * lanes + lane;
                        let expected = pixel / pitch * width + pixel % pitch + strip * pitch;
                        assert_eq!(place.offset + lane as isize, expected as isize);
                        seen[expected] += 1;
                    }
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "lanes {lanes} pitch {pitch} width {width}: {seen:?}");
        }
    }

    #[test]
    fn vectors_that_follow_each_other_need_no_places() {
        assert!(Places::strip(16, 32, 4, 32, 0, 0).of(0..8).is_empty());
        assert!(Places::strip(16, 8, 4, 8, 0, 0).of(0..2).is_empty());
        // the last of 49 pixels stand in a vector of their own, which may be written whole only where there is room
        assert!(Places::line(16, 49, 64).of(0..4).is_empty());
        assert_eq!(Places::line(16, 49, 63).of(3..4), [Place { offset: 48, from: 0, to: 1 }]);
    }
}

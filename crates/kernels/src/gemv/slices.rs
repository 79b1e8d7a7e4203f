//! Rows sorted by length and cut into slices of eight.

use super::LANES;

/// Weights of a fully connected layer in kernel order.
#[derive(Clone, Debug)]
pub struct Slices {
    rows: usize,
    cols: usize,
    columns: Vec<[u32; LANES]>,
    values: Vec<[f32; LANES]>,
    /// Lane, column and value of what no full step holds.
    rest: Vec<(u32, u32, f32)>,
    row_of_lane: Vec<u32>,
    heads: Vec<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    bias: [f32; LANES],
    steps_end: usize,
    rest_end: usize,
}

/// One slice: up to eight rows.
pub(super) struct Slice<'a> {
    /// Bias of each lane; 0 for lanes without a row.
    pub bias: [f32; LANES],
    /// Columns of the full steps.
    pub columns: &'a [[u32; LANES]],
    /// Values of the full steps.
    pub values: &'a [[f32; LANES]],
    /// Lane, column and value of the rest, in order within a lane.
    pub rest: &'a [(u32, u32, f32)],
    /// Output row of each lane.
    pub row_of_lane: &'a [u32],
}

impl Slices {
    /// Sorts and interleaves; `nonzeros` are strictly increasing flat indices below `bias.len() * cols`.
    pub(super) fn build(cols: usize, nonzeros: &[(u32, f32)], bias: &[f32]) -> Self {
        let rows = bias.len();
        let mut starts = vec![0usize; rows + 1];
        for (index, _) in nonzeros {
            starts[*index as usize / cols + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let row = |row: u32| &nonzeros[starts[row as usize]..starts[row as usize + 1]];
        let mut row_of_lane: Vec<u32> = (0..rows as u32).collect();
        row_of_lane.sort_by_key(|r| std::cmp::Reverse(row(*r).len()));
        let column = |(index, _): (u32, f32)| (index as usize % cols) as u32;

        let (mut columns, mut values, mut rest, mut heads) = (vec![], vec![], vec![], vec![]);
        for lanes in row_of_lane.chunks(LANES) {
            let full = lanes.len() == LANES;
            let steps = if full { row(lanes[LANES - 1]).len() } else { 0 };
            for step in 0..steps {
                columns.push(std::array::from_fn(|lane| column(row(lanes[lane])[step])));
                values.push(std::array::from_fn(|lane| row(lanes[lane])[step].1));
            }
            for (lane, r) in lanes.iter().enumerate() {
                rest.extend(row(*r)[steps..].iter().map(|item| (lane as u32, column(*item), item.1)));
            }
            let bias = std::array::from_fn(|lane| lanes.get(lane).map_or(0.0, |r| bias[*r as usize]));
            heads.push(Head { bias, steps_end: columns.len(), rest_end: rest.len() });
        }
        columns.shrink_to_fit();
        values.shrink_to_fit();
        rest.shrink_to_fit();
        Self { rows, cols, columns, values, rest, row_of_lane, heads }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Stored non-zeros.
    pub fn nnz(&self) -> usize {
        self.columns.len() * LANES + self.rest.len()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.columns[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.rest[..])
            + size_of_val(&self.row_of_lane[..])
            + size_of_val(&self.heads[..])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Slice<'_>> {
        let mut begin = (0, 0);
        self.heads.iter().zip(self.row_of_lane.chunks(LANES)).map(move |(head, row_of_lane)| {
            let (steps, rest) = (begin.0..head.steps_end, begin.1..head.rest_end);
            begin = (head.steps_end, head.rest_end);
            Slice {
                bias: head.bias,
                columns: &self.columns[steps.clone()],
                values: &self.values[steps],
                rest: &self.rest[rest],
                row_of_lane,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_similar_length_share_a_slice() {
        // row r of 9 has r % 3 + 1 non-zeros
        let nonzeros: Vec<(u32, f32)> =
            (0..9u32).flat_map(|r| (0..=r % 3).map(move |k| (r * 4 + k, r as f32))).collect();
        let slices = Slices::build(4, &nonzeros, &[0.5; 9]);
        let all: Vec<_> = slices.iter().collect();
        assert_eq!(all[0].row_of_lane, [2, 5, 8, 1, 4, 7, 0, 3]);
        assert_eq!(all[0].columns, [[0; 8]]);
        assert_eq!(all[0].rest.len(), 2 * 3 + 3);
        assert_eq!(all[1].row_of_lane, [6]);
        assert_eq!(all[1].rest, [(0, 0, 6.0)]);
        assert_eq!(all[1].bias, [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(slices.nnz(), nonzeros.len());
    }
}

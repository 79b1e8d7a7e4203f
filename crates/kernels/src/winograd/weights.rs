//! Transformed filters.

/// `G g G'` of every filter of 3x3 weights, `[tap of the transform][filter]`, in f64 until the end.
pub(super) fn transform(size: usize, filters: &[f32]) -> Vec<Vec<f32>> {
    let line = |g: [f64; 3]| -> Vec<f64> {
        let [a, b, c] = g;
        match size {
            2 => vec![a, (a + b + c) / 2.0, (a - b + c) / 2.0, c],
            _ => vec![
                a / 4.0,
                -(a + b + c) / 6.0,
                -(a - b + c) / 6.0,
                a / 24.0 + b / 12.0 + c / 6.0,
                a / 24.0 - b / 12.0 + c / 6.0,
                c,
            ],
        }
    };
    let side = size + 2;
    let mut planes = vec![Vec::with_capacity(filters.len() / 9); side * side];
    for filter in filters.chunks_exact(9) {
        let columns: Vec<Vec<f64>> = (0..3).map(|c| line([0, 1, 2].map(|r| f64::from(filter[3 * r + c])))).collect();
        for row in 0..side {
            for (column, value) in line([0, 1, 2].map(|c| columns[c][row])).into_iter().enumerate() {
                planes[row * side + column].push(value as f32);
            }
        }
    }
    planes
}

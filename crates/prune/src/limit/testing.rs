//! Explicit matrices with known spectra, for the tests of this folder.

use std::convert::Infallible;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Loss that counts as noise in the experiments of the card.
pub(super) const TEST_SPECTRUM_EPSILON: f64 = 0.05;

/// 300 times 1e-3, 90 evenly in [0.1, 1], and ten outliers up to 100.
pub(super) fn test_spectrum() -> Vec<f64> {
    let bulk = (0..90).map(|i| 0.1 + 0.9 * i as f64 / 89.0);
    let outliers = [5.0, 8.0, 10.0, 12.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0];
    std::iter::repeat_n(1e-3, 300).chain(bulk).chain(outliers).collect()
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Laplace-distributed weights of that scale.
pub(super) fn laplace(count: usize, scale: f64, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut one = || {
        let draw: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
        let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
        (sign * -draw.ln() * scale) as f32
    };
    (0..count).map(|_| one()).collect()
}

/// `Q diag(spectrum) Q^T` with a random orthogonal `Q`, dense rows.
pub(super) fn rotated(spectrum: &[f64], seed: u64) -> Vec<Vec<f64>> {
    let n = spectrum.len();
    let basis = orthogonal(n, seed);
    let mut matrix = vec![vec![0.0; n]; n];
    for (value, vector) in spectrum.iter().zip(&basis) {
        for (row, v) in matrix.iter_mut().zip(vector) {
            row.iter_mut().zip(vector).for_each(|(entry, u)| *entry += value * v * u);
        }
    }
    matrix
}

/// Orthonormal vectors by Gram-Schmidt, twice, on Gaussian ones.
fn orthogonal(n: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for _ in 0..n {
        let mut vector: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        for _ in 0..2 {
            for other in &basis {
                let share: f64 = other.iter().zip(&vector).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(v, o)| *v -= share * o);
            }
        }
        let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
        basis.push(vector);
    }
    basis
}

pub(super) fn symmetric_product(matrix: &[Vec<f64>], v: &[f64]) -> Result<Vec<f64>, Infallible> {
    Ok(matrix.iter().map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect())
}

/// A quadratic loss `0.5 d^T H d` around the trained weights, with `H` and its inverse.
pub(super) struct Quadratic {
    hessian: Vec<Vec<f64>>,
    inverse: Vec<Vec<f64>>,
}

impl Quadratic {
    pub(super) fn new(spectrum: &[f64], seed: u64) -> Self {
        let inverse: Vec<f64> = spectrum.iter().map(|v| 1.0 / v).collect();
        Quadratic { hessian: rotated(spectrum, seed), inverse: rotated(&inverse, seed) }
    }

    /// Largest share that can be zeroed in magnitude order, survivors untouched, before the loss exceeds `epsilon`.
    pub(super) fn plain_zeroing(&self, weights: &[f32], epsilon: f64) -> f64 {
        let order = ascending(weights);
        let mut loss = 0.0;
        for (k, &i) in order.iter().enumerate() {
            let w = f64::from(weights[i]);
            let cross: f64 = order[..k].iter().map(|&j| self.hessian[i][j] * f64::from(weights[j])).sum();
            loss += w * (cross + 0.5 * self.hessian[i][i] * w);
            if loss > epsilon {
                return k as f64 / weights.len() as f64;
            }
        }
        1.0
    }

    /// The same with the survivors free to move: the loss is `0.5 w_r^T ((H^-1)_rr)^-1 w_r` over the removed ones, and one
    /// Cholesky factor of `H^-1` in magnitude order gives it for every number of them.
    pub(super) fn best_survivors(&self, weights: &[f32], epsilon: f64) -> f64 {
        let order = ascending(weights);
        let mut factor: Vec<Vec<f64>> = Vec::new();
        let mut solved: Vec<f64> = Vec::new();
        let mut loss = 0.0;
        for (k, &i) in order.iter().enumerate() {
            let mut row: Vec<f64> = Vec::with_capacity(k + 1);
            for (j, &other) in order[..k].iter().enumerate() {
                let done: f64 = row.iter().zip(&factor[j]).map(|(a, b)| a * b).sum();
                row.push((self.inverse[i][other] - done) / factor[j][j]);
            }
            let done: f64 = row.iter().map(|a| a * a).sum();
            let pivot = (self.inverse[i][i] - done).sqrt();
            let known: f64 = row.iter().zip(&solved).map(|(a, b)| a * b).sum();
            let y = (f64::from(weights[i]) - known) / pivot;
            loss += 0.5 * y * y;
            if loss > epsilon {
                return k as f64 / weights.len() as f64;
            }
            row.push(pivot);
            factor.push(row);
            solved.push(y);
        }
        1.0
    }
}

fn ascending(weights: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*a].abs().total_cmp(&weights[*b].abs()).then(a.cmp(b)));
    order
}

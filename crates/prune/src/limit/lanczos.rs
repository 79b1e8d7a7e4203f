//! Stochastic Lanczos quadrature: the spectral density of a symmetric matrix that is known by its products only.
//!
//! Source: Ghorbani, Krishnan and Xiao 2019 (arXiv:1901.10159), section 2; random signs as the start vector as in PyHessian
//! (Yao et al. 2020, arXiv:1912.07145).

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::tridiagonal::{Node, eigen};

/// Elements whose products are added up by one thread: sums do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// Numbers that vectors may be stored as: `f32` and `f64`.
pub trait Real: candle_core::WithDType {
    /// Relative rounding of the type.
    const EPSILON: f64;
    /// The number as `f64`, exactly.
    fn wide(self) -> f64;
    /// The nearest number of the type.
    fn narrow(value: f64) -> Self;
}

impl Real for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn wide(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> f64 {
        value
    }
}

/// Why a spectrum cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum LanczosError<E: std::error::Error + 'static> {
    /// The product itself failed.
    #[error(transparent)]
    Product(#[from] E),
    /// A product has the wrong length.
    #[error("a Hessian-vector product has {found} entries, expected {expected}")]
    Length {
        /// Entries expected.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// A product holds NaN or infinity.
    #[error("Hessian-vector product {step} is not finite; the weights or the loss have diverged")]
    NotFinite {
        /// Which product, from 1.
        step: usize,
    },
}

/// What one random start vector saw of the spectrum: `weight` sums to 1 over `nodes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Eigenvalues of the Lanczos matrix, ascending; the outermost ones converge to those of the matrix first.
    pub nodes: Vec<Node>,
    /// Products that were made; fewer than asked for when the start vector's whole subspace was found.
    pub steps: usize,
}

impl Probe {
    /// Unbiased estimate of the mean eigenvalue: times the dimension it is one of the trace.
    pub fn mean_eigenvalue(&self) -> f64 {
        self.nodes.iter().map(|n| n.weight * n.value).sum()
    }
}

/// Random signs of unit length: the start vector of a probe.
pub fn signs<T: Real>(dimension: usize, seed: u64) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let length = T::narrow(1.0 / (dimension.max(1) as f64).sqrt());
    let minus = T::narrow(-length.wide());
    let mut found = Vec::with_capacity(dimension);
    while found.len() < dimension {
        let word = rng.next_u64();
        let bits = (dimension - found.len()).min(64);
        found.extend((0..bits).map(|bit| if word >> bit & 1 == 1 { length } else { minus }));
    }
    found
}

/// Runs Lanczos from [`signs`] with full re-orthogonalisation (two passes against every earlier vector).
///
/// * `dimension`: entries of a vector, at least 1.
/// * `steps`: most products to make, at least 1; never more than `dimension`.
/// * `product`: `v -> Hv` with symmetric `H`.
///
/// Holds `steps * dimension` numbers of type `T`; coefficients are `f64`. Ends early when the rest is below
/// `max(1e-10, rounding of T)` of the norm found so far. The same input gives the same bytes whatever the number of threads.
///
/// # Errors
/// [`LanczosError`] when a product fails, has another length or is not finite.
pub fn lanczos<T: Real, E: std::error::Error + 'static>(
    dimension: usize,
    steps: usize,
    seed: u64,
    mut product: impl FnMut(&[T]) -> Result<Vec<T>, E>,
) -> Result<Probe, LanczosError<E>> {
    let tolerance = T::EPSILON.max(1e-10);
    let mut basis: Vec<Vec<T>> = Vec::new();
    let (mut diagonal, mut off): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = signs::<T>(dimension, seed);
    let mut norm = 0.0f64;
    for step in 1..=steps.clamp(1, dimension.max(1)) {
        let image = product(&next)?;
        if image.len() != dimension {
            return Err(LanczosError::Length { expected: dimension, found: image.len() });
        }
        let mut rest: Vec<f64> = image.into_par_iter().map(T::wide).collect();
        basis.push(next);
        let mut along = 0.0;
        for _ in 0..2 {
            let shares = dots(&basis, &rest);
            // The share of the newest vector is the diagonal entry; what the second pass finds of it is its correction.
            along += shares[basis.len() - 1];
            subtract(&basis, &shares, &mut rest);
        }
        let length = dot(&rest, &rest).sqrt();
        if !along.is_finite() || !length.is_finite() {
            return Err(LanczosError::NotFinite { step });
        }
        diagonal.push(along);
        norm = norm.max(along.abs() + length + off.last().copied().unwrap_or(0.0));
        if length <= tolerance * norm {
            break;
        }
        off.push(length);
        next = rest.par_iter().map(|v| T::narrow(v / length)).collect();
    }
    let nodes = eigen(&diagonal, &off).expect("finite tridiagonal matrices converge");
    Ok(Probe { nodes, steps: diagonal.len() })
}

/// Products of every vector of `basis` with `rest`.
fn dots<T: Real>(basis: &[Vec<T>], rest: &[f64]) -> Vec<f64> {
    let partial = |(chunk, part): (usize, &[f64])| -> Vec<f64> {
        let from = chunk * CHUNK;
        let one = |vector: &Vec<T>| -> f64 {
            vector[from..from + part.len()].iter().zip(part).map(|(v, r)| v.wide() * r).sum()
        };
        basis.iter().map(one).collect()
    };
    let partials: Vec<Vec<f64>> = rest.par_chunks(CHUNK).enumerate().map(partial).collect();
    let mut total = vec![0.0; basis.len()];
    for partial in partials {
        total.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
    }
    total
}

/// `rest -= sum_j shares[j] * basis[j]`.
fn subtract<T: Real>(basis: &[Vec<T>], shares: &[f64], rest: &mut [f64]) {
    rest.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, part)| {
        let from = chunk * CHUNK;
        for (vector, share) in basis.iter().zip(shares) {
            let vector = &vector[from..from + part.len()];
            part.iter_mut().zip(vector).for_each(|(r, v)| *r -= share * v.wide());
        }
    });
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let partials: Vec<f64> =
        a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect();
    partials.iter().sum()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::fixed_point::width;
    use super::super::testing::{TEST_SPECTRUM_EPSILON, rotated, symmetric_product, test_spectrum};
    use super::*;

    #[test]
    fn limit_oracle_1_as_many_steps_as_distinct_eigenvalues_find_them_all() {
        // 7 distinct eigenvalues in 40 dimensions, some of them many times.
        let distinct = [-3.0, -0.5, 0.0, 0.25, 1.0, 8.0, 50.0];
        let spectrum: Vec<f64> = (0..40).map(|i| distinct[i % 7]).collect();
        let matrix = rotated(&spectrum, 3);
        let probe = lanczos(40, 7, 1, |v: &[f64]| symmetric_product(&matrix, v)).unwrap();
        assert_eq!(probe.nodes.len(), 7);
        for (node, value) in probe.nodes.iter().zip(distinct) {
            assert!((node.value - value).abs() < 1e-8, "{node:?} is not {value}");
            assert!(node.weight >= 0.0);
        }
        assert!((probe.nodes.iter().map(|n| n.weight).sum::<f64>() - 1.0).abs() < 1e-12);
        let few = rotated(&(0..40).map(|i| [1.0, 2.0, 4.0][i % 3]).collect::<Vec<f64>>(), 3);
        let longer = lanczos(40, 30, 1, |v: &[f64]| symmetric_product(&few, v)).unwrap();
        assert_eq!(longer.steps, 3, "the fourth vector would be rounding noise");
    }

    #[test]
    fn limit_oracle_2_the_known_spectrum_gives_the_known_widths() {
        let matrix = rotated(&test_spectrum(), 5);
        let probes: Vec<Probe> = (0..5)
            .map(|seed| lanczos(400, 60, 100 + seed, |v: &[f64]| symmetric_product(&matrix, v)).unwrap())
            .collect();
        let exact: Vec<Node> = test_spectrum().iter().map(|v| Node { value: *v, weight: 1.0 / 400.0 }).collect();
        let rows = [
            (0.01, 0.97159, 0.9700, 0.008),
            (0.1, 0.90028, 0.8942, 0.011),
            (1.0, 0.78563, 0.7749, 0.014),
            (10.0, 0.68744, 0.6765, 0.016),
        ];
        for (squared, of_all, of_five, deviation) in rows {
            let at = |nodes: &[Node]| width(nodes, TEST_SPECTRUM_EPSILON, squared, 0.0);
            assert!((at(&exact) - of_all).abs() < 5e-6, "exact width at {squared}: {}", at(&exact));
            let found: Vec<f64> = probes.iter().map(|p| at(&p.nodes)).collect();
            let mean = found.iter().sum::<f64>() / 5.0;
            // Three standard errors of a mean of five, and of a difference of two such means.
            let error = 3.0 * deviation / 5f64.sqrt();
            assert!((mean - of_all).abs() < error, "mean width at {squared}: {mean}, exact {of_all}");
            assert!((mean - of_five).abs() < error * 2f64.sqrt(), "mean width at {squared}: {mean}, known {of_five}");
            let spread = (found.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
            assert!(spread > 0.2 * deviation && spread < 2.5 * deviation, "spread at {squared}: {spread}");
        }
        for probe in &probes {
            assert!((probe.nodes.last().unwrap().value - 100.0).abs() < 1e-9 * 100.0);
        }
    }

    #[test]
    fn limit_oracle_3_the_trace_estimate_is_unbiased_and_noisy() {
        let matrix = rotated(&test_spectrum(), 5);
        let trace: f64 = test_spectrum().iter().sum();
        assert!((trace - 414.8).abs() < 1e-9);
        let estimates: Vec<f64> = (0..200)
            .map(|seed| {
                let probe = lanczos(400, 1, seed, |v: &[f64]| symmetric_product(&matrix, v)).unwrap();
                400.0 * probe.mean_eigenvalue()
            })
            .collect();
        let mean = estimates.iter().sum::<f64>() / 200.0;
        let deviation = (estimates.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / 199.0).sqrt();
        // Hutchinson: the variance over random signs is twice the squared off-diagonal entries.
        assert!(deviation > 100.0 && deviation < 300.0, "one probe is noisy: {deviation}");
        assert!((mean - trace).abs() < 3.0 * deviation / 200f64.sqrt(), "{mean} against {trace}");
        // More steps leave the first moment of a probe as it is.
        let long = lanczos(400, 40, 7, |v: &[f64]| symmetric_product(&matrix, v)).unwrap();
        assert!((400.0 * long.mean_eigenvalue() - estimates[7]).abs() < 1e-8 * trace);
    }

    #[test]
    fn vectors_in_f32_find_the_edge_to_f32_precision_and_stop_at_the_noise() {
        let spectrum: Vec<f64> = (0..60).map(|i| [0.0, 2.0, 10.0][i % 3]).collect();
        let matrix = rotated(&spectrum, 9);
        let product = |v: &[f32]| -> Result<Vec<f32>, Infallible> {
            let wide: Vec<f64> = v.iter().map(|x| f64::from(*x)).collect();
            Ok(symmetric_product(&matrix, &wide)?.into_iter().map(|x| x as f32).collect())
        };
        let probe = lanczos(60, 20, 4, product).unwrap();
        assert!((probe.nodes.last().unwrap().value - 10.0).abs() < 1e-5);
        let widths = |nodes: &[Node]| width(nodes, 0.1, 1.0, 0.0);
        let exact = lanczos(60, 3, 4, |v: &[f64]| symmetric_product(&matrix, v)).unwrap();
        assert!((widths(&probe.nodes) - widths(&exact.nodes)).abs() < 1e-6);
    }

    #[test]
    fn threads_do_not_change_the_bytes_and_seeds_do() {
        let entry = |i: usize| ((i * 37 % 101) as f32 - 30.0) / 10.0;
        let dimension = 3 * CHUNK + 17;
        let product = |v: &[f32]| -> Result<Vec<f32>, Infallible> {
            Ok(v.iter().enumerate().map(|(i, x)| entry(i) * x + 0.5 * v[v.len() - 1 - i]).collect())
        };
        let with = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| lanczos(dimension, 12, seed, product).unwrap())
        };
        assert_eq!(with(1, 6), with(3, 6));
        assert_ne!(with(1, 6), with(1, 7));
    }

    #[test]
    fn a_zero_matrix_ends_after_one_product_and_bad_products_are_errors() {
        let probe = lanczos(5, 4, 0, |v: &[f32]| Ok::<_, Infallible>(vec![0.0; v.len()])).unwrap();
        assert_eq!((probe.steps, probe.nodes.len(), probe.nodes[0].value), (1, 1, 0.0));
        let short = lanczos(5, 4, 0, |_: &[f32]| Ok::<_, Infallible>(vec![0.0; 4])).unwrap_err();
        assert!(matches!(short, LanczosError::Length { expected: 5, found: 4 }));
        let nan = lanczos(5, 4, 0, |_: &[f32]| Ok::<_, Infallible>(vec![f32::NAN; 5])).unwrap_err();
        assert!(matches!(nan, LanczosError::NotFinite { step: 1 }));
    }
}

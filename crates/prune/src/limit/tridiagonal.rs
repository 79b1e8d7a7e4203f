//! Eigenvalues of a symmetric tridiagonal matrix, with the first component of each eigenvector.

/// Rotations that one eigenvalue may take; two or three are usual.
const SWEEPS: usize = 64;

/// One eigenvalue and how much of the first unit vector lies along its eigenvector.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Eigenvalue.
    pub value: f64,
    /// Squared first component of the unit eigenvector, in `[0, 1]`; those of all nodes sum to 1.
    pub weight: f64,
}

/// Eigenvalues in ascending order, with squared first components of their eigenvectors.
///
/// * `diagonal`: `n` numbers.
/// * `off`: the `n - 1` numbers beside the diagonal; more are not looked at.
///
/// `None` when a number is not finite, or when one eigenvalue takes more than 64 sweeps (which finite input never does).
/// Exact to a few units of rounding of the matrix norm.
///
/// Source: the implicit QL method (Golub and Welsch 1969, "Calculation of Gauss quadrature rules", for the weights).
pub fn eigen(diagonal: &[f64], off: &[f64]) -> Option<Vec<Node>> {
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e: Vec<f64> = (0..n).map(|i| if i + 1 < n { off[i] } else { 0.0 }).collect();
    if d.iter().chain(&e).any(|v| !v.is_finite()) {
        return None;
    }
    // First row of the product of all rotations: all that the weights need.
    let mut first = vec![0.0; n];
    if n > 0 {
        first[0] = 1.0;
    }
    for low in 0..n {
        for sweep in 0.. {
            let splits = |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[*m + 1].abs());
            let high = (low..n - 1).find(splits).unwrap_or(n - 1);
            if high == low {
                break;
            }
            if sweep == SWEEPS {
                return None;
            }
            step(&mut d, &mut e, &mut first, low, high);
        }
    }
    let mut nodes: Vec<Node> = d.iter().zip(&first).map(|(v, f)| Node { value: *v, weight: f * f }).collect();
    nodes.sort_by(|a, b| a.value.total_cmp(&b.value));
    Some(nodes)
}

/// One implicit QL sweep from row `high` up to row `low`, with Wilkinson's shift.
fn step(d: &mut [f64], e: &mut [f64], first: &mut [f64], low: usize, high: usize) {
    let shift = (d[low + 1] - d[low]) / (2.0 * e[low]);
    let root = shift.hypot(1.0);
    let mut g = d[high] - d[low] + e[low] / (shift + root.copysign(shift));
    let (mut sine, mut cosine, mut passed) = (1.0, 1.0, 0.0);
    for i in (low..high).rev() {
        let (f, b) = (sine * e[i], cosine * e[i]);
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            // The bulge vanished: the matrix has split here.
            d[i + 1] -= passed;
            e[high] = 0.0;
            return;
        }
        (sine, cosine) = (f / r, g / r);
        g = d[i + 1] - passed;
        let turn = (d[i] - g) * sine + 2.0 * cosine * b;
        passed = sine * turn;
        d[i + 1] = g + passed;
        g = cosine * turn - b;
        let upper = first[i + 1];
        first[i + 1] = sine * first[i] + cosine * upper;
        first[i] = cosine * first[i] - sine * upper;
    }
    d[low] -= passed;
    e[low] = g;
    e[high] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_second_difference_has_its_textbook_eigenvalues() {
        let n = 9;
        let nodes = eigen(&vec![2.0; n], &vec![-1.0; n - 1]).unwrap();
        for (k, node) in nodes.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((node.value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13, "{node:?}");
            let weight = angle.sin().powi(2) * 2.0 / (n + 1) as f64;
            assert!((node.weight - weight).abs() < 1e-13, "{node:?}, expected weight {weight}");
        }
    }

    #[test]
    fn tiny_and_split_matrices_are_solved_and_infinite_ones_refused() {
        assert_eq!(eigen(&[], &[]), Some(vec![]));
        assert_eq!(eigen(&[3.0], &[]), Some(vec![Node { value: 3.0, weight: 1.0 }]));
        let nodes = eigen(&[5.0, 1.0, 1.0], &[0.0, 2.0]).unwrap();
        assert_eq!(nodes.iter().map(|n| n.value.round()).collect::<Vec<_>>(), [-1.0, 3.0, 5.0]);
        assert_eq!(nodes.iter().map(|n| n.weight.round()).collect::<Vec<_>>(), [0.0, 0.0, 1.0]);
        assert_eq!(
            eigen(&[0.0; 3], &[0.0; 2]).unwrap(),
            [Node { value: 0.0, weight: 1.0 }, Node { value: 0.0, weight: 0.0 }, Node { value: 0.0, weight: 0.0 },]
        );
        assert_eq!(eigen(&[1.0, f64::NAN], &[1.0]), None);
    }

    proptest! {
        /// The k-th moment of the nodes is the upper left entry of the k-th power of the matrix.
        #[test]
        fn moments_are_those_of_the_matrix(
            diagonal in prop::collection::vec(-2.0f64..2.0, 1..30), off in prop::collection::vec(-2.0f64..2.0, 29),
        ) {
            let nodes = eigen(&diagonal, &off).unwrap();
            let n = diagonal.len();
            let mut power = vec![0.0; n];
            power[0] = 1.0;
            for k in 0..6 {
                let moment: f64 = nodes.iter().map(|x| x.weight * x.value.powi(k)).sum();
                prop_assert!((moment - power[0]).abs() < 1e-9 * 6f64.powi(k), "moment {k}: {moment} against {}", power[0]);
                power = (0..n).map(|i| {
                    let below = if i > 0 { off[i - 1] * power[i - 1] } else { 0.0 };
                    let above = if i + 1 < n { off[i] * power[i + 1] } else { 0.0 };
                    diagonal[i] * power[i] + below + above
                }).collect();
            }
        }
    }
}

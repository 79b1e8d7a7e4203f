//! Before and after, as text and as numbers.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Pass, apply};
use crate::{Graph, Tensor};

/// Seeded values for every input of `graph`, in `[-1, 1)`.
pub(crate) fn feeds(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let mut feed = |shape: &Vec<usize>| {
        let count = shape.iter().product();
        Tensor::new(shape.clone(), (0..count).map(|_| draws.random_range(-1.0..1.0)).collect())
    };
    graph.inputs().iter().map(|(_, fact)| feed(&fact.shape)).collect()
}

pub(crate) fn assert_same_text(graph: &Graph, expected: &str) {
    let expected = Graph::parse(expected).expect("the expected text is a graph");
    assert_eq!(graph.to_text(), expected.to_text());
}

/// Both graphs compute the same up to rounding.
///
/// Each rounding is at most half an ulp of a product or sum; there are as many per output as weights on its paths,
/// counted here for the whole graph, and none of the rounded numbers exceeds the largest one seen by much.
pub(crate) fn assert_same_numbers(before: &Graph, after: &Graph) {
    for seed in 0..3 {
        let feeds = feeds(before, seed);
        let values = before.eval_all(&feeds).unwrap();
        let seen = values.values().chain(before.initializers().map(|(_, t)| t)).flat_map(|t| &t.data);
        let largest = seen.map(|v| v.abs()).filter(|v| v.is_finite()).fold(1.0, f32::max);
        let terms: usize = before.initializers().map(|(_, t)| t.len() / t.shape.first().unwrap_or(&1).max(&1)).sum();
        let tolerance = (before.nodes().len() + terms) as f32 * f32::EPSILON * largest;
        let (a, b) = (before.eval(&feeds).unwrap(), after.eval(&feeds).unwrap());
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.shape, b.shape);
            for (i, (x, y)) in a.data.iter().zip(&b.data).enumerate() {
                assert!(
                    x == y || (x - y).abs() <= tolerance,
                    "element {i}: {x} became {y}, tolerance {tolerance}\n{}\n{}",
                    before.to_text(),
                    after.to_text()
                );
            }
        }
    }
}

/// `pass` turns `before` into `after`, once and for all, and the numbers stay.
pub(crate) fn check(pass: impl Pass, before: &str, after: &str) {
    let before = Graph::parse(before).expect("the text before is a graph");
    let rewritten = apply(before.clone(), &[&pass]).unwrap();
    assert!(!rewritten.steps.is_empty(), "{} did nothing", pass.name());
    assert_same_text(&rewritten.graph, after);
    assert_same_numbers(&before, &rewritten.graph);
}

/// `pass` leaves the graph alone.
pub(crate) fn check_unchanged(pass: impl Pass, text: &str) {
    let before = Graph::parse(text).expect("the text is a graph");
    assert_eq!(apply(before.clone(), &[&pass]).unwrap().steps, []);
}

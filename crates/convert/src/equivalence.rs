//! Proof that two graphs compute the same: every value that both define, on seeded inputs, with the reference ops.

use std::collections::HashMap;

use sentei_graph::{Graph, Tensor, passes};

use crate::{ConvertError, pack};

/// Largest difference between two graphs at one value.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// Name of the value (or weight) in both graphs.
    pub name: String,
    /// Op that computes it in the candidate, or `weight`.
    pub op: &'static str,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest distance in representable `f32` numbers; `u64::MAX` when only one side is NaN.
    pub max_ulp: u64,
    /// Largest absolute difference allowed.
    pub tolerance: f64,
    /// Whether it stays within the tolerance.
    pub passed: bool,
}

/// Comparison of two graphs, value by value.
#[derive(Clone, Debug, PartialEq)]
pub struct Equivalence {
    /// One entry per compared value, in the order of the candidate's nodes, outputs included.
    pub layers: Vec<LayerError>,
    /// Largest absolute difference at the graph's outputs.
    pub max_abs: f64,
    /// Largest distance at the graph's outputs.
    pub max_ulp: u64,
    /// Whether every entry passed.
    pub passed: bool,
}

impl Equivalence {
    /// Name of the first value that differs too much, or nothing.
    pub fn first_failure(&self) -> &str {
        self.layers.iter().find(|l| !l.passed).map_or("", |l| &l.name)
    }
}

/// How far two graphs may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Not at all: weights and values are the same bits (zeros of both signs count as equal).
    Exact,
    /// By rounding: at most `f32::EPSILON` times the number of terms summed so far times the largest magnitude so far.
    ///
    /// This bounds the error of reordered sums whose parts cancel, as when batch norms are folded into weights.
    Rounding,
    /// By anything: the comparison only reports.
    Report,
}

/// Every value of a graph on the seeded inputs, by name.
pub(crate) struct Trace<'a> {
    graph: &'a Graph,
    samples: Vec<HashMap<String, Tensor>>,
}

/// Inputs drawn uniformly from `[-2, 2)`; the same seed gives the same bits everywhere.
pub fn seeded_inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut state = seed;
    let mut draw = move || {
        // splitmix64, public domain constants
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32).mul_add(4.0, -2.0)
    };
    let inputs = graph.inputs().iter();
    inputs
        .map(|(_, fact)| Tensor::new(fact.shape.clone(), (0..fact.elements().unwrap_or(0)).map(|_| draw()).collect()))
        .collect()
}

impl<'a> Trace<'a> {
    /// Evaluates `graph` on `samples` inputs, seeds `seed`, `seed + 1`, ...
    pub fn of(graph: &'a Graph, seed: u64, samples: usize, max_bytes: u64) -> Result<Self, ConvertError> {
        let facts = graph.facts()?;
        let needed = facts.values().map(|f| f.elements().map_or(u64::MAX, |n| n as u64 * 4));
        let needed = needed.fold(0u64, u64::saturating_add).saturating_mul(samples as u64);
        if needed > max_bytes {
            return Err(ConvertError::Limit { what: "the equivalence check".into(), needed, limit: max_bytes });
        }
        let sample = |i: usize| -> Result<HashMap<String, Tensor>, ConvertError> {
            let values = graph.eval_all(&seeded_inputs(graph, seed.wrapping_add(i as u64)))?;
            Ok(values.into_iter().map(|(id, tensor)| (graph.name(id).to_string(), tensor)).collect())
        };
        Ok(Trace { graph, samples: (0..samples).map(sample).collect::<Result<_, _>>()? })
    }

    /// Compares `candidate` with this reference.
    pub fn compare(&self, candidate: &Trace, tolerance: Tolerance) -> Equivalence {
        let graph = candidate.graph;
        let mut layers = Vec::new();
        if tolerance == Tolerance::Exact {
            for (id, tensor) in pack::weights(graph) {
                let name = graph.name(id);
                let reference = self.graph.value(name).and_then(|id| self.graph.initializer(id));
                let mut error = LayerError::new(name, "weight");
                match reference {
                    Some(reference) if reference.shape == tensor.shape => error.widen(reference, tensor),
                    _ => error.max_ulp = u64::MAX,
                }
                error.passed = error.max_ulp == 0;
                layers.push(error);
            }
        }
        let needed = match tolerance {
            // Deployment passes may change channels that no output depends on; they only have to keep the others.
            Tolerance::Rounding => passes::needed_channels(graph).unwrap_or_default(),
            Tolerance::Exact | Tolerance::Report => HashMap::new(),
        };
        let (mut terms, mut magnitude) = (0.0f64, 0.0f64);
        for (_, node) in graph.nodes() {
            let name = graph.name(node.output);
            let weight = node.inputs.iter().skip(1).filter_map(|id| graph.initializer(*id)).map(Tensor::len).max();
            let rows = node.inputs.get(1).and_then(|id| graph.initializer(*id)).and_then(|t| t.shape.first().copied());
            terms += 1.0 + weight.unwrap_or(0) as f64 / rows.unwrap_or(1).max(1) as f64;
            let mut error = LayerError::new(name, node.op.name());
            let mut compared = false;
            for (reference, sample) in self.samples.iter().zip(&candidate.samples) {
                if let (Some(a), Some(b)) = (reference.get(name), sample.get(name))
                    && a.shape == b.shape
                {
                    error.widen_channels(a, b, needed.get(&node.output));
                    magnitude = a.data.iter().fold(magnitude, |m, v| m.max(f64::from(v.abs())));
                    compared = true;
                }
            }
            error.tolerance = match tolerance {
                Tolerance::Exact => 0.0,
                Tolerance::Rounding => f64::from(f32::EPSILON) * terms * magnitude,
                Tolerance::Report => f64::INFINITY,
            };
            let is_output = graph.outputs().contains(&node.output);
            // NaN differences are caught by the distance
            error.passed = tolerance == Tolerance::Report
                || (error.max_abs <= error.tolerance && error.max_ulp < u64::MAX && (compared || !is_output));
            if compared || is_output {
                layers.push(error);
            }
        }
        let outputs: Vec<&str> = graph.outputs().iter().map(|id| graph.name(*id)).collect();
        let at_outputs = || layers.iter().filter(|l| outputs.contains(&l.name.as_str()));
        Equivalence {
            max_abs: at_outputs().fold(0.0, |m, l| m.max(l.max_abs)),
            max_ulp: at_outputs().map(|l| l.max_ulp).max().unwrap_or(0),
            passed: layers.iter().all(|l| l.passed) && self.graph.outputs().len() == graph.outputs().len(),
            layers,
        }
    }
}

/// Compares two graphs on `samples` seeded inputs, value by value where names and shapes agree.
///
/// # Errors
/// [`ConvertError::Graph`] when one cannot be evaluated, [`ConvertError::Limit`] when its values need more than 4 GiB.
pub fn compare(
    reference: &Graph,
    candidate: &Graph,
    tolerance: Tolerance,
    seed: u64,
    samples: usize,
) -> Result<Equivalence, ConvertError> {
    const MAX_BYTES: u64 = 4 << 30;
    let reference = Trace::of(reference, seed, samples, MAX_BYTES)?;
    let candidate = Trace::of(candidate, seed, samples, MAX_BYTES)?;
    Ok(reference.compare(&candidate, tolerance))
}

impl LayerError {
    fn new(name: &str, op: &'static str) -> Self {
        LayerError { name: name.to_string(), op, max_abs: 0.0, max_ulp: 0, tolerance: 0.0, passed: false }
    }

    /// Takes in the channels (axis 1) that are needed, or all where nothing is known of them.
    fn widen_channels(&mut self, a: &Tensor, b: &Tensor, needed: Option<&Vec<bool>>) {
        let Some(needed) = needed.filter(|n| a.shape.get(1) == Some(&n.len()) && !n.is_empty()) else {
            return self.widen_slices(&a.data, &b.data);
        };
        let plane: usize = a.shape[2..].iter().product::<usize>().max(1);
        let channels = a.data.chunks(plane).zip(b.data.chunks(plane)).zip(needed.iter().cycle());
        channels.filter(|(_, needed)| **needed).for_each(|((a, b), _)| self.widen_slices(a, b));
    }

    fn widen(&mut self, a: &Tensor, b: &Tensor) {
        self.widen_slices(&a.data, &b.data);
    }

    fn widen_slices(&mut self, a: &[f32], b: &[f32]) {
        for (a, b) in a.iter().zip(b) {
            if a.to_bits() != b.to_bits() && a != b {
                self.max_abs = self.max_abs.max((f64::from(*a) - f64::from(*b)).abs());
                self.max_ulp = self.max_ulp.max(ulps(*a, *b));
            }
        }
    }
}

/// Number of representable `f32` numbers between `a` and `b`; `u64::MAX` when exactly one is NaN.
pub fn ulps(a: f32, b: f32) -> u64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => return 0,
        (false, false) => {}
        _ => return u64::MAX,
    }
    let line = |v: f32| {
        let bits = i64::from(v.to_bits() & 0x7fff_ffff);
        if v.is_sign_negative() { -bits } else { bits }
    };
    line(a).abs_diff(line(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_representable_numbers_across_zero() {
        assert_eq!(ulps(1.0, 1.0 + f32::EPSILON), 1);
        assert_eq!(ulps(-0.0, 0.0), 0);
        assert_eq!(ulps(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!(ulps(f32::NAN, 1.0), u64::MAX);
    }

    #[test]
    fn a_wrong_weight_is_found_at_the_layer_it_belongs_to() {
        let text = "x = input f32[1,2,5,5]
            a = Conv(x, w[3,2,3,3])
            b = Relu(a)
            y = Conv(b, v[2,3,1,1])";
        let graph = Graph::parse(text).unwrap();
        assert!(compare(&graph, &graph, Tolerance::Exact, 1, 2).unwrap().passed);
        let mut wrong = graph.clone();
        let v = wrong.value("v").unwrap();
        let mut tensor = wrong.initializer(v).unwrap().clone();
        tensor.data[4] += 0.25;
        wrong.set_initializer(v, tensor);
        let found = compare(&graph, &wrong, Tolerance::Rounding, 1, 2).unwrap();
        assert_eq!((found.passed, found.first_failure()), (false, "y"));
        let exact = compare(&graph, &wrong, Tolerance::Exact, 1, 2).unwrap();
        assert_eq!(exact.first_failure(), "v");
    }
}

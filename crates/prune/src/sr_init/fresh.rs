//! Fresh values for some nodes: Kaiming-normal weights, biases 0, batch norms that do nothing yet.
//!
//! The scale of a batch norm is 1 also where the network was trained from a scale of 0: a block that starts as the
//! identity would cost nothing wherever it stands.

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_data::derive_seed;
use sentei_graph::{Graph, NodeId, Role, ValueId};

use crate::PruneError;
use crate::net::Overrides;

/// New values of every parameter and running statistic of `nodes`; draw `repeat` of the run's `seed`.
///
/// A weight `[out, in/groups, ..]` is normal with mean 0 and variance `2 / fan_in`, fan_in being the product of all axes but
/// the first (He et al. 2015).
pub(super) fn fresh_values(
    graph: &Graph,
    nodes: impl Iterator<Item = NodeId>,
    seed: u64,
    repeat: usize,
) -> Vec<(ValueId, Vec<f32>)> {
    let mut values: Vec<(ValueId, Vec<f32>)> = Vec::new();
    for id in nodes {
        let node = graph.node(id);
        for (index, &value) in node.inputs.iter().enumerate() {
            let Some(old) = graph.initializer(value).filter(|_| values.iter().all(|(v, _)| *v != value)) else {
                continue;
            };
            let data = match node.op.role(index) {
                Role::Data => continue,
                Role::Weight => {
                    let fan_in = old.shape.iter().skip(1).product::<usize>().max(1);
                    let seed = derive_seed(seed, &format!("sr-init {repeat}"), graph.name(value));
                    normal(seed, (2.0 / fan_in as f64).sqrt(), old.len())
                }
                Role::Bias | Role::Shift | Role::RunningMean => vec![0.0; old.len()],
                Role::Scale | Role::RunningVariance => vec![1.0; old.len()],
            };
            values.push((value, data));
        }
    }
    values
}

/// [`fresh_values`] as what a pass reads instead of the network's own.
pub(super) fn overrides(
    graph: &Graph,
    values: Vec<(ValueId, Vec<f32>)>,
    device: &Device,
) -> Result<Overrides, PruneError> {
    let tensor = |(id, data): (ValueId, Vec<f32>)| {
        let shape = &graph.initializer(id).expect("fresh values are of initializers").shape;
        Ok((id, Tensor::from_vec(data, shape.as_slice(), device)?))
    };
    values.into_iter().map(tensor).collect()
}

/// The same graph with every parameter and running statistic fresh: the small network, to be trained from scratch.
pub fn fresh_graph(graph: &Graph, seed: u64) -> Graph {
    let mut fresh = graph.clone();
    for (id, data) in fresh_values(graph, graph.nodes().map(|(id, _)| id), seed, 0) {
        let shape = graph.initializer(id).expect("fresh values are of initializers").shape.clone();
        fresh.set_initializer(id, sentei_graph::Tensor::new(shape, data));
    }
    fresh
}

/// Draws of a normal distribution with mean 0, by Box and Muller's method.
fn normal(seed: u64, deviation: f64, count: usize) -> Vec<f32> {
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - u is never 0.
        let (u, v): (f64, f64) = (1.0 - draws.random::<f64>(), draws.random());
        let radius = deviation * (-2.0 * u.ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * v).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::depthwise_net;

    #[test]
    fn weights_have_the_variance_of_kaiming_and_norms_do_nothing() {
        let graph = depthwise_net();
        let fresh = fresh_graph(&graph, 3);
        let of = |graph: &Graph, name: &str| graph.initializer(graph.value(name).unwrap()).unwrap().data.clone();
        assert_eq!(of(&fresh, "stem.gamma"), [1.0; 4]);
        assert_eq!(of(&fresh, "stem.var"), [1.0; 4]);
        assert_eq!(of(&fresh, "fc.b"), [0.0; 3]);
        assert_ne!(of(&fresh, "pw.w"), of(&graph, "pw.w"));
        let values = normal(1, (2.0f64 / 9.0).sqrt(), 100_001);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 100_001.0;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 100_001.0;
        // 5 standard errors: of the mean, and of the variance of a normal sample.
        assert!(mean.abs() < 5.0 * (2.0f64 / 9.0 / 100_001.0).sqrt(), "{mean}");
        assert!((variance - 2.0 / 9.0).abs() < 5.0 * 2.0 / 9.0 * (2.0f64 / 100_001.0).sqrt(), "{variance}");
    }

    #[test]
    fn every_repeat_seed_and_layer_draws_its_own() {
        let graph = depthwise_net();
        let of = |seed, repeat| fresh_values(&graph, graph.nodes().map(|(id, _)| id), seed, repeat);
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(1, 1));
        assert_ne!(of(1, 0), of(2, 0));
    }
}

//! Magnitude pruning of the 4-5-4-3 multilayer perceptron of `algorithms/golden-mlp.json`: its entries `weights`,
//! `han_threshold` and `global_magnitude_keep13`, written out. Magnitude oracle 3.

use candle_core::Device;
use sentei_graph::ops::{Gemm, Relu};
use sentei_graph::{Fact, Graph, Tensor};
use sentei_prune::distribution::{Distribution, StdOver};
use sentei_prune::score::{Magnitude, Pruner};
use sentei_prune::{Masks, Net, PrunableSet, prunable_layers};

const W1: [f32; 20] = [
    -0.218, -0.499, -0.51, -0.209, 0.611, -2.593, -1.27, -1.29, 0.066, 0.358, 0.417, 0.904, -1.471, 1.106, 0.758,
    0.623, -1.35, -0.19, -0.095, 1.802,
];
const W2: [f32; 20] = [
    -0.55, -0.307, 0.956, -0.357, 0.445, -1.03, 1.225, 0.519, -0.694, -0.175, -0.224, -0.097, 1.067, 0.376, 0.224,
    0.946, -0.24, 0.333, -1.403, 0.123,
];
const W3: [f32; 12] = [0.562, 0.122, 0.062, -0.43, 0.032, -0.958, 0.236, 0.708, -1.005, 0.684, 0.365, 0.867];

fn golden() -> Graph {
    let mut graph = Graph::new();
    let mut at = graph.add_input("x", Fact::new([1, 4])).unwrap();
    let layers: [(&str, [usize; 2], &[f32]); 3] = [("w1", [5, 4], &W1), ("w2", [4, 5], &W2), ("w3", [3, 4], &W3)];
    for (name, shape, values) in layers {
        let weight = graph.add_initializer(name, Tensor::new(shape, values.to_vec())).unwrap();
        at = graph.add_node(&format!("{name}.y"), Gemm, &[at, weight]).unwrap();
        if name != "w3" {
            at = graph.add_node(&format!("{name}.relu"), Relu, &[at]).unwrap();
        }
    }
    graph.add_output(at);
    graph
}

/// One string of `0` and `1` per layer.
fn masks(distribution: Distribution, density: f64) -> Vec<String> {
    let graph = golden();
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let pruner = Pruner::new(&layers, &Magnitude, &distribution);
    let masks = pruner.masks(&mut net, &Masks::dense(&layers), density).unwrap();
    masks.iter().map(|(_, m)| m.bits().iter().map(|b| if *b { '1' } else { '0' }).collect()).collect()
}

#[test]
fn magnitude_oracle_3_the_threshold_at_one_deviation_gives_the_golden_masks() {
    let threshold =
        Distribution::StdThreshold { quality: 1.0, layers: Default::default(), std_over: StdOver::Survivors };
    assert_eq!(masks(threshold, 1.0), ["00000111000011001001", "00100110100010010010", "000001011101"]);
}

#[test]
fn magnitude_oracle_3_thirteen_weights_kept_globally_are_the_golden_ones() {
    let global = Distribution::Global { floor: 0.0 };
    assert_eq!(masks(global, 13.0 / 52.0), ["00000111000011001001", "00000110000010000010", "000001001000"]);
}

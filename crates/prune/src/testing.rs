//! Small networks, a small task and a run around them, for the tests of this crate.

use std::sync::Arc;

use candle_core::DType;
use sentei_data::{Dataset, Normalise, Split, derive_seed};
use sentei_graph::ops::{BatchNorm, Conv, Dropout, Flatten, Gemm, GlobalAveragePool, Relu};
use sentei_graph::{Fact, Graph, Tensor};
use sentei_report::events::Event;

use crate::checkpoint::Checkpointing;
use crate::train::{Run, Stop};
use crate::{Device, Net};

/// The numbers of `tests/golden/mlp.json`: a multilayer perceptron of 52 weights with everything the cards compute on it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Golden {
    pub weights: Vec<Vec<Vec<f64>>>,
    pub x: Vec<Vec<f64>>,
    pub labels: Vec<u32>,
    pub logits: Vec<Vec<f64>>,
    pub loss: f64,
    pub gradient: Vec<Vec<Vec<f64>>>,
    pub signed_taylor_layer_sums: Vec<f64>,
    pub snip_abs_scores: Vec<Vec<Vec<f64>>>,
    #[serde(rename = "hessian_gradient_product_T1")]
    pub hessian_gradient_product: Vec<Vec<Vec<f64>>>,
    #[serde(rename = "grasp_scores_T200")]
    pub grasp_scores_t200: Vec<Vec<Vec<f64>>>,
    pub synflow_scores_iter0: Vec<Vec<Vec<f64>>>,
    pub synflow_objective: f64,
    pub synflow_layer_sums: Vec<f64>,
    #[serde(rename = "synflow_mask_density_0p25_20_iterations")]
    pub synflow_mask_after_20_rounds: Vec<Vec<Vec<u8>>>,
    pub synflow_kept_per_iteration: Vec<usize>,
    #[serde(rename = "synflow_mask_density_0p25_single_shot")]
    pub synflow_mask_after_one_round: Vec<Vec<Vec<u8>>>,
    pub hessian_eigenvalues_ascending: Vec<f64>,
    pub hessian_trace: f64,
    pub limit: GoldenLimit,
}

/// The fixed-point equation of the golden network.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct GoldenLimit {
    pub epsilon: f64,
    /// Removed share, squared norm of what is removed, right-hand side, for 1 to 52 removed weights.
    pub rows: Vec<[f64; 3]>,
    pub crossing: [f64; 3],
}

impl Golden {
    pub(crate) fn read() -> Golden {
        serde_json::from_str(include_str!("../../../tests/golden/mlp.json")).unwrap()
    }

    /// Names of the three weights.
    pub(crate) fn params() -> Vec<String> {
        ["w1", "w2", "w3"].map(String::from).to_vec()
    }

    /// The network, its weights rounded to f32.
    pub(crate) fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        let mut at = graph.add_input("x", Fact::new([1, 4])).unwrap();
        for (name, rows) in Golden::params().iter().zip(&self.weights) {
            let data = rows.concat().into_iter().map(|v| v as f32).collect();
            let weight = graph.add_initializer(name, Tensor::new([rows.len(), rows[0].len()], data)).unwrap();
            at = graph.add_node(&format!("{name}.y"), Gemm, &[at, weight]).unwrap();
            if name != "w3" {
                at = graph.add_node(&format!("{name}.relu"), Relu, &[at]).unwrap();
            }
        }
        graph.add_output(at);
        graph
    }

    /// The network with weights of the precision asked for.
    pub(crate) fn net(&self, dtype: DType) -> Net {
        let mut net = Net::with_dtype(&self.graph(), &Device::Cpu, dtype).unwrap();
        for (name, rows) in Golden::params().iter().zip(&self.weights) {
            net.set_var(name, &matrix(rows)).unwrap();
        }
        net
    }

    /// All rows as one batch.
    pub(crate) fn batches(&self) -> Vec<(crate::Tensor, Vec<u32>)> {
        vec![(matrix(&self.x), self.labels.clone())]
    }
}

/// A matrix in f64.
pub(crate) fn matrix(rows: &[Vec<f64>]) -> crate::Tensor {
    crate::Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

/// Uniform in `[-1, 1)`, fixed by name and index.
pub(crate) fn noise(name: &str, index: usize) -> f32 {
    (derive_seed(index as u64, "test", name) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn random(shape: &[usize], name: &str, scale: f32) -> Tensor {
    Tensor::new(shape, (0..shape.iter().product()).map(|i| scale * noise(name, i)).collect())
}

/// Fully connected layers `fc0`, `fc1`, ... of the given widths on 4x4 images, ReLU (and dropout) between them.
pub(crate) fn mlp(widths: &[usize], dropout: Option<f32>) -> Graph {
    let mut graph = Graph::new();
    let side = (widths[0] as f32).sqrt() as usize;
    let image = graph.add_input("image", Fact::new([1, 1, side, widths[0] / side])).unwrap();
    let mut at = graph.add_node("pixels", Flatten { axis: 1 }, &[image]).unwrap();
    let layers = widths.len() - 1;
    for (i, pair) in widths.windows(2).enumerate() {
        let scale = (3.0 / pair[0] as f32).sqrt();
        let weight =
            graph.add_initializer(&format!("fc{i}.w"), random(&[pair[1], pair[0]], &format!("fc{i}"), scale)).unwrap();
        let bias = graph.add_initializer(&format!("fc{i}.b"), Tensor::full([pair[1]], 0.0)).unwrap();
        at = graph.add_node(&format!("fc{i}"), Gemm, &[at, weight, bias]).unwrap();
        if i + 1 < layers {
            at = graph.add_node(&format!("fc{i}.relu"), Relu, &[at]).unwrap();
            if let Some(rate) = dropout {
                at = graph.add_node(&format!("fc{i}.drop"), Dropout { rate }, &[at]).unwrap();
            }
        }
    }
    graph.add_output(at);
    graph
}

/// `stem` (batch norm) - `dw` (depthwise) - `pw` - pool - `fc`, on 4x4 images with three classes.
pub(crate) fn depthwise_net() -> Graph {
    let mut graph = Graph::new();
    let mut at = graph.add_input("image", Fact::new([1, 1, 4, 4])).unwrap();
    for (name, shape, groups) in [("stem", [4, 1, 3, 3], 1), ("dw", [4, 1, 3, 3], 4), ("pw", [8, 4, 1, 1], 1)] {
        let weight = graph.add_initializer(&format!("{name}.w"), random(&shape, name, 0.6)).unwrap();
        let pad = shape[2] / 2;
        let op = Conv { stride: [1, 1], pads: [pad; 4], dilation: [1, 1], groups };
        at = graph.add_node(name, op, &[at, weight]).unwrap();
        let parts = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("var", 1.0)];
        let parts =
            parts.map(|(p, v)| graph.add_initializer(&format!("{name}.{p}"), Tensor::full([shape[0]], v)).unwrap());
        let inputs = [at, parts[0], parts[1], parts[2], parts[3]];
        let op = BatchNorm::default();
        at = graph.add_node(&format!("{name}.bn"), op, &inputs).unwrap();
        at = graph.add_node(&format!("{name}.relu"), Relu, &[at]).unwrap();
    }
    at = graph.add_node("pool", GlobalAveragePool, &[at]).unwrap();
    at = graph.add_node("features", Flatten { axis: 1 }, &[at]).unwrap();
    let weight = graph.add_initializer("fc.w", random(&[3, 8], "fc", 0.6)).unwrap();
    let bias = graph.add_initializer("fc.b", Tensor::full([3], 0.0)).unwrap();
    at = graph.add_node("fc", Gemm, &[at, weight, bias]).unwrap();
    graph.add_output(at);
    graph
}

/// Three classes of 4x4 images, each one of two noisy templates: not linearly separable, learnable by a small MLP.
pub(crate) fn dataset() -> Dataset {
    let (train, val, test) = (180, 90, 30);
    let samples = train + val + test;
    let pixel = |sample: usize, p: usize| {
        let template = noise(&format!("template {}", sample % 6), p);
        let value = 128.0 + 70.0 * template + 50.0 * noise(&format!("noise {sample}"), p);
        value.clamp(0.0, 255.0) as u8
    };
    let split = |i: usize| {
        if i < train {
            Split::Train
        } else if i < train + val {
            Split::Val
        } else {
            Split::Test
        }
    };
    Dataset {
        name: "templates".into(),
        classes: ["a", "b", "c"].map(String::from).to_vec(),
        channels: 1,
        height: 4,
        width: 4,
        images: (0..samples).flat_map(|s| (0..16).map(move |p| pixel(s, p))).collect(),
        labels: (0..samples).map(|s| (s % 3) as u32).collect(),
        sample_names: (0..samples).map(|s| s.to_string()).collect(),
        splits: (0..samples).map(split).collect(),
        notes: vec![],
    }
}

/// A [`Run`] on [`dataset`] with its events kept.
pub(crate) struct Harness {
    pub data: Arc<Dataset>,
    pub normalise: Normalise,
    pub events: Vec<Event>,
    pub stop: Stop,
    pub checkpoint: Option<Checkpointing>,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Harness::on(dataset())
    }

    pub(crate) fn on(data: Dataset) -> Self {
        let normalise = Normalise::of(&data, Split::Train);
        Harness { data: Arc::new(data), normalise, events: Vec::new(), stop: Stop::never(), checkpoint: None }
    }

    pub(crate) fn with_run<T>(&mut self, body: impl FnOnce(&mut Run) -> T) -> T {
        body(&mut Run {
            data: &self.data,
            normalise: &self.normalise,
            events: &mut self.events,
            stop: &self.stop,
            checkpoint: self.checkpoint.clone(),
        })
    }
}

/// Every value of a graph, as bits.
pub(crate) fn bits(graph: &Graph) -> Vec<u32> {
    graph.initializers().flat_map(|(_, t)| t.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).collect()
}

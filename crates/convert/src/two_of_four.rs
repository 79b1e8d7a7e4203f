//! 2:4 zeros and sparse tensor cores: which layers keep to the pattern, which can, and why the others cannot.
//!
//! TensorRT looks at the dense weights of a layer: at most 2 of every 4 input channels in a row may be non-zero, for each
//! output channel and kernel position. Where that holds it times sparse kernels against dense ones and takes the faster, so
//! nothing here promises that a layer will run sparse.
//!
//! Sources: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378); NVIDIA's TensorRT guide,
//! "Structured Sparsity"; its developers on which layers sparse kernels pay for (more than 256 input and output channels; a
//! 3x3 kernel helps: github.com/NVIDIA/TensorRT issues 3849 and 4065) and on grouped convolutions (not considered: 4054).

use std::fmt;

use sentei_graph::passes::{self, PassError, Rewritten};
use sentei_graph::{BrokenGroup, Graph, Op, Tensor, first_broken_group};

use crate::ConvertError;

/// Non-zeros of a group, and its weights.
const N: usize = 2;
const M: usize = 4;
/// Channels, in and out, from which on TensorRT's developers saw sparse kernels win.
const WIDE: usize = 256;
/// Share of zeros from which on a layer counts as pruned.
const PRUNED: f64 = 0.1;

/// What a layer's weight is to sparse tensor cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoOfFour {
    /// Every group keeps to the pattern.
    Holds {
        /// Input channels, a multiple of 4.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Groups of 4 weights.
        groups: usize,
    },
    /// The layer could have the pattern; this is the first group that breaks it.
    Broken {
        /// The group.
        group: BrokenGroup,
        /// Whether the weight has no zero at all.
        dense: bool,
    },
    /// A convolution with more than one group.
    Grouped {
        /// Its groups.
        groups: usize,
        /// Input channels per filter; 1 is depthwise.
        inputs: usize,
    },
    /// The input channels do not divide into groups of 4.
    Inputs(usize),
    /// An operator that sentei cannot import reads the weight.
    Unknown,
}

impl TwoOfFour {
    /// That of the weight of `op`; `None` when the op has no layer's weight.
    pub(crate) fn of(op: &Op, weight: &Tensor) -> Option<TwoOfFour> {
        let turned;
        let weight = match op {
            Op::Conv(_) | Op::Gemm(_) => weight,
            Op::MatMul(_) if weight.shape.len() == 2 => {
                turned = transposed(weight);
                &turned
            }
            _ => return None,
        };
        let [outputs, inputs, ..] = weight.shape[..] else { return None };
        Some(match op {
            Op::Conv(conv) if conv.groups > 1 => TwoOfFour::Grouped { groups: conv.groups, inputs },
            _ if inputs == 0 || !inputs.is_multiple_of(M) => TwoOfFour::Inputs(inputs),
            _ => match first_broken_group(weight, N, M) {
                Some(group) => TwoOfFour::Broken { group, dense: weight.nonzero() == weight.len() },
                None => TwoOfFour::Holds { inputs, outputs, groups: weight.len() / M },
            },
        })
    }

    /// Whether the pattern holds in whole groups.
    pub fn holds(&self) -> bool {
        matches!(self, TwoOfFour::Holds { .. })
    }

    /// The groups of 4 that keep to the pattern, if all of the layer's do.
    pub fn groups(&self) -> Option<usize> {
        if let TwoOfFour::Holds { groups, .. } = self { Some(*groups) } else { None }
    }

    /// Whether the pattern holds, in fewer channels than sparse kernels usually pay for.
    pub fn is_narrow(&self) -> bool {
        matches!(self, TwoOfFour::Holds { inputs, outputs, .. } if *inputs.min(outputs) < WIDE)
    }

    /// A word or two for a column of a table.
    pub fn short(&self) -> &'static str {
        match self {
            TwoOfFour::Holds { .. } if self.is_narrow() => "holds, narrow",
            TwoOfFour::Holds { .. } => "holds",
            TwoOfFour::Broken { dense: true, .. } => "not pruned",
            TwoOfFour::Broken { .. } => "broken",
            TwoOfFour::Grouped { inputs: 1, .. } => "depthwise",
            TwoOfFour::Grouped { .. } => "grouped",
            TwoOfFour::Inputs(_) => "inputs",
            TwoOfFour::Unknown => "unknown",
        }
    }
}

/// What TensorRT can make of the layer, and why.
impl fmt::Display for TwoOfFour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TwoOfFour::Holds { inputs, outputs, .. } if self.is_narrow() => write!(
                f,
                "{inputs} input and {outputs} output channels: TensorRT rarely picks sparse kernels below {WIDE}"
            ),
            TwoOfFour::Holds { .. } => {
                f.write_str("TensorRT times sparse kernels against dense ones and picks the faster")
            }
            TwoOfFour::Broken { dense: true, .. } => f.write_str("not pruned"),
            TwoOfFour::Broken { group, .. } => write!(f, "not 2:4: {group}"),
            TwoOfFour::Grouped { inputs: 1, .. } => {
                f.write_str("depthwise: one input channel per filter, no groups of 4")
            }
            TwoOfFour::Grouped { groups, .. } => {
                write!(f, "{groups} groups: TensorRT does not consider sparse kernels for grouped convolutions")
            }
            TwoOfFour::Inputs(inputs) => write!(f, "input channels: {inputs}, no multiple of 4"),
            TwoOfFour::Unknown => f.write_str("an operator reads it that sentei cannot import"),
        }
    }
}

/// A layer of a graph and its pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPattern {
    /// Name of the layer's output.
    pub layer: String,
    /// Name of its weight.
    pub weight: String,
    /// The pattern.
    pub pattern: TwoOfFour,
    /// Whether at least a tenth of the weight is zero.
    pub pruned: bool,
}

/// The convolutions and linear layers of a graph, in order.
pub fn two_of_four(graph: &Graph) -> Vec<LayerPattern> {
    let layer = |(_, node): (_, &sentei_graph::Node)| {
        let id = *node.inputs.get(1)?;
        let tensor = graph.initializer(id)?;
        let zeros = tensor.len() - tensor.nonzero();
        Some(LayerPattern {
            layer: graph.name(node.output).to_string(),
            weight: graph.name(id).to_string(),
            pattern: TwoOfFour::of(&node.op, tensor)?,
            pruned: zeros as f64 >= PRUNED * tensor.len() as f64,
        })
    };
    graph.nodes().filter_map(layer).collect()
}

/// Whether a file may call itself 2:4: a layer keeps to it, and none that could is pruned in another way.
pub(crate) fn is_two_of_four(graph: &Graph) -> bool {
    let layers = two_of_four(graph);
    let otherwise = |l: &LayerPattern| l.pruned && matches!(l.pattern, TwoOfFour::Broken { .. });
    layers.iter().any(|l| l.pruned && l.pattern.holds()) && !layers.iter().any(otherwise)
}

/// Which layers keep to 2:4, and why the others do not, in a few lines for a person; layers with the same reason together.
pub fn explain(layers: &[LayerPattern]) -> Vec<String> {
    let holding = layers.iter().filter(|l| l.pattern.holds()).count();
    let mut lines = vec![format!("2:4 holds in {holding} of {} layers", layers.len())];
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for layer in layers {
        let why = match layer.pattern {
            TwoOfFour::Holds { .. } if layer.pattern.is_narrow() => {
                format!("holds, but TensorRT rarely picks sparse kernels below {WIDE} input and output channels")
            }
            TwoOfFour::Holds { .. } => format!("holds: {}", layer.pattern),
            _ => format!("runs dense: {}", layer.pattern),
        };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(&layer.layer),
            None => reasons.push((why, vec![&layer.layer])),
        }
    }
    lines.extend(reasons.into_iter().map(|(why, names)| format!("  {why}: {}", some(&names))));
    lines
}

/// The first few names, and how many more there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The deployment passes, without removing channels where that would tear groups of 4 that keep to the pattern.
///
/// Input channels that go let all later ones move up, into other groups. Also says whether channels stay for that reason.
pub(crate) fn deploy_in_whole_groups(graph: &Graph) -> Result<(Rewritten, bool), PassError> {
    let rewritten = passes::for_deployment(graph.clone())?;
    match check_kept(graph, &rewritten.graph) {
        Ok(()) => Ok((rewritten, false)),
        Err(_) => Ok((passes::for_deployment_with_all_channels(graph.clone())?, true)),
    }
}

/// Whether every layer that keeps to 2:4 in `before` does so in `after`; a layer that is gone has nothing to lose.
///
/// # Errors
/// [`ConvertError::Pattern`] about the first layer that does not, and its first broken group.
pub fn check_kept(before: &Graph, after: &Graph) -> Result<(), ConvertError> {
    // Passes give a weight that they replace the same name, give or take a prime.
    let stem = |name: &str| name.trim_end_matches('\'').to_string();
    let mut left: Vec<LayerPattern> = two_of_four(after);
    for layer in two_of_four(before) {
        let Some(at) = left.iter().position(|l| stem(&l.weight) == stem(&layer.weight)) else { continue };
        let now = left.remove(at);
        if layer.pattern.holds() && !now.pattern.holds() {
            let (layer, weight, why) = (now.layer, now.weight, now.pattern.to_string());
            return Err(ConvertError::Pattern { layer, weight, why });
        }
    }
    Ok(())
}

fn transposed(matrix: &Tensor) -> Tensor {
    let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
    let at = |i: usize| matrix.data[i % rows * columns + i / rows];
    Tensor::new([columns, rows], (0..matrix.len()).map(at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: &str = "x = input f32[1,3,6,6]
        a = Conv(x, stem[8,3,3,3]) pad=1
        b = Conv(a, dw[8,1,3,3]) groups=8 pad=1
        c = Conv(b, grouped[8,4,1,1]) groups=2
        d = Conv(c, wide[6,8,1,1])
        f = Flatten(d)
        y = Gemm(f, broken[8,216], bias[8])
        z = MatMul(y, turned[8,2])";

    /// Keeps the elements that `kept` says of one weight.
    fn prune(graph: &mut Graph, name: &str, kept: impl Fn(usize) -> bool) {
        let id = graph.value(name).unwrap();
        let mut tensor = graph.initializer(id).unwrap().clone();
        tensor.data.iter_mut().enumerate().filter(|(i, _)| !kept(*i)).for_each(|(_, v)| *v = 0.0);
        graph.set_initializer(id, tensor);
    }

    #[test]
    fn every_layer_is_told_why() {
        let mut graph = Graph::parse(NET).unwrap();
        prune(&mut graph, "wide", |i| i % 4 < 2);
        // [in 8, out 2]: a group runs down a column, over the elements o, o + 2, o + 4, o + 6.
        prune(&mut graph, "turned", |i| i / 2 % 2 == 0);
        prune(&mut graph, "broken", |i| i % 4 < 2 || i == 7);
        let found: Vec<String> = two_of_four(&graph).iter().map(|l| format!("{}: {}", l.weight, l.pattern)).collect();
        assert_eq!(
            found,
            [
                "stem: input channels: 3, no multiple of 4",
                "dw: depthwise: one input channel per filter, no groups of 4",
                "grouped: 2 groups: TensorRT does not consider sparse kernels for grouped convolutions",
                "wide: 8 input and 6 output channels: TensorRT rarely picks sparse kernels below 256",
                "broken: not 2:4: output channel 0, input channels 4 to 7: 3 of 4 weights are not zero, 2 may be",
                "turned: 8 input and 2 output channels: TensorRT rarely picks sparse kernels below 256",
            ]
        );
        let lines = explain(&two_of_four(&graph));
        assert_eq!(lines[0], "2:4 holds in 2 of 6 layers");
        assert!(lines.iter().any(|l| l.contains("rarely") && l.ends_with(": d, z")), "{lines:?}");
        let big = Graph::parse("x = input f32[1,256]\ny = Gemm(x, w[256,256])").unwrap();
        let mut wide = big.clone();
        prune(&mut wide, "w", |i| i % 4 < 2);
        assert_eq!(two_of_four(&big)[0].pattern.short(), "not pruned");
        assert_eq!(two_of_four(&wide)[0].pattern.short(), "holds");
    }

    #[test]
    fn a_file_is_two_of_four_when_a_layer_is_and_none_is_pruned_otherwise() {
        let mut graph = Graph::parse("x = input f32[1,8]\ny = Gemm(x, u[8,8])\nz = Gemm(y, v[4,8])").unwrap();
        assert!(!is_two_of_four(&graph), "dense");
        prune(&mut graph, "u", |i| i % 4 < 2);
        assert!(is_two_of_four(&graph), "the other layer was left dense");
        prune(&mut graph, "v", |i| i % 8 < 4);
        assert!(!is_two_of_four(&graph), "the other layer is half empty, in another way");
    }

    #[test]
    fn channels_stay_where_removing_one_would_tear_a_group() {
        let text = "x = input f32[1,8]\na = Gemm(x, u[8,8], p[8])\nr = Relu(a)\ny = Gemm(r, v[4,8], q[4])";
        let mut graph = Graph::parse(text).unwrap();
        prune(&mut graph, "u", |i| i % 4 < 2);
        // Half of the channels are read by nobody. Without them 2 to 5 would be one full group.
        prune(&mut graph, "v", |i| [2, 3, 4, 5].contains(&(i % 8)));
        let shrunk = passes::for_deployment(graph.clone()).unwrap().graph;
        let error = check_kept(&graph, &shrunk).unwrap_err();
        assert!(
            error.is_mismatch() && error.to_string().contains("`v") && error.to_string().contains("`y`"),
            "{error}"
        );
        let (whole, stayed) = deploy_in_whole_groups(&graph).unwrap();
        check_kept(&graph, &whole.graph).unwrap();
        assert!(stayed && whole.steps.iter().all(|s| s.pass != "drop_dead_channels"));
        // Where the channels of a whole group are dead, the others keep their company, and the dead ones go.
        let mut graph = Graph::parse(text).unwrap();
        prune(&mut graph, "v", |i| if i / 8 % 2 == 0 { [4, 5] } else { [6, 7] }.contains(&(i % 8)));
        let (small, stayed) = deploy_in_whole_groups(&graph).unwrap();
        assert!(!stayed && small.steps.iter().any(|s| s.pass == "drop_dead_channels"), "{:?}", small.steps);
        assert_eq!(small.graph.facts().unwrap()[&small.graph.value("r").unwrap()].shape, [1, 4]);
    }
}

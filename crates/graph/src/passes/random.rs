//! Random small graphs, half of their weights pruned, through every pass.

use proptest::prelude::*;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::testing::{assert_same_numbers, feeds};
use super::{DropDeadChannels, apply, for_deployment, for_training};
use crate::{Graph, Role, Tensor};

/// One drawn graph as text, grown line by line.
struct Growth {
    draws: ChaCha8Rng,
    text: String,
    values: Vec<(String, [usize; 4])>,
    named: usize,
}

impl Growth {
    fn fresh(&mut self) -> String {
        self.named += 1;
        format!("v{}", self.named)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.draws).expect("there is something to choose from").clone()
    }

    fn line(&mut self, shape: [usize; 4], what: impl Fn(&str) -> String) -> String {
        let name = self.fresh();
        self.text += &format!("{name} = {}\n", what(&name));
        self.values.push((name.clone(), shape));
        name
    }

    fn grow(&mut self) {
        let recent = self.values.len().saturating_sub(3);
        let recent = self.values[recent..].to_vec();
        let (x, [n, c, h, w]) = self.pick(&recent);
        let bias = |name: &str, o: usize, yes: bool| if yes { format!(", {name}.b[{o}]") } else { String::new() };
        match self.draws.random_range(0..13) {
            0..=2 => {
                let (o, pad) = (self.draws.random_range(1..5), self.draws.random_range(0..2));
                let (kernel, biased) =
                    (if h.min(w) + 2 * pad >= 2 { self.pick(&[1, 2]) } else { 1 }, self.draws.random());
                let (oh, ow) = (h + 2 * pad + 1 - kernel, w + 2 * pad + 1 - kernel);
                self.line([n, o, oh, ow], |v| {
                    format!("Conv({x}, {v}.w[{o},{c},{kernel},{kernel}]{}) pad={pad}", bias(v, o, biased))
                });
            }
            3 => {
                let (times, pad, biased) = (self.pick(&[1, 2]), self.pick(&[0, 1]), self.draws.random());
                let o = c * times;
                let (oh, ow) = (h + 2 * pad, w + 2 * pad);
                self.line([n, o, oh, ow], |v| {
                    format!("Conv({x}, {v}.w[{o},1,1,1]{}) groups={c} pad={pad}", bias(v, o, biased))
                });
            }
            4 | 5 => {
                self.line([n, c, h, w], |v| format!("BatchNorm({x}, {v}.g[{c}], {v}.s[{c}], {v}.m[{c}], {v}.q[{c}])"));
            }
            6 => {
                let op = self.pick(&["Relu", "HardSwish", "Silu", "Sigmoid", "LeakyRelu", "Identity", "Dropout"]);
                self.line([n, c, h, w], |_| format!("{op}({x})"));
            }
            7 => {
                let gate = self.line([n, c, h, w], |_| format!("Sigmoid({x})"));
                self.line([n, c, h, w], |_| format!("Mul({gate}, {x})"));
            }
            8 => {
                let op = self.pick(&["MaxPool", "AveragePool"]);
                let more = if op == "AveragePool" { self.pick(&["", " count_include_pad=true"]) } else { "" };
                self.line([n, c, h + 1, w + 1], |_| format!("{op}({x}) kernel=2 pad=1{more}"));
            }
            9 => {
                self.line([n, c, h + 1, w], |_| format!("Pad({x}) amounts=0:0,0:0,0:1,0:0"));
            }
            10 => {
                let op = self.pick(&["Add", "Mul"]);
                let shape = self.pick(&[format!("[{c},1,1]"), "[1]".into(), format!("[1,{c},1,1]"), format!("[{w}]")]);
                self.line([n, c, h, w], |v| format!("{op}({x}, {v}.k{shape})"));
            }
            11 => {
                let alike: Vec<_> = self.values.iter().filter(|(_, s)| *s == [n, c, h, w]).cloned().collect();
                let (other, _) = self.pick(&alike);
                self.line([n, c, h, w], |_| format!("Add({x}, {other})"));
            }
            _ => {
                let alike: Vec<_> = self.values.iter().filter(|(_, s)| s[2..] == [h, w]).cloned().collect();
                let (other, s) = self.pick(&alike);
                self.line([n, c + s[1], h, w], |_| format!("Concat({x}, {other})"));
            }
        }
    }
}

fn drawn(seed: u64) -> Graph {
    let draws = ChaCha8Rng::seed_from_u64(seed);
    let shape = [2, 2, 2, 3];
    let mut growth =
        Growth { draws, text: "x = input f32[2,2,2,3]\n".into(), values: vec![("x".into(), shape)], named: 0 };
    for _ in 0..growth.draws.random_range(2..12) {
        growth.grow();
    }
    let (last, [_, c, h, w]) = growth.values.last().expect("the input is a value").clone();
    let head = match growth.draws.random_range(0..4) {
        0 => format!("y = Conv({last}, hw[2,{c},1,1], hb[2])"),
        1 => format!("p = GlobalAveragePool({last})\nf = Flatten(p)\ny = Gemm(f, hw[3,{c}])"),
        2 => format!("f = Reshape({last}) shape=0,-1\nm = MatMul(f, hw[{},3])\ny = Add(m, hb[3])", c * h * w),
        _ => {
            format!("f = Flatten({last})\nt = Gemm(f, tw[4,{0}], tb[4])\na = Relu(t)\ny = Gemm(a, hw[2,4])", c * h * w)
        }
    };
    let mut graph = Graph::parse(&format!("{}{head}", growth.text)).unwrap();
    for (id, role) in graph.parameters() {
        let tensor = graph.initializer(id).expect("parameters are initializers").clone();
        graph.set_initializer(id, pruned(tensor, role, &mut growth.draws));
    }
    graph
}

/// Some rows, some columns and half of the rest of a weight become zero; some scales too.
fn pruned(mut tensor: Tensor, role: Role, draws: &mut ChaCha8Rng) -> Tensor {
    let (rows, columns) = (tensor.shape.first().copied().unwrap_or(1), tensor.shape.get(1).copied().unwrap_or(1));
    let run = tensor.len() / rows / columns;
    let dead: Vec<bool> = (0..rows + columns).map(|_| draws.random_bool(0.3)).collect();
    for (i, v) in tensor.data.iter_mut().enumerate() {
        let (o, c) = (i / run / columns, i / run % columns);
        let zero = match role {
            Role::Weight => dead[o] || (columns > 1 && dead[rows + c]) || draws.random_bool(0.3),
            Role::Scale => draws.random_bool(0.1),
            Role::Bias | Role::Shift => draws.random_bool(0.4),
            _ => false,
        };
        if zero {
            *v = 0.0;
        }
    }
    tensor
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_computed_value_has_the_inferred_shape(seed: u64) {
        let graph = drawn(seed);
        let facts = graph.facts().unwrap();
        for (id, tensor) in graph.eval_all(&feeds(&graph, seed)).unwrap() {
            prop_assert_eq!(&facts[&id], &tensor.fact(), "{}", graph.name(id));
            prop_assert_eq!(facts[&id].elements(), Some(tensor.data.len()));
        }
    }

    #[test]
    fn dead_channels_leave_the_numbers_alone_and_stay_gone(seed: u64) {
        let graph = drawn(seed);
        let once = apply(graph.clone(), &[&DropDeadChannels]).unwrap();
        assert_same_numbers(&graph, &once.graph);
        prop_assert_eq!(apply(once.graph, &[&DropDeadChannels]).unwrap().steps, vec![]);
    }

    #[test]
    fn pipelines_leave_the_numbers_alone_and_nothing_to_do(seed: u64) {
        let graph = drawn(seed);
        for pipeline in [for_training, for_deployment] {
            let once = pipeline(graph.clone()).unwrap();
            assert_same_numbers(&graph, &once.graph);
            prop_assert_eq!(pipeline(once.graph).unwrap().steps, vec![]);
        }
    }

    #[test]
    fn text_of_a_rewritten_graph_parses_back(seed: u64) {
        let graph = for_deployment(drawn(seed)).unwrap().graph;
        let text = graph.to_text();
        prop_assert_eq!(Graph::parse(&text).unwrap().to_text(), text);
    }

    #[test]
    fn no_pass_adds_multiply_adds(seed: u64) {
        let graph = drawn(seed);
        let total = |graph: &Graph| graph.macs().unwrap().iter().map(|(_, n)| n).sum::<u64>();
        prop_assert!(total(&for_deployment(graph.clone()).unwrap().graph) <= total(&graph));
    }
}

#[test]
fn drawn_graphs_have_dead_channels_to_find() {
    let found = (0..100).filter(|seed| !apply(drawn(*seed), &[&DropDeadChannels]).unwrap().steps.is_empty()).count();
    assert!(found > 30, "only {found} of 100");
}

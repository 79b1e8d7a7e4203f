//! Dropout while retraining: fewer connections need less of it.

use sentei_graph::{Graph, Op, Role};

use crate::masks::Masks;

/// Drop probability `D_r = D_o * sqrt(kept / original)` for a layer that has lost connections.
///
/// * `original_rate`: drop probability `D_o` of the dense layer, in `[0, 1)`.
/// * `kept`, `original`: connections left and in the beginning.
///
/// Source: Han et al. 2015 (arXiv:1506.02626), section 3.2.
pub fn retraining_rate(original_rate: f32, kept: usize, original: usize) -> f32 {
    if original == 0 { original_rate } else { original_rate * (kept as f64 / original as f64).sqrt() as f32 }
}

/// A dropout node and the layer whose density its rate follows.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutRule {
    /// Name of the dropout node.
    pub node: String,
    /// Its rate in the dense network.
    pub rate: f32,
    /// Weight of the layer that makes what the node drops.
    pub weight: String,
}

impl DropoutRule {
    /// The rate that goes with `masks`; that of the dense network when they do not mask the layer.
    pub fn rate_for(&self, masks: &Masks) -> f32 {
        masks.get(&self.weight).map_or(self.rate, |m| retraining_rate(self.rate, m.kept(), m.len()))
    }
}

/// One rule per dropout node; a dropout that follows no layer with weights, as on the network's input, has none.
pub fn dropout_rules(graph: &Graph) -> Vec<DropoutRule> {
    let mut found = Vec::new();
    for (id, node) in graph.nodes() {
        let Op::Dropout(dropout) = &node.op else { continue };
        let mut at = id;
        while let Some(above) = graph.node(at).inputs.first().and_then(|v| graph.producer(*v)) {
            at = above;
            let maker = graph.node(at);
            let is_weight =
                |(i, v): &(usize, &_)| maker.op.role(*i) == Role::Weight && graph.initializer(**v).is_some();
            if let Some((_, weight)) = maker.inputs.iter().enumerate().find(is_weight) {
                let (node, weight) = (graph.name(node.output).to_string(), graph.name(*weight).to_string());
                found.push(DropoutRule { node, rate: dropout.rate, weight });
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn magnitude_oracle_9_dense_keeps_the_rate_and_empty_drops_nothing() {
        assert_eq!(retraining_rate(0.5, 100, 100), 0.5);
        assert_eq!(retraining_rate(0.5, 0, 100), 0.0);
        assert!((retraining_rate(0.5, 9, 100) - 0.15).abs() < 1e-7);
    }

    #[test]
    fn a_dropout_belongs_to_the_layer_before_it() {
        let rules = dropout_rules(&testing::mlp(&[16, 6, 4], Some(0.5)));
        assert_eq!(rules, [DropoutRule { node: "fc0.drop".into(), rate: 0.5, weight: "fc0.w".into() }]);
        assert_eq!(rules[0].rate_for(&Masks::default()), 0.5);
    }
}

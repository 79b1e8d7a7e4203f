//! Applies passes to a fixed point and checks the graph around every patch.

use super::{Pass, PassError, tidy};
use crate::{Graph, GraphError, NodeId};

/// A graph, and what was done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// The graph after the last patch.
    pub graph: Graph,
    /// Every patch, in order.
    pub steps: Vec<Step>,
}

/// One applied patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name of the pass.
    pub pass: &'static str,
    /// Name of the node it was applied to.
    pub node: String,
    /// What it did beyond that, or nothing.
    pub note: String,
}

/// Applies `passes` in order, again and again, until none of them applies.
///
/// The graph is valid before and after each patch, and its inputs and outputs keep their names and shapes.
///
/// # Errors
/// [`PassError`], with the graph as it was given when that is not valid, else with the pass that is wrong.
pub fn apply(graph: Graph, passes: &[&dyn Pass]) -> Result<Rewritten, PassError> {
    apply_at_most(graph, passes, usize::MAX)
}

/// As [`apply`], but stops after `limit` patches: two limits one apart find the patch that breaks a result.
///
/// # Errors
/// As [`apply`].
pub fn apply_at_most(graph: Graph, passes: &[&dyn Pass], limit: usize) -> Result<Rewritten, PassError> {
    graph.check()?;
    let enough = 100 + 20 * graph.nodes.len();
    let interface = interface_of(&graph)?;
    let mut done = Rewritten { graph: tidy(graph)?, steps: vec![] };
    loop {
        let before = done.steps.len();
        for pass in passes {
            let mut at = 0;
            while at < done.graph.nodes.len() && done.steps.len() < limit {
                let node = NodeId(at as u32);
                let Some(patch) = pass.rewrite(&done.graph, node)? else {
                    at += 1;
                    continue;
                };
                if done.steps.len() >= enough {
                    return Err(PassError::Endless { patches: enough, pass: pass.name() });
                }
                let (pass, name) = (pass.name(), done.graph.name(done.graph.node(node).output).to_string());
                let broke = |source| PassError::Broke { pass, node: name.clone(), source: Box::new(source) };
                let (graph, note) = patch.applied_to(done.graph);
                done.graph = tidy(graph).map_err(broke)?;
                done.graph.check().map_err(broke)?;
                let after = interface_of(&done.graph).map_err(broke)?;
                if after != interface {
                    return Err(PassError::Interface { pass, node: name, before: interface, after });
                }
                done.steps.push(Step { pass, node: name, note });
            }
        }
        if done.steps.len() == before {
            return Ok(done);
        }
    }
}

/// Names and shapes of inputs and outputs, for comparison and messages.
fn interface_of(graph: &Graph) -> Result<String, GraphError> {
    let facts = graph.facts()?;
    let named = |id| format!("{} {}", graph.name(id), facts[&id]);
    let inputs: Vec<String> = graph.inputs.iter().map(|(id, _)| named(*id)).collect();
    let outputs: Vec<String> = graph.outputs.iter().map(|id| named(*id)).collect();
    Ok(format!("{} -> {}", inputs.join(", "), outputs.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Flatten, Op, Relu, Sigmoid};
    use crate::passes::{DropIdentity, Patch};

    /// Replaces every op that `from` names.
    struct Swap(&'static str, Op);

    impl Pass for Swap {
        fn name(&self) -> &'static str {
            "swap"
        }

        fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
            let mut patch = Patch::new(graph);
            patch.replace(node, self.1.clone(), &graph.node(node).inputs);
            Ok((graph.op(node).name() == self.0).then_some(patch))
        }
    }

    fn chain() -> Graph {
        Graph::parse("x = input f32[1,2,3]\na = Identity(x)\nb = Identity(a)\nc = Identity(b)\ny = Relu(c)").unwrap()
    }

    #[test]
    fn a_limit_stops_after_that_many_patches() {
        let all = apply(chain(), &[&DropIdentity { keep_dropout: false }]).unwrap();
        assert_eq!((all.steps.len(), all.graph.nodes.len()), (3, 1));
        let two = apply_at_most(chain(), &[&DropIdentity { keep_dropout: false }], 2).unwrap();
        assert_eq!((two.steps.len(), two.graph.nodes.len()), (2, 2));
    }

    #[test]
    fn passes_that_undo_each_other_are_an_error() {
        let (there, back) = (Swap("Relu", Sigmoid.into()), Swap("Sigmoid", Relu.into()));
        assert!(matches!(apply(chain(), &[&there, &back]), Err(PassError::Endless { .. })));
    }

    #[test]
    fn a_patch_that_changes_an_output_shape_is_refused() {
        let error = apply(chain(), &[&Swap("Relu", Flatten { axis: 1 }.into())]).unwrap_err();
        let message = "pass swap at `y` changed the graph's inputs or outputs from \
            x f32[1,2,3] -> y f32[1,2,3] to x f32[1,2,3] -> y f32[1,6]";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_patch_that_breaks_the_graph_is_named() {
        let error = apply(chain(), &[&Swap("Identity", Flatten { axis: 9 }.into())]).unwrap_err();
        assert!(error.to_string().starts_with("pass swap at `a` left an invalid graph"), "{error}");
    }
}

//! Rewrites as values: a pass looks and returns a [`Patch`], one driver applies it and checks the graph.

mod affine;
mod dead_channels;
mod driver;
mod drop_identity;
mod fold_batch_norm;
mod fold_constants;
mod fuse_bias;
mod fuse_pad;
mod fuse_scale;
mod fuse_silu;
mod matmul_to_gemm;
mod patch;
#[cfg(test)]
mod random;
mod remove_blocks;
#[cfg(test)]
mod testing;
mod tidy;

pub use dead_channels::{DropDeadChannels, needed_channels};
pub use driver::{Rewritten, Step, apply, apply_at_most};
pub use drop_identity::DropIdentity;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_constants::FoldConstants;
pub use fuse_bias::FuseBias;
pub use fuse_pad::FusePad;
pub use fuse_scale::FuseScale;
pub use fuse_silu::FuseSilu;
pub use matmul_to_gemm::MatMulToGemm;
pub use patch::Patch;
pub use remove_blocks::{BlockError, RemoveBlocks, remove_blocks};
pub use tidy::tidy;

use crate::{Graph, GraphError, NodeId};

/// One rewrite.
pub trait Pass {
    /// Name in reports and errors.
    fn name(&self) -> &'static str;

    /// The patch for `node`, or `None` where the rewrite does not apply.
    ///
    /// # Errors
    /// [`PassError`] when the graph is not valid; never because the rewrite does not apply.
    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError>;
}

/// Why a graph could not be rewritten.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PassError {
    /// The graph is not valid to begin with.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A patch left a graph that is not valid: a bug of the pass.
    #[error("pass {pass} at `{node}` left an invalid graph: {source}")]
    Broke {
        /// Name of the pass.
        pass: &'static str,
        /// Name of the node it was applied to.
        node: String,
        /// What is wrong with the graph.
        source: Box<GraphError>,
    },
    /// A patch changed the name or shape of an input or output: a bug of the pass.
    #[error("pass {pass} at `{node}` changed the graph's inputs or outputs from {before} to {after}")]
    Interface {
        /// Name of the pass.
        pass: &'static str,
        /// Name of the node it was applied to.
        node: String,
        /// Inputs and outputs before.
        before: String,
        /// Inputs and outputs after.
        after: String,
    },
    /// The passes undo each other.
    #[error("no fixed point after {patches} patches; pass {pass} still applies")]
    Endless {
        /// Number of patches applied.
        patches: usize,
        /// The pass that applied last.
        pass: &'static str,
    },
}

/// What trains the same and reads simpler: no-ops (but not dropout) dropped, constants folded, biases and SiLU fused.
///
/// # Errors
/// As [`apply`].
pub fn for_training(graph: Graph) -> Result<Rewritten, PassError> {
    apply(graph, &[&DropIdentity { keep_dropout: true }, &FoldConstants, &FuseBias, &MatMulToGemm, &FuseSilu])
}

/// What computes the same with the least work: every pass, dead channels first.
///
/// # Errors
/// As [`apply`].
pub fn for_deployment(graph: Graph) -> Result<Rewritten, PassError> {
    apply(graph, &DEPLOYMENT)
}

/// As [`for_deployment`], but dead channels stay: every weight keeps its shape, and its zeros their places.
///
/// # Errors
/// As [`apply`].
pub fn for_deployment_with_all_channels(graph: Graph) -> Result<Rewritten, PassError> {
    apply(graph, &DEPLOYMENT[1..])
}

const DEPLOYMENT: [&dyn Pass; 9] = [
    &DropDeadChannels,
    &DropIdentity { keep_dropout: false },
    &FoldConstants,
    &MatMulToGemm,
    &FoldBatchNorm,
    &FuseBias,
    &FuseScale,
    &FusePad,
    &FuseSilu,
];

#[cfg(test)]
mod tests {
    use super::*;

    const NET: &str = "x = input f32[1,2,5,5]
        p = Pad(x) amounts=0:0,0:0,1:1,1:1
        a = Conv(p, w[4,2,3,3])
        n = BatchNorm(a, g[4], s[4], m[4], v[4])
        i = Identity(n)
        sig = Sigmoid(i)
        act = Mul(i, sig)
        f = Flatten(act)
        d = Dropout(f) rate=0.2
        h = MatMul(d, u[100,3])
        y = Add(h, c[3])";

    #[test]
    fn training_keeps_what_trains_and_drops_the_rest() {
        let rewritten = for_training(Graph::parse(NET).unwrap()).unwrap();
        let expected = "x = input f32[1,2,5,5]
            p = Pad(x) amounts=0:0,0:0,1:1,1:1
            a = Conv(p, w[4,2,3,3])
            n = BatchNorm(a, g[4], s[4], m[4], v[4])
            act = Silu(n)
            f = Flatten(act)
            d = Dropout(f) rate=0.2
            y = Gemm(d, u'[3,100], c[3])";
        testing::assert_same_text(&rewritten.graph, expected);
        testing::assert_same_numbers(&Graph::parse(NET).unwrap(), &rewritten.graph);
    }

    #[test]
    fn deployment_leaves_one_op_per_layer_and_says_what_it_did() {
        let rewritten = for_deployment(Graph::parse(NET).unwrap()).unwrap();
        let expected = "x = input f32[1,2,5,5]
            n = Conv(x, w'[4,2,3,3], n.bias[4]) pad=1
            act = Silu(n)
            f = Flatten(act)
            y = Gemm(f, u'[3,100], c[3])";
        testing::assert_same_text(&rewritten.graph, expected);
        testing::assert_same_numbers(&Graph::parse(NET).unwrap(), &rewritten.graph);
        let done: Vec<&str> = rewritten.steps.iter().map(|s| s.pass).collect();
        for pass in ["drop_identity", "matmul_to_gemm", "fold_batch_norm", "fuse_bias", "fuse_pad", "fuse_silu"] {
            assert!(done.contains(&pass), "{pass} is missing from {done:?}");
        }
    }
}

//! Zero padding moves into the convolution or average pool that reads it.

use super::{Pass, PassError, Patch};
use crate::ops::{Op, Pad};
use crate::{Graph, NodeId};

/// Merges a zero `Pad` of the spatial axes into a `Conv`, and into an `AveragePool` whose divisor then counts it.
pub struct FusePad;

impl Pass for FusePad {
    fn name(&self) -> &'static str {
        "fuse_pad"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let (Op::Conv(_) | Op::AveragePool(_)) = graph.op(node) else { return Ok(None) };
        let inputs = &graph.node(node).inputs;
        let Some(before) = graph.producer(inputs[0]) else { return Ok(None) };
        let Op::Pad(pad) = graph.op(before) else { return Ok(None) };
        let Some(added) = spatial(pad) else { return Ok(None) };
        let Some(op) = widened(graph.op(node), added) else { return Ok(None) };
        let mut moved = inputs.clone();
        moved[0] = graph.node(before).inputs[0];
        let facts = graph.facts()?;
        if op.infer(&moved.iter().map(|id| &facts[id]).collect::<Vec<_>>()).is_err() {
            return Ok(None); // a pool takes no padding as large as its window
        }
        let mut patch = Patch::new(graph);
        patch.replace(node, op, &moved);
        Ok(Some(patch))
    }
}

/// Top, left, bottom, right of a pad that adds zeros to the spatial axes and nothing else.
fn spatial(pad: &Pad) -> Option<[usize; 4]> {
    match pad.amounts[..] {
        [(0, 0), (0, 0), (top, bottom), (left, right)] if pad.value == 0.0 => Some([top, left, bottom, right]),
        _ => None,
    }
}

fn widened(op: &Op, added: [usize; 4]) -> Option<Op> {
    let sum = |pads: [usize; 4]| {
        let mut sums = [0; 4];
        for i in 0..4 {
            sums[i] = pads[i].checked_add(added[i])?;
        }
        Some(sums)
    };
    match op {
        Op::Conv(conv) => {
            let mut conv = conv.clone();
            conv.pads = sum(conv.pads)?;
            Some(conv.into())
        }
        // The zeros of a Pad count in the divisor; those of the pool itself must do so too to be one padding.
        Op::AveragePool(pool) if pool.count_include_pad || pool.pads == [0; 4] => {
            let mut pool = pool.clone();
            pool.pads = sum(pool.pads)?;
            pool.count_include_pad = true;
            Some(pool.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn a_conv_takes_uneven_padding_on_top_of_its_own() {
        check(
            FusePad,
            "x = input f32[1,2,4,4]
             p = Pad(x) amounts=0:0,0:0,0:1,2:0
             y = Conv(p, w[3,2,3,3]) pad=1 stride=2",
            "x = input f32[1,2,4,4]
             y = Conv(x, w[3,2,3,3]) pad=1,3,2,1 stride=2",
        );
    }

    #[test]
    fn an_average_pool_counts_the_padding_it_takes() {
        check(
            FusePad,
            "x = input f32[1,2,4,4]
             p = Pad(x) amounts=0:0,0:0,1:0,1:0
             y = AveragePool(p) kernel=2",
            "x = input f32[1,2,4,4]
             y = AveragePool(x) kernel=2 pad=1,1,0,0 count_include_pad=true",
        );
    }

    #[test]
    fn padding_that_would_not_be_exact_stays() {
        let stays = |pad: &str, op: &str| {
            check_unchanged(FusePad, &format!("x = input f32[1,2,4,4]\np = Pad(x) amounts={pad}\ny = {op}"));
        };
        stays("0:0,0:0,1:1,1:1 value=1", "Conv(p, w[3,2,3,3])");
        stays("0:0,0:1,1:1,1:1", "Conv(p, w[3,3,3,3])");
        stays("0:0,0:0,1:1,1:1", "AveragePool(p) kernel=2 pad=1");
        stays("0:0,0:0,2:2,2:2", "AveragePool(p) kernel=2");
        stays("0:0,0:0,1:1,1:1", "MaxPool(p) kernel=2");
    }
}

//! The layers of a step, one file per kind.

mod same;

use std::collections::HashMap;

use candle_core::Result;
use sentei_graph::{Op, ValueId};
use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::Lanes;

use super::bridge::Bridge;
use super::layer::Layer;
use super::plan::Part;
use crate::Net;

/// The layer that computes `part`.
///
/// * `shapes`: of all maps so far and of the output, batch included.
pub(super) fn layer(
    net: &Net,
    part: &Part,
    shapes: &HashMap<ValueId, Vec<usize>>,
    (isa, lanes): (Isa, Lanes),
) -> Result<Box<dyn Layer>> {
    let planned = &net.plan()[part.position];
    let _ = (isa, lanes);
    match &planned.node.op {
        Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) => Ok(Box::new(same::Same)),
        _ => {
            let node = (planned.id, part.position as u64, &planned.node);
            Ok(Box::new(Bridge::new(net, node, |value| shapes.get(&value).cloned())?))
        }
    }
}

/// `to += more`.
pub(super) fn add_assign(_: &Team, _: Lanes, more: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

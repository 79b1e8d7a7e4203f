//! Values of tract's typed graph that depend on constants only.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;

/// Casts, added axes and scalings between a constant and its reader, at most.
const MAX_CONSTANT_DEPTH: usize = 8;

/// The value of an outlet that depends on constants only.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    constant_below(model, outlet, MAX_CONSTANT_DEPTH)
}

fn constant_below(model: &TypedModel, outlet: OutletId, depth: usize) -> Option<Arc<Tensor>> {
    let fact = model.outlet_fact(outlet).ok()?;
    if let Some(value) = &fact.konst {
        return Some(Arc::clone(value));
    }
    let node = model.node(outlet.node);
    if depth == 0 || node.inputs.is_empty() {
        return None;
    }
    let inputs: Option<TVec<TValue>> =
        node.inputs.iter().map(|input| constant_below(model, *input, depth - 1).map(IntoTValue::into_tvalue)).collect();
    let outputs = node.op.eval_out_of_plan(inputs?).ok()??;
    Some(outputs.into_iter().nth(outlet.slot)?.into_arc_tensor())
}

pub(super) fn constant_f32(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    let tensor = constant(model, outlet)?;
    if tensor.datum_type() != f32::datum_type() {
        return None;
    }
    Some(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
}

/// Whether a constant adds the same numbers to every sample of a `[batch, rows]` result.
pub(super) fn per_column(model: &TypedModel, outlet: OutletId, rows: usize) -> bool {
    let shape = model.outlet_fact(outlet).ok().and_then(|fact| fact.shape.as_concrete().map(<[usize]>::to_vec));
    shape.is_some_and(|shape| match shape[..] {
        [] => true,
        [.., last] => (last == rows || last == 1) && shape.iter().product::<usize>() == last,
    })
}

pub(super) fn is_bin<M: tract_onnx::tract_core::ops::binary::BinMiniOp>(node: &TypedNode) -> bool {
    node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<M>())
}

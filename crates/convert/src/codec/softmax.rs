//! `Softmax`: before opset 13 it flattens from `axis` (default 1) on, since then it works along `axis` (default -1).

use sentei_graph::Node;
use sentei_graph::ops::Softmax;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let shape = into.shape(x);
    let flattens = call.opset < 13;
    let axis = call.axis(call.int("axis").unwrap_or(if flattens { 1 } else { -1 }), shape.len())?;
    if flattens && shape[axis + 1..].iter().any(|d| *d != 1) {
        let found = format!("{axis} of {shape:?}");
        return Err(call.refuse("attribute `axis`", "the last axis longer than 1 (opset below 13)", found));
    }
    into.emit(call, Softmax { axis }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Softmax, to: &mut Exporter, node: &Node) {
    to.node("Softmax", node, vec![AttributeProto::int("axis", op.axis as i64)]);
}

//! Silu is written as `Sigmoid` and `Mul`; `Swish` (opset 24) with `alpha` 1 is read.

use sentei_graph::Node;
use sentei_graph::ops::Silu;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let alpha = call.float("alpha").unwrap_or(1.0);
    if alpha != 1.0 {
        return Err(call.refuse("attribute `alpha`", "1", alpha));
    }
    let x = into.value(call, 0)?;
    into.emit(call, Silu, &[x])?;
    Ok(())
}

pub(super) fn export(_op: &Silu, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let gate = to.fresh(&format!("{y}.sigmoid"));
    to.push("Sigmoid", &[&x], &gate, vec![]);
    to.push("Mul", &[&x, &gate], &y, vec![]);
}

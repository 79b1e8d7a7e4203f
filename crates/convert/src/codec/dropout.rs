//! `Dropout`: the ratio is an attribute before opset 12 and an input since.

use sentei_graph::Node;
use sentei_graph::ops::Dropout;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let given = if call.opset < 12 { call.float("ratio") } else { into.scalar(call, 1)? };
    let rate = given.unwrap_or(0.5);
    if !(0.0..1.0).contains(&rate) {
        return Err(call.refuse("ratio", "in [0, 1)", rate));
    }
    into.emit(call, Dropout { rate }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Dropout, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let ratio = to.scalar(op.rate);
    to.push("Dropout", &[&x, &ratio], &y, vec![]);
}

//! `Concat`.

use sentei_graph::Node;
use sentei_graph::ops::Concat;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let inputs = (0..call.node.input.len()).map(|i| into.value(call, i)).collect::<Result<Vec<_>, _>>()?;
    let first = inputs.first().ok_or_else(|| call.refuse("inputs", "at least one", "none"))?;
    let axis = call.axis(call.int("axis").unwrap_or(1), into.shape(*first).len())?;
    into.emit(call, Concat { axis }, &inputs)?;
    Ok(())
}

pub(super) fn export(op: &Concat, to: &mut Exporter, node: &Node) {
    to.node("Concat", node, vec![AttributeProto::int("axis", op.axis as i64)]);
}

//! `Transpose`.

use sentei_graph::Node;
use sentei_graph::ops::Transpose;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::shapes::permutation;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let order = permutation(call, into.shape(x).len())?;
    into.emit(call, Transpose { order }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Transpose, to: &mut Exporter, node: &Node) {
    to.node("Transpose", node, vec![AttributeProto::ints("perm", op.order.iter().copied())]);
}

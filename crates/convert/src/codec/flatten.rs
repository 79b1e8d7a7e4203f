//! `Flatten`.

use sentei_graph::Node;
use sentei_graph::ops::Flatten;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let rank = into.shape(x).len();
    // the axis may be the rank itself
    let axis = call.axis(call.int("axis").unwrap_or(1), rank + 1)?;
    let axis = if call.int("axis").unwrap_or(1) < 0 { axis.saturating_sub(1) } else { axis };
    into.emit(call, Flatten { axis }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Flatten, to: &mut Exporter, node: &Node) {
    to.node("Flatten", node, vec![AttributeProto::int("axis", op.axis as i64)]);
}

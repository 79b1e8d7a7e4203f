//! `LeakyRelu`.

use sentei_graph::Node;
use sentei_graph::ops::LeakyRelu;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    into.emit(call, LeakyRelu { alpha: call.float("alpha").unwrap_or(0.01) }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &LeakyRelu, to: &mut Exporter, node: &Node) {
    to.node("LeakyRelu", node, vec![AttributeProto::float("alpha", op.alpha)]);
}

//! `BatchNormalization` in its inference form.

use sentei_graph::Node;
use sentei_graph::ops::BatchNorm;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    if call.flag("training_mode") {
        return Err(call.refuse("attribute `training_mode`", "0", 1));
    }
    if call.int("spatial").unwrap_or(1) != 1 {
        return Err(call.refuse("attribute `spatial`", "1", 0));
    }
    let inputs = (0..5).map(|i| into.value(call, i)).collect::<Result<Vec<_>, _>>()?;
    let epsilon = call.float("epsilon").unwrap_or(1e-5);
    let momentum = call.float("momentum").unwrap_or(0.9);
    into.emit(call, BatchNorm { epsilon, momentum }, &inputs)?;
    Ok(())
}

pub(super) fn export(op: &BatchNorm, to: &mut Exporter, node: &Node) {
    let attributes = vec![AttributeProto::float("epsilon", op.epsilon), AttributeProto::float("momentum", op.momentum)];
    to.node("BatchNormalization", node, attributes);
}

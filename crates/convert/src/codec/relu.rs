//! `Relu`.

use sentei_graph::Node;
use sentei_graph::ops::Relu;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    into.emit(call, Relu, &[x])?;
    Ok(())
}

pub(super) fn export(_op: &Relu, to: &mut Exporter, node: &Node) {
    to.node("Relu", node, vec![]);
}

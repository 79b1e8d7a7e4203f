//! `Add` with numpy broadcasting.

use sentei_graph::Node;
use sentei_graph::ops::Add;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let (a, b) = (into.value(call, 0)?, into.value(call, 1)?);
    into.emit(call, Add, &[a, b])?;
    Ok(())
}

pub(super) fn export(_op: &Add, to: &mut Exporter, node: &Node) {
    to.node("Add", node, vec![]);
}

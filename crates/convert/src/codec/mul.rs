//! `Mul` with numpy broadcasting.

use sentei_graph::Node;
use sentei_graph::ops::Mul;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let (a, b) = (into.value(call, 0)?, into.value(call, 1)?);
    into.emit(call, Mul, &[a, b])?;
    Ok(())
}

pub(super) fn export(_op: &Mul, to: &mut Exporter, node: &Node) {
    to.node("Mul", node, vec![]);
}

//! `HardSwish`, opset 14 and later; before, see `hard_sigmoid`.

use sentei_graph::Node;
use sentei_graph::ops::HardSwish;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    into.emit(call, HardSwish, &[x])?;
    Ok(())
}

pub(super) fn export(_op: &HardSwish, to: &mut Exporter, node: &Node) {
    to.node("HardSwish", node, vec![]);
}

//! `MaxPool`, 2-D; `ceil_mode` becomes padding at the end, which never wins.

use sentei_graph::Node;
use sentei_graph::ops::MaxPool;

use super::window;
use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let pool = window::pool(call, into.shape(x))?;
    into.emit(call, MaxPool { kernel: pool.kernel, stride: pool.stride, pads: pool.all_pads() }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &MaxPool, to: &mut Exporter, node: &Node) {
    let mut attributes = vec![AttributeProto::ints("kernel_shape", op.kernel)];
    attributes.extend(window::attributes(op.stride, op.pads));
    to.node("MaxPool", node, attributes);
}

//! `AveragePool`, 2-D; `ceil_mode` becomes padding at the end, which does not count in the divisor.

use sentei_graph::Node;
use sentei_graph::ops::AveragePool;

use super::window;
use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let pool = window::pool(call, into.shape(x))?;
    let count_include_pad = call.flag("count_include_pad");
    if count_include_pad && pool.extra != [0, 0] {
        return Err(call.refuse("attribute `ceil_mode`", "0 when padding counts", 1));
    }
    let op = AveragePool { kernel: pool.kernel, stride: pool.stride, pads: pool.all_pads(), count_include_pad };
    into.emit(call, op, &[x])?;
    Ok(())
}

pub(super) fn export(op: &AveragePool, to: &mut Exporter, node: &Node) {
    let mut attributes = vec![AttributeProto::ints("kernel_shape", op.kernel)];
    attributes.extend(window::attributes(op.stride, op.pads));
    if op.count_include_pad {
        attributes.push(AttributeProto::int("count_include_pad", 1));
    }
    to.node("AveragePool", node, attributes);
}

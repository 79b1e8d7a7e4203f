//! `Conv`, 2-D; `auto_pad` becomes pads, a following `Add` of one constant per channel becomes the bias.

use sentei_graph::Node;
use sentei_graph::ops::Conv;

use super::window;
use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let (x, weight) = (into.value(call, 0)?, into.value(call, 1)?);
    let image = window::image(call, into.shape(x))?;
    let [outputs, _, kh, kw] = *into.shape(weight) else {
        return Err(call.refuse("input 1", "a weight [out, in/group, kh, kw]", format!("{:?}", into.shape(weight))));
    };
    if call.ints("kernel_shape").is_some_and(|k| !k.is_empty()) && call.sizes("kernel_shape", 1)? != [kh, kw] {
        return Err(call.refuse("attribute `kernel_shape`", format!("[{kh}, {kw}]"), "another"));
    }
    let stride = call.steps("strides")?;
    let dilation = call.steps("dilations")?;
    let groups = call.int("group").unwrap_or(1);
    let groups = usize::try_from(groups).ok().filter(|g| *g > 0);
    let groups = groups.ok_or_else(|| call.refuse("attribute `group`", "at least 1", call.int("group").unwrap_or(0)))?;
    let pads = window::pads(call, image, [kh, kw], stride, dilation)?;
    let op = Conv { stride, pads, dilation, groups };
    if call.input(2).is_some() {
        let bias = into.value(call, 2)?;
        into.emit(call, op, &[x, weight, bias])?;
    } else if let Some((add, name, bias)) = into.bias_ahead(call, outputs, 4)? {
        let bias = into.initializer(&name, bias)?;
        into.absorb(&add);
        into.emit(&add, op, &[x, weight, bias])?;
    } else {
        into.emit(call, op, &[x, weight])?;
    }
    Ok(())
}

pub(super) fn export(op: &Conv, to: &mut Exporter, node: &Node) {
    let kernel = to.shape(node.inputs[1])[2..].to_vec();
    let mut attributes = vec![AttributeProto::ints("kernel_shape", kernel)];
    attributes.extend(window::attributes(op.stride, op.pads));
    if op.dilation != [1, 1] {
        attributes.push(AttributeProto::ints("dilations", op.dilation));
    }
    if op.groups != 1 {
        attributes.push(AttributeProto::int("group", op.groups as i64));
    }
    to.node("Conv", node, attributes);
}

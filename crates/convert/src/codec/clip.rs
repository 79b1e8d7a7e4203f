//! `Clip`: bounds are attributes before opset 11 and inputs since; ReLU6 is `Clip` from 0 to 6.

use sentei_graph::Node;
use sentei_graph::ops::Clip;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let (min, max) = if call.opset < 11 {
        (call.float("min"), call.float("max"))
    } else {
        (into.scalar(call, 1)?, into.scalar(call, 2)?)
    };
    let (min, max) = (min.unwrap_or(f32::MIN), max.unwrap_or(f32::MAX));
    if min.is_nan() || max.is_nan() || min > max {
        return Err(call.refuse("bounds", "min <= max", format!("{min} and {max}")));
    }
    into.emit(call, Clip { min, max }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Clip, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let (min, max) = (to.scalar(op.min), to.scalar(op.max));
    to.push("Clip", &[&x, &min, &max], &y, vec![]);
}
